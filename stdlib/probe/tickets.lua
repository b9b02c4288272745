-- SPDX-License-Identifier: Apache-2.0
-- Lottery tickets: which of a network's weights are enough, if training starts again from where it was after k steps
-- (Frankle, Carbin 2018, arXiv:1803.03635; Frankle et al. 2020, arXiv:1912.05671). A masked network is the network with
-- its weights multiplied by the mask, so that training never moves what is pruned.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local record = require "probe.record"
  local runs = require "probe.runs"(core)
  local journal = require "probe.journal"(core)
  local progress = require "probe.progress"(core)
  local what = "probe.tickets"
  local short = record.short

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- ---- masks: {name = tensor of 0 and 1}, over the weights that may be pruned ----

  local function prunable(net, theta, ignore)
    local skip = {}
    if ignore ~= nil then
      for _, name in ipairs(theta:only(ignore):names()) do skip[name] = true end
    end
    local names, n = {}, 0
    for _, p in ipairs(net:params()) do
      if not p.buffer and #p.shape > 1 and not skip[p.name] then
        names[#names + 1] = p.name
        n = n + theta:tensor(p.name):numel()
      end
    end
    if #names == 0 then fail "there is nothing to prune: weights are tensors of two dimensions and more" end
    return names, n
  end

  -- The `kept` largest magnitudes of the values (nil: entries that may not stay) over all names together.
  local function largest(names, values, kept)
    local flat, at, out = {}, 1, {}
    for i, name in ipairs(names) do flat[i] = values[name]:flatten() end
    local top = tensor.cat(flat, 1):top_mask { k = kept }:to "f32"
    for i, name in ipairs(names) do
      local n = #flat[i]
      out[name] = top[{ { at, at + n - 1 } }]:reshape(values[name].shape):clone()
      at = at + n
    end
    return out
  end

  -- Magnitudes where the mask stands, -1 where it does not.
  local function magnitudes(names, theta, mask)
    local out = {}
    for _, name in ipairs(names) do
      local t = theta:tensor(name):abs():to "f32"
      out[name] = mask and t * mask[name] + (mask[name] - 1) or t
    end
    return out
  end

  local function masked(theta, mask)
    local values = {}
    for name, m in pairs(mask) do
      local t = theta:tensor(name)
      values[name] = t * m:to(t.dtype)
    end
    return core.with_values(theta, values)
  end

  local function as_model(mask) return model.new(mask, { mass = 0 }) end

  -- The network with masked weights, as train.fit takes functions, and the names that it trains.
  local function masked_net(net, mask)
    return function(theta, x, o)
      local all = {}
      if type(theta) == "table" then
        for name, t in pairs(theta) do all[name] = t end
      else
        for _, p in ipairs(net:params()) do all[p.name] = theta:tensor(p.name) end
      end
      for name, m in pairs(mask) do all[name] = all[name] * m:to(all[name].dtype) end
      return net(all, x, o)
    end
  end

  local function trained_names(net)
    local wanted = {}
    for _, p in ipairs(net:params()) do wanted[p.name] = not p.buffer or nil end
    return function(name) return wanted[name] or false end
  end

  -- Trains the weights that are left from step k on; j, key: where a journal keeps it.
  local function retrain(j, key, net, data, fit, start, mask, k, seeds)
    local theta = runs.fit(j, key, masked_net(net, mask), data, runs.with(fit, { start = masked(start, mask), skip = k,
      seed = seeds, only = trained_names(net) }))
    return masked(theta, mask)
  end

  -- The entries of each tensor in another order: as many are left in each layer.
  local function shuffled(mask, seed)
    local out = {}
    for name, m in pairs(mask) do
      local order = tensor.randperm(m:numel(), (net_of.hash(name) ~ seed * 1000003) & 0x7fffffffffff)
      out[name] = m:flatten()[order]:reshape(m.shape)
    end
    return out
  end

  -- ---- the record ----

  local controls = { random = true, reinit = true }

  local head = { "level", "kind", "left", "data", "loss", "error", "pruned_loss", "barrier_previous", "barrier_dense",
    "instability", "matching" }

  local function table_of(r)
    local rows = {}
    for i, row in ipairs(r.rows) do
      rows[i] = {}
      for k, name in ipairs(head) do rows[i][k] = row[name] == nil and "" or row[name] end
    end
    return head, rows
  end

  local new = record.kind("tickets", {
    text = function(r)
      local _, rows = table_of(r)
      for _, row in ipairs(rows) do
        for k, v in ipairs(row) do row[k] = type(v) == "number" and short(v) or tostring(v) end
      end
      return ("lottery tickets: rewound to step %d of %d, seed %d; %d weights that may be pruned\n%s"):format(r.rewind,
        r.steps, r.seed, r.numel, record.columns(head, rows))
    end,
    rows = table_of,
    plot = function(r, o)
      local lines, by = { title = "lottery tickets", xlabel = "share of weights left", xlog = true }, {}
      for _, row in ipairs(r.rows) do
        local label = row.data .. (controls[row.kind] and ", " .. row.kind or "")
        if not by[label] then
          by[label] = { label, {}, {} }
          lines[#lines + 1] = by[label]
        end
        table.insert(by[label][2], row.left)
        table.insert(by[label][3], row.error or row.loss)
      end
      lines.ylabel = r.rows[1].error and "error" or "loss"
      return plot.line(record.with(lines, o))
    end,
  })

  local function whole(name, v, least, default)
    if v == nil then return default end
    if math.type(v) ~= "integer" or v < least then fail("%s is a whole number, at least %d", name, least) end
    return v
  end

  local function options_of(o)
    local p = { levels = whole("levels", o.levels, 1, 5), share = o.share or 0.2, rewind = whole("rewind", o.rewind, 0,
      0),
      seed = whole("seed", o.seed, 0, 0), children = whole("children", o.children, 0, 0), points = whole("points",
        o.points, 2, 11),
      matching = o.matching or 0.01, controls = o.controls or {}, ignore = o.ignore }
    if type(p.share) ~= "number" or not (p.share > 0 and p.share < 1) then fail "share is above 0 and below 1" end
    if p.children == 1 then fail "one child has none to be compared with; children = 2" end
    for _, c in ipairs(p.controls) do
      if not controls[c] then fail("controls: %s; expected \"random\" or \"reinit\"", tostring(c)) end
    end
    return p
  end

  local function tickets(net, data, options)
    check(what, options, { "levels", "share", "rewind", "ignore", "controls", "children", "on", "points", "bn",
      "matching", "seed", "start", "train", "batch", "journal" })
    expect(what, options, { start = "a model", controls = "a table" })
    if not net_of.is(net) then fail("expected a network, got %s", core.kind(net)) end
    local o = options or {}
    local p = options_of(o)
    local fit, total = runs.options(what, data, o.train)
    if p.rewind >= total then fail("rewind = %d, but the run has %d steps", p.rewind, total) end
    local losses = runs.losses(what, net, o.on or data, o.batch, fit)
    local seeds = { init = p.seed, order = p.seed, augment = p.seed, dropout = p.seed }
    local path = { points = p.points, bn = o.bn }

    local j <close> = journal.open(what, o, { net, data })
    local parent = runs.parent(j, net, data, fit, seeds, o.start)
    local early = parent.model(p.rewind)
    local dense = parent.child(p.rewind, { fresh = true, key = { "dense" } })
    local names, numel = prunable(net, early, p.ignore)
    local r = { rows = {}, models = { [0] = dense }, masks = { [0] = as_model(largest(names, magnitudes(names, dense),
      numel)) },
      rewind = p.rewind, steps = total, seed = p.seed, share = p.share, numel = numel, start = early, controls = {} }

    local best = {}
    local function report(level, kind, theta, left, more)
      for _, l in ipairs(losses) do
        local row = j.once({ "row", level, kind, l.name }, function()
          local f = l.f:report(theta)
          local one = { level = level, kind = kind, left = left, data = l.name, loss = f.loss, error = f.error }
          for name, measure in pairs(more or {}) do one[name] = measure(l.f) end
          return one
        end)
        if kind == "dense" then best[l.name] = row.error end
        if row.error then row.matching = row.error <= best[l.name] + p.matching end
        r.rows[#r.rows + 1] = row
      end
    end
    report(0, "dense", dense, 1.0)

    local function barrier(a, b) return function(f) return probe.barrier(f, a, b, path).barrier_loss end end

    local left, mask = numel, nil
    for level = 1, p.levels do
      left = left - math.ceil(p.share * left)
      if left < 1 then fail("level %d leaves no weight", level) end
      local before = r.models[level - 1]
      mask = largest(names, magnitudes(names, before, mask), left)
      local theta = retrain(j, { "ticket", level }, net, data, fit, early, mask, p.rewind, seeds)
      local pruned, more = masked(before, mask), {}
      more.pruned_loss = function(f) return f:report(pruned).loss end
      more.barrier_previous, more.barrier_dense = barrier(before, theta), barrier(dense, theta)
      if p.children > 0 then
        local child = {}
        for c = 1, p.children do
          child[c] = retrain(j, { "child", level, c }, net, data, fit, early, mask, p.rewind,
            runs.child_seeds(what, p.seed, { "order", "augment", "dropout" }, c))
        end
        more.instability = function(f)
          local sum, n = 0, 0
          for i = 1, #child do
            for k = i + 1, #child do
              local b = probe.barrier(f, child[i], child[k], path)
              sum, n = sum + (b.instability_error or b.barrier_loss), n + 1
            end
          end
          return sum / n
        end
      end
      r.models[level], r.masks[level] = theta, as_model(mask)
      report(level, "ticket", theta, left / numel, more)
      for _, control in ipairs(p.controls) do
        local own, start = mask, early
        if control == "random" then
          own = shuffled(mask, p.seed + level) else start = net:init { seed = p.seed * 10007 + 7919 }
        end
        local other = retrain(j, { control, level }, net, data, fit, start, own,
          control == "random" and p.rewind or 0, seeds)
        r.controls[control] = r.controls[control] or {}
        r.controls[control][level] = other
        report(level, control, other, left / numel)
      end
    end
    return new(r)
  end

  local moons = "local d = data.two_moons { n = 100, seed = 1 }\nlocal net = nn.mlp { 2, 16, 2 }\n"
  local made = moons .. "local r = probe.tickets(net, d, { levels = 2, train = { epochs = 4, batch = 20, lr = 0.05 } "
    .. "})\n"

  define(what, "probe.tickets(net, data, {levels = 5, share = 0.2, rewind = 0, ignore =, controls =, children = 0, on "
    .. "=, points = 11, bn =, matching = 0.01, seed = 0, start =, train = {options of train.fit}, batch = 1000, "
    .. "journal =}) -> record",
    "How few of the weights are enough, if training starts again early? Lottery tickets by iterative magnitude "
    .. "pruning with rewinding (Frankle, Carbin 2018, arXiv:1803.03635; Frankle et al. 2020, arXiv:1912.05671): "
    .. "train; prune the smallest `share` of the weights that are left, over all layers together; set the rest to "
    .. "what they were after `rewind` steps; train from there; again. rows: level, kind (dense, ticket or a "
    .. "control), left (share of the weights), data, loss, error, matching (error within that of the dense "
    .. "network), pruned_loss (before training again: what the mask keeps of the solution before), barrier_previous "
    .. "and barrier_dense (losses between the ticket's solution and those: successive levels stay connected where "
    .. "tickets work, Paul et al. 2022, arXiv:2210.03044), instability. models[level], masks[level] (models of 0 "
    .. "and 1), start (the weights rewound to).\n"
    .. "  ignore: weights that are not pruned, as in m:only; tensors of one dimension never are\n"
    .. "  controls: of {\"random\", \"reinit\"}: as many weights of each layer at random; the mask on other first "
    .. "values\n"
    .. "  children: so many runs of each ticket with other data orders, whose instability is taken (see "
    .. "probe.instability)\n"
    .. "  train, on, bn, journal: as in probe.instability; the optimiser begins anew at the rewinding point\n"
    .. "Reading it: error over the weights left stays flat down to the size that is enough; the controls rise "
    .. "before. Costs a run for each level, control and child. Misleads: small networks on easy data match at any "
    .. "level; compare with the controls, and over seeds.",
    made .. "print(#r.rows, r.rows[2].kind, r.rows[3].left)\n-- > 3\tticket\t0.625", told(tickets))

  -- ---- pools of tickets ----

  local new_pool = record.kind("ticket pool", {
    text = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do
        local used = {}
        for k, u in ipairs(row.used) do used[k] = ("%d (%s)"):format(u[1], short(u[2])) end
        rows[i] = { tostring(row.level), short(row.left), short(row.before), short(row.after), table.concat(used,
          ", ") }
      end
      return "lottery pool, " .. r.by .. "\n"
        .. record.columns({ "level", "left", "before", "after", "taken (share kept)" }, rows)
    end,
    rows = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do rows[i] = { row.level, row.left, row.before, row.after, #row.used } end
      return { "level", "left", "before", "after", "taken" }, rows
    end,
    plot = function(r, o)
      local left, before, after = {}, {}, {}
      for i, row in ipairs(r.rows) do left[i], before[i], after[i] = row.left, row.before, row.after end
      return plot.line(record.with({ x = left, { "ticket", before }, { "pool", after }, title = "lottery pool",
        xlog = true, xlabel = "share of weights left", ylabel = r.by }, o))
    end,
  })

  local function pool(net, r, data, options)
    local name = "probe.ticket_pool"
    check(name, options, { "alphas", "levels", "bn", "batch", "journal" })
    local o = options or {}
    expect.one(name, nil, net, "a network")
    if type(r) ~= "table" or type(rawget(r, "masks")) ~= "table" or type(rawget(r, "models")) ~= "table" then
      error(name .. ": expected what probe.tickets returned", 0)
    end
    expect(name, o, { levels = "a table" })
    local alphas = o.alphas or { 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95 }
    local f = net:loss(data, { batch = o.batch, bn = o.bn })
    local names = r.masks[0]:names()
    local by_error
    local out, wanted = { rows = {}, models = {}, masks = {} }, {}
    for _, level in ipairs(o.levels or {}) do wanted[level] = true end
    local draw <close> = progress(name, nil, "mixtures")
    local j <close> = journal.open(name, o, { net, r.models, r.masks, data }, draw)
    local done = 0
    local function score(key, theta)
      local v = j.once(key, function()
        local report = f:report(theta)
        return { loss = report.loss, error = report.error }
      end)
      by_error, done = v.error ~= nil, done + 1
      draw(done)
      return v.error or v.loss, v.loss
    end
    for level = 0, #r.models do -- the dense network too
      if not o.levels or wanted[level] then
        local theta, mask, used = r.models[level], r.masks[level], {}
        local left = math.tointeger(mask:norm(1))
        local best, best_loss = score({ level }, theta)
        local before = best
        local others = {}
        for k = 0, #r.models do others[#others + 1] = k ~= level and k or nil end
        table.sort(others, function(x, y)
          local dx, dy = math.abs(x - level), math.abs(y - level)
          return dx < dy or dx == dy and x < y
        end)
        for _, k in ipairs(others) do
          local found
          for _, alpha in ipairs(alphas) do
            local mixed = alpha * theta + (1 - alpha) * r.models[k]
            local own = largest(names, magnitudes(names, mixed), left)
            local candidate = masked(mixed, own)
            local v, loss = score({ level, k, alpha }, candidate)
            if v < best or v == best and loss < best_loss then
              best, best_loss, found = v, loss, { candidate, as_model(own), alpha }
            end
          end
          if found then
            theta, mask = found[1], found[2]
            used[#used + 1] = { k, found[3] }
          end
        end
        out.models[level], out.masks[level] = theta, mask
        out.rows[#out.rows + 1] = { level = level, left = left / r.numel, before = before, after = best, used = used }
      end
    end
    out.by = by_error and "error" or "loss"
    return new_pool(out)
  end

  define("probe.ticket_pool", "probe.ticket_pool(net, tickets, data, {alphas = {0.05, 0.1, 0.2, …, 0.9, 0.95}, levels "
    .. "=, bn =, batch = 1000, journal =}) -> record",
    "Do the tickets of one run make each other better? Lottery pools (Yin et al. 2022, arXiv:2208.10842): the "
    .. "tickets of one run, interpolated without more weights. For each level (0 is the dense network) the ticket "
    .. "is mixed with those of the other levels, nearest first: alpha ticket + (1 - alpha) other, of which the "
    .. "largest weights stay, as many as the ticket had; the best alpha by error on data (of equal errors by loss) "
    .. "is kept if it is better than what there was. This is the authors' search with all levels as candidates, "
    .. "checked against their program: order of the levels, coefficients, one threshold over all layers, choice by "
    .. "validation error; theirs takes the first coefficient of equal errors, and new running statistics (bn = "
    .. "data). models and masks by level; rows: level, left, before, after, used (level, alpha).\n"
    .. "Reading it: after below before is what the others gave. Misleads: the choice is made on these data, and "
    .. "after is biased by it; give validation data. Costs a pass for each level, other and alpha.",
    made .. "local pool = probe.ticket_pool(net, r, d)\nprint(#pool.rows, pool.rows[1].after <= pool.rows[1].before)\n"
    .. "-- > 3\ttrue", told(pool))
end
