-- SPDX-License-Identifier: Apache-2.0
-- Curvature along a run: the top eigenvalue against what the step size bears, as a callback of train.fit, and the trace
-- of the Fisher information of checkpoints.
return function(define, check, core, told, whole)
  local record = require "probe.record"
  local operator = require "probe.operator"(core)
  local lanczos = require "probe.lanczos"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)

  -- ---- edge of stability ----

  local edge_record = record.kind("edge", {
    text = function(r)
      local n = #r.step
      if n == 0 then return "edge of stability: no step yet" end
      return ("edge of stability: %d steps; at step %d the top eigenvalue is %.4g, the threshold %.4g (%.3g of it), "
        .. "loss %.4g"):format(n, r.step[n], r.top[n], r.threshold[n], r.top[n] / r.threshold[n], r.loss[n])
    end,
    rows = function(r)
      local rows = {}
      for i, step in ipairs(r.step) do
        rows[i] = { step, r.loss[i], r.rate[i], r.threshold[i], r.top[i], r.residual[i] }
      end
      return { "step", "loss", "rate", "threshold", "top", "residual" }, rows
    end,
    plot = function(r, o)
      local p = { x = r.step, { "top eigenvalue", r.top }, { label = "threshold", y = r.threshold, dash = true },
        xlabel = "step", ylabel = "curvature", title = "edge of stability" }
      for key, v in pairs(o) do p[key] = v end
      return plot.line(p)
    end,
  })

  local function edge(f, o)
    local what = "probe.edge"
    check(what, o, { "every", "momentum", "kind", "only", "tolerance", "products", "journal" })
    o = o or {}
    if core.kind(f) ~= "loss" then
      error(what .. ": expected net:loss(data), got " .. core.kind(f), 0)
    end
    local every, momentum = whole(what, o, "every", 1, 1), o.momentum or 0
    if type(momentum) ~= "number" or not (momentum >= 0 and momentum < 1) then
      error(what .. ": momentum is a number from 0 to below 1", 0)
    end
    local r = { every = every, momentum = momentum, step = {}, loss = {}, rate = {}, threshold = {}, top = {},
      residual = {} }
    local j = journal.open(what, o, { f }, {}) -- what is kept of the run is for the training to say
    local columns = { "step", "loss", "rate", "threshold", "top", "residual" }
    local last -- the eigenvector of the step before is where the next search begins
    local function add(row)
      local i = #r.step + 1
      for _, name in ipairs(columns) do r[name][i] = row[name] end
    end
    for _, key in ipairs(j.keys()) do
      if key[1] ~= "vector" then add(j.kept(key)) end
    end
    function r.watch(info)
      local step = info.step
      if step % every ~= 0 then return end
      local row = j.kept { step }
      if row then -- the run before came this far
        if row.rate ~= info.rate or row.seen ~= info.loss then
          error(("%s: the journal is of another training: step %d had the loss %.9g at the rate %.9g, not %.9g at "
          .. "%.9g")
            :format(what, step, row.seen, row.rate, info.loss, info.rate), 0)
        end
        return
      end
      last = last or j.kept { "vector", r.step[#r.step] }
      local H <close> = f:linearize(info.theta())
      local op = operator.of(what, H, o)
      local found = lanczos.eigenpairs(op, { what = what, top = 1, which = "largest", tolerance = o.tolerance or 1e-3,
        products = o.products or 200, rows = 20, seed = 0, vectors = true, start = last })
      last = found.vectors[1]:clone()
      row = { step = step, loss = H.value, rate = info.rate, threshold = 2 * (1 + momentum) / info.rate,
        top = found.values[1], residual = found.residuals[1], seen = info.loss }
      j.put({ "vector", step }, last)
      j.put({ step }, row)
      j.drop { "vector", r.step[#r.step] }
      add(row)
    end
    return edge_record(r)
  end

  -- ---- Fisher information over time ----

  local trace_record = record.kind("fisher trace", {
    text = function(r)
      local n = #r.trace
      return ("trace of the Fisher information (%s) of %d model%s: %.4g%s"):format(r.kind, n, n == 1 and "" or "s",
        r.trace[1], n > 1 and (" … %.4g"):format(r.trace[n]) or "")
    end,
    rows = function(r)
      local head, rows = { "step", "trace" }, {}
      for _, name in ipairs(r.names) do head[#head + 1] = name end
      for i, v in ipairs(r.trace) do
        rows[i] = { r.step[i], v }
        for _, name in ipairs(r.names) do rows[i][#rows[i] + 1] = r.tensors[name][i] end
      end
      return head, rows
    end,
    plot = function(r, o)
      local p = { x = r.step, { "trace", r.trace }, xlabel = "step", ylabel = "trace of the Fisher information" }
      for key, v in pairs(o) do p[key] = v end
      return plot.line(p)
    end,
  })

  local function fisher_trace(net, models, data, o)
    local what = "probe.fisher_trace"
    check(what, o, { "kind", "seed", "samples", "batch", "steps", "journal" })
    o = o or {}
    local steps = o.steps
    if type(models) == "string" then
      local found
      models, found = model.checkpoints(models)
      steps = steps or found
    elseif core.kind(models) == "model" then
      models = { models }
    end
    if type(models) ~= "table" or #models == 0 then
      error(what .. ": expected a model, a list of models or a folder of checkpoints", 0)
    end
    for i = 1, #models do
      if core.kind(models[i]) ~= "model" then
        error(("%s: model %d is a %s"):format(what, i, core.kind(models[i])), 0)
      end
    end
    local r = { kind = o.kind or "exact", step = {}, trace = {}, tensors = {}, names = {} }
    local draw <close> = progress(what, #models, "models")
    local j <close> = journal.open(what, o, { net, models, data }, draw)
    for i, m in ipairs(models) do
      local sums = j.once({ i }, function()
        local f, list = probe.fisher(net, m, data, { kind = o.kind, seed = o.seed, samples = o.samples,
          batch = o.batch }), {}
        for k, name in ipairs(f:names()) do list[k] = { name, f:tensor(name):to "f64":sum() } end
        return list
      end)
      r.step[i], r.trace[i] = steps and steps[i] or i, 0
      for _, pair in ipairs(sums) do
        local name, sum = table.unpack(pair)
        if i == 1 then r.names[#r.names + 1], r.tensors[name] = name, {} end
        r.tensors[name][i], r.trace[i] = sum, r.trace[i] + sum
      end
      draw(i)
    end
    return trace_record(r)
  end

  define("probe.edge",
    "probe.edge(f, {every = 1, momentum = 0, kind = \"hessian\", only =, tolerance = 1e-3, products = 200, "
    .. "journal =}) -> record",
    "Does training run at the edge of stability? e.watch is a callback of train.fit that notes, every so many "
    .. "steps, the "
    .. "top eigenvalue of f's Hessian beside 2 / lr, above which gradient descent on a quadratic diverges. "
    .. "Full-batch descent "
    .. "sharpens until it stands there, and goes on (Cohen et al. 2021, arXiv:2103.00065). e.step, e.loss, e.rate, "
    .. "e.threshold, e.top, e.residual are lists; e:plot() draws both.\n"
    .. "  f: net:loss(data), the data that descent goes over\n"
    .. "  momentum: of the optimiser; the threshold is then 2 (1 + momentum) / lr\n"
    .. "  kind, only, tolerance, products: as in probe.eigenvalues\n"
    .. "  journal: a file that keeps what is noted: training that was stopped and goes on from its checkpoint or "
    .. "starts again with the same seeds, goes on here too\n"
    .. "Reading it: the top eigenvalue climbs to the threshold and hovers there; far below it the rate is small for "
    .. "this loss.\n"
    .. "Cost: about ten products at each noted step, after the first. Where it misleads: with mini-batches the top "
    .. "eigenvalue stays below; Adam has another threshold, for its preconditioned Hessian, which this is not.",
    "local d = data.two_moons { n = 100, seed = 1 }\nlocal net = nn.mlp { 2, 8, 2 }\nlocal e = "
    .. "probe.edge(net:loss(d), { every = 5 })\n"
    .. "train.fit(net, d, { steps = 20, batch = 100, optimiser = \"sgd\", lr = 0.1, callbacks = { step = e.watch } "
    .. "})\n"
    .. "print(#e.top, e.threshold[1])\n-- > 4\t20.0", told(edge))

  define("probe.fisher_trace",
    "probe.fisher_trace(net, models, data, {kind = \"exact\", seed = 0, samples = 1, batch = 32, steps =, "
    .. "journal =}) "
    .. "-> record",
    "How much do the outputs depend on the parameters, over time? The trace of the Fisher information of each model "
    .. "(r.trace, and "
    .. "r.tensors[name] by tensor), of a list of checkpoints or of those in a folder as model.checkpoints finds "
    .. "them. It rises "
    .. "in the first epochs and falls after: the critical period (Achille, Rovere, Soatto 2017, arXiv:1711.08856). "
    .. "For cross "
    .. "entropy the exact kind is the trace of the Gauss-Newton matrix, without an error of chance.\n"
    .. "  kind, seed, samples, batch, journal: as in probe.fisher\n"
    .. "  steps: numbers for the axis, instead of 1, 2, …\n"
    .. "Reading it: a peak early in training is the critical period; compare models of equal loss. Cost: that of "
    .. "probe.fisher for each model.\n"
    .. "Where it misleads: \"empirical\" takes the labels of the data and falls with the loss.",
    "local net = nn.mlp { 2, 3, 2 }\nlocal d = { x = tensor { {1, 2}, {3, 4} } }\n"
    .. "local r = probe.fisher_trace(net, { net:init { seed = 1 }, net:init { seed = 2 } }, d)\nprint(#r.trace, "
    .. "r.trace[1] > 0)\n"
    .. "-- > 2\ttrue", told(fisher_trace))
end
