-- SPDX-License-Identifier: Apache-2.0
-- Weight disentanglement (Ortiz-Jimenez et al. 2023): does a task vector change what the network says on its own task
-- and nothing elsewhere? Outputs of every single task vector at every coefficient are computed once; the sums of task
-- vectors, one by one.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local record = require "probe.record"
  local grid = require "probe.grid"
  local points = require "probe.points"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local what = "probe.disentanglement"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- Of logits [n, c] of one task vector and of the sum: the mean over rows.
  local distances = {
    label = function(a, b) return a:argmax(-1):ne(b:argmax(-1)):mean() end,
    js = function(a, b)
      local la, lb = a:log_softmax(-1), b:log_softmax(-1)
      local pa, pb = la:exp(), lb:exp()
      local middle = ((pa + pb) / 2):clamp(1e-300):log()
      return (pa * (la - middle) + pb * (lb - middle)):sum(-1):mean() / 2
    end,
    logit = function(a, b) return ((a - b) ^ 2):sum(-1):sqrt():mean() end,
  }

  local function text_of(r)
    if r.matrix then return grid.text(r) end
    local rows = {}
    for i, c in ipairs(r.coefficients) do
      local words = {}
      for k, v in ipairs(c) do words[k] = record.short(v) end
      rows[i] = { table.concat(words, " "), record.short(r.values[i]) }
    end
    return record.columns({ "coefficients", "error" }, rows)
  end

  local new = record.kind("disentanglement", {
    text = function(r)
      return ("weight disentanglement error (%s)%s; %d examples\n%s"):format(r.distance,
        r.matrix and ", down: first task, across: second" or "", r.n, text_of(r))
    end,
    rows = function(r)
      local head, rows = {}, {}
      for k = 1, #r.coefficients[1] do head[k] = "c" .. k end
      for i, c in ipairs(r.coefficients) do
        rows[i] = table.move(c, 1, #c, 1, {})
        rows[i][#c + 1] = r.values[i]
      end
      head[#head + 1] = "error"
      return head, rows
    end,
    plot = function(r, o)
      if not r.matrix then error("disentanglement: there is a picture of a grid of two tasks", 0) end
      return grid.plot(r, o, { title = "weight disentanglement error", xlabel = "second task", ylabel = "first task" })
    end,
  })

  local function coefficients_of(o, tasks)
    if o.coefficients ~= nil then
      if type(o.coefficients) ~= "table" then fail "coefficients is a list of lists" end
      for _, c in ipairs(o.coefficients) do
        if type(c) ~= "table" or #c ~= tasks then fail("each of coefficients is a list of %d numbers", tasks) end
      end
      if #o.coefficients == 0 then fail "coefficients is empty" end
      return o.coefficients
    end
    local axis = o.axis or tasks == 2 and points.evenly(-2, 2, 9) or points.evenly(0, 1, 11)
    if not expect.fits(axis, "a list of numbers") then fail "axis is a list of numbers" end
    local out = {}
    for _, x in ipairs(axis) do
      if tasks == 2 then
        for _, y in ipairs(axis) do out[#out + 1] = { x, y } end
      else
        out[#out + 1] = {}
        for k = 1, tasks do out[#out][k] = x end
      end
    end
    return out, axis
  end

  local function disentanglement(net, models, data, options)
    check(what, options, { "axis", "coefficients", "distance", "bn", "batch", "journal" })
    local o = options or {}
    if not net_of.is(net) and type(net) ~= "function" then fail("expected a network, got %s", core.kind(net)) end
    points.family(what, models)
    if #models == 0 then fail "expected {base = m, a, b, …}" end
    if type(data) ~= "table" or #data ~= #models or core.kind(data[1]) == "tensor" then
      fail("expected a list of data, one for each of the %d models", #models)
    end
    local distance = distances[o.distance or "label"]
    if not distance then fail("distance = %q; expected \"label\", \"js\" or \"logit\"", tostring(o.distance)) end
    if o.bn and not net_of.is(net) then fail "bn needs a network" end
    local base, tau, tasks = models.base:load(), {}, #models
    for k = 1, #models do tau[k] = points.loaded(what, models[k]) - base end
    local list, axis = coefficients_of(o, tasks)

    local run = compile(function(theta, x) return (net(theta, x, { mode = "eval" })) end)
    local chunks = require "nn.loss".chunks_of
    local function outputs(theta, d)
      if o.bn then theta = eval.bn_reset(net, theta, o.bn) end
      local count, chunk = chunks(d, o.batch or 1000)
      local out = {}
      for k = 1, count do out[k] = run(theta, chunk(k).x) end
      if core.kind(out[1]) ~= "tensor" then fail("the network gives a %s, not logits", core.kind(out[1])) end
      local z = count == 1 and out[1] or tensor.cat(out, 1)
      local shape = z.shape
      return z:reshape { -1, shape[#shape] }:to "f64"
    end

    local alone, values, n = {}, {}, 0
    for k = 1, tasks do alone[k] = {} end
    -- The outputs of one task vector, when they are asked for.
    local function outputs_of(k, c)
      if not alone[k][c] then alone[k][c] = outputs(points.sum { { 1, base }, { c, tau[k] } }, data[k]) end
      return alone[k][c]
    end
    local _ <close> = core.run(false)
    local draw <close> = progress(what, #list, "points")
    local j <close> = journal.open(what, o, { net, base, tau, data }, draw)
    for i, c in ipairs(list) do
      local terms, sum, moved = { { 1, base } }, 0, 0
      for k = 1, tasks do
        terms[k + 1] = { c[k], tau[k] }
        moved = moved + (c[k] ~= 0 and 1 or 0)
      end
      local together
      for k, d in ipairs(data) do
        local only = moved == 0 or moved == 1 and c[k] ~= 0 -- then both are the same model
        if not only then
          sum = sum + j.once({ i, k }, function()
            together = together or points.sum(terms)
            return distance(outputs_of(k, c[k]), outputs(together, d))
          end)
        end
      end
      values[i] = sum + 0.0
      draw(i)
    end
    for k = 1, tasks do
      n = n + j.once({ "rows", k }, function() return outputs_of(k, next(alone[k]) or 0).shape[1] end)
    end

    local r = { coefficients = list, values = values, distance = o.distance or "label", n = n, tasks = tasks }
    if axis and tasks == 2 then
      r.rows, r.columns = axis, axis
      r.matrix = tensor(values, { dtype = "f64" }):reshape { #axis, #axis }
    end
    return new(r)
  end

  define(what, "probe.disentanglement(net, {base =, a, b, …}, {data a, data b, …}, {axis =, coefficients =, distance = "
    .. "\"label\", bn =, batch = 1000, journal =}) -> record",
    "Weight disentanglement error (Ortiz-Jimenez et al. 2023, arXiv:2305.12827). Question: can task vectors be added "
    .. "without disturbing one another? xi(c) = the sum over tasks t of the mean over their data of dist(f(x; base "
    .. "+ c_t tau_t), f(x; base + sum_k c_k tau_k)). Low: they can be added there. For two models it is taken on a "
    .. "grid, matrix[i][j] at (axis[i], axis[j]) (default: nine from -2 to 2); for more along equal coefficients (0 "
    .. "to 1), or at any list of coefficients. values are in the order of coefficients.\n"
    .. "  distance: \"label\": the share of other predictions (paper); \"js\": Jensen-Shannon, in nats; \"logit\": "
    .. "the norm of the difference\n"
    .. "  net: may be a function(theta, x), as train.tangent makes, whose task vectors are to be compared\n"
    .. "  bn: data over which running statistics are made anew at each point\n"
    .. "  journal: a file that keeps points as they come; a run that was stopped goes on where it ended\n"
    .. "Costs two passes over both data sets a point of the grid. Misleads: on the axes it is 0 up to the other "
    .. "task's data, and a base that ignores its weights is perfectly disentangled: read it with the accuracy at the "
    .. "coefficients used.",
    "local net = nn.mlp { 3, 8, 2 }\nlocal m, d = {}, {}\n"
    .. "for k = 1, 3 do m[k], d[k] = net:init { seed = k }, { x = tensor.normal({ 30, 3 }, k) } end\n"
    .. "local r = probe.disentanglement(net, { base = m[3], m[1], m[2] }, { d[1], d[2] }, { axis = { 0, 0.5, 1 } })\n"
    .. "print(r.matrix[{ 1, 1 }], r.matrix.shape)\n-- > 0.0\t[3, 3]", told(disentanglement))
end
