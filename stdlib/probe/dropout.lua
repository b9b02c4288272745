-- SPDX-License-Identifier: Apache-2.0
-- Dropout stability, and the path that follows from it (Kuditipudi et al. 2019, arXiv:1906.06247): where half of the
-- units of each layer are enough, the other half is room for another network. The path drops layer after layer, last
-- first: a copy of what lies above, which reads only half of the layer, is written into free units, and the outputs go
-- over to it. Only free weights and the weights of outputs ever move, so that by convexity of the loss in these no
-- point is worse than the dropped networks between them. Layers are groups of align.layout (probe.halves).
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local record = require "probe.record"
  local halves = require "probe.halves"
  local net_of = require "nn.net"
  local descent = require "probe.descent"(check, core)
  local points = require "probe.points"(core)
  local new_curve = require "probe.curves"(check, core)
  local fail, short = descent.fail, record.short

  -- What alignments know of models; made by the module `align`, with its own functions.
  local map = setmetatable({}, { __index = function(_, name)
    local _ = align.groups
    return require "align.map"(core)[name]
  end })

  -- ---- which half ----

  local function union(list)
    local out = {}
    for _, part in ipairs(list) do
      for c, v in pairs(part) do out[c] = v end
    end
    return out
  end

  local function per_class(group, f)
    local out = {}
    for _, c in ipairs(group) do out[c] = f(c) end
    return out
  end

  local function largest(scores, k)
    local order, list = scores:argsort():totable(), {}
    for i = 1, k do list[i] = order[#order + 1 - i] end
    table.sort(list)
    return list
  end

  local function at_random(n, k, seed)
    local order, list = tensor.randperm(n, seed):totable(), {}
    for i = 1, k do list[i] = order[i] end
    table.sort(list)
    return list
  end

  local function given_units(what, plan, keep)
    local by, out = {}, {}
    for c, class in pairs(plan.classes) do by[class.name] = c end
    expect(what, { keep = keep }, { keep = "a table" })
    for name, list in pairs(keep or {}) do
      local c = by[name]
      if not c then fail(what, "keep: no group is called '%s'; print(align.groups(net)) shows them", tostring(name)) end
      local n, seen = plan.classes[c].size, {}
      if type(list) ~= "table" or #list < 1 or #list > n // 2 then
        fail(what, "keep: %s has %d units; give 1 to %d of them", name, n, n // 2)
      end
      for _, u in ipairs(list) do
        if math.type(u) ~= "integer" or u < 1 or u > n or seen[u] then
          fail(what, "keep: %s: units are different whole numbers from 1 to %d", name, n)
        end
        seen[u] = true
      end
      out[c] = list
    end
    return out
  end

  -- Units that are not read must not matter: a norm over the units of a group, for one, sees them all the same.
  local function independent(w, values, c, units)
    local class = w.plan.classes[c]
    local half = halves.drop(w.plan, values, { [c] = units }, { [c] = 1 })
    local free = { [c] = halves.others(class.size, class.size, units) }
    local y, z = w.run(half), w.run(halves.scaled(w.plan, half, free, 1.5))
    local size = y:abs():max()
    local off = (y - z):abs():max()
    if off ~= off or off > 1e-5 * size then
      fail(w.what, "the units of %s act on each other though nothing reads them (a norm over them does so), so that "
        .. "half of them is no network of half the width", class.name)
    end
  end

  -- What the probes share: the network's groups, the loss at weights by name, the masks to try. models: all that the
  -- probe is given; which: the number of theta among them.
  local function opened(what, f, models, which, o)
    local theta = models[which]
    if core.kind(f) ~= "loss" then fail(what, "expected net:loss(data), got %s", core.kind(f)) end
    if core.kind(theta) ~= "model" then fail(what, "expected a model of the network, got a %s", core.kind(theta)) end
    local net = f.net
    local x = map.inputs(what, net, f.data, 16)
    local plan = align.groups(net, nil, { x = not net.input and x or nil }).layout
    local w = { what = what, plan = plan, order = halves.order(plan), counts = map.counts(plan, net),
      tries = points.count(what, "tries", o.tries or 8, 0), seed = points.count(what, "seed", o.seed or 0, 0),
      keep = given_units(what, plan, o.keep), gains = o.rescale }
    if #w.order == 0 then fail(what, "no units of this network may move, so none can be dropped") end
    for _, class in pairs(plan.classes) do
      if class.size < 2 then fail(what, "%s has one unit; half of it is none", class.name) end
    end
    if type(w.gains) == "number" then w.gains = { w.gains } end
    for _, g in ipairs(w.gains or {}) do
      if type(g) ~= "number" or g ~= g or g == 0 then fail(what, "rescale is a number, or a list of numbers to try") end
    end
    local total, prints, calls = 1, {}, 0
    for k, group in ipairs(w.order) do
      local open = false
      for _, c in ipairs(group) do open = open or not w.keep[c] end
      total = total + (open and w.tries + 1 or 1) * (w.gains and #w.gains or 2) + (k > 1 and 1 or 0)
    end
    for k, m in ipairs(o.journal and models or {}) do prints[k] = points.fingerprint(m) end
    local e = points.open(what, f, { bn = o.bn, journal = o.journal, total = total, identity = o.journal and {
      points.fingerprint(f), prints, w.tries, w.seed, w.gains or "share", o.keeps or {} } })
    function w.model(values, like) return core.with_values(like or theta, values) end
    function w.at(values) -- in the same order each time
      calls = calls + 1
      return e.at(w.model(values), { which, calls }).loss
    end
    function w.run(values) return (net_of.run(net, w.model(values), { x = x }, { mode = "eval" })) end
    return w, theta
  end

  -- Of the masks that are tried, for each layer from the last one on, what loses least with all later ones dropped.
  -- -> { loss, steps = { {group, units, gain, loss, alone} } }
  local function dropped(w, theta)
    local values = map.values(w.what, theta)
    local r = { loss = w.at(values), steps = {} }
    local below, unread = values, {} -- with the later layers dropped; their units that nothing reads
    for k, group in ipairs(w.order) do
      local counting = next(unread) and halves.scaled(w.plan, below, unread, 0) or below
      local tried, best = {}, nil
      local function half(c) return w.plan.classes[c].size // 2 end
      tried[1] = per_class(group, function(c)
        return w.keep[c] or largest(halves.importance(w.plan, counting, c, w.counts), half(c))
      end)
      for i = 1, w.tries do
        tried[i + 1] = per_class(group, function(c)
          return w.keep[c] or at_random(w.plan.classes[c].size, half(c), (w.seed * 1000003 + i) * 1009 + c)
        end)
        for _, c in ipairs(group) do -- nothing to choose, nothing to try
          if not w.keep[c] then goto open end
        end
        tried[i + 1] = nil
        break
        ::open::
      end
      for _, c in ipairs(group) do independent(w, values, c, tried[1][c]) end
      for _, units in ipairs(tried) do
        for _, g in ipairs(w.gains or { "share", 1 }) do
          local gain = per_class(group, function(c)
            return g == "share" and w.plan.classes[c].size / #units[c] or g
          end)
          local new = halves.drop(w.plan, below, units, gain)
          local loss = w.at(new)
          if not best or loss < best.loss then
            best = { group = group, units = units, gain = gain, loss = loss, values = new }
          end
        end
      end
      best.alone = k == 1 and best.loss or w.at(halves.drop(w.plan, values, best.units, best.gain))
      below, r.steps[k] = best.values, best
      for _, c in ipairs(group) do unread[c] = halves.others(w.plan.classes[c].size, math.huge, best.units[c]) end
    end
    return r
  end

  -- ---- stability as a record ----

  local head = { "groups", "units", "kept", "rescale", "alone", "loss" }

  local new_stability = record.kind("dropout stability", {
    text = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do
        rows[i] = {}
        for k, name in ipairs(head) do
          rows[i][k] = type(row[name]) == "number" and short(row[name]) or tostring(row[name])
        end
      end
      return ("dropout stability %s (loss %s; at most %s with the layers from one on dropped)\n%s"):format(
        short(r.stability), short(r.loss), short(r.loss + r.stability), record.columns(head, rows))
    end,
    rows = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do
        rows[i] = {}
        for k, name in ipairs(head) do rows[i][k] = row[name] end
      end
      return head, rows
    end,
    plot = function(r, o)
      local whole, alone = { "from this one on" , {}, {} }, { "this one alone", {}, {} }
      local n = #r.rows
      for i, row in ipairs(r.rows) do
        whole[2][i], whole[3][i] = n + 1 - i, row.loss
        alone[2][i], alone[3][i] = n + 1 - i, row.alone
      end
      return plot.line(record.with({ whole, alone,
        { label = "nothing dropped", x = { 1, n }, y = { r.loss, r.loss }, dash = true },
        title = "dropout stability", xlabel = "layer (the first on the left)", ylabel = "loss" }, o))
    end,
  })

  local function stability_of(w, r)
    local rows, worst, keep = {}, 0.0, {}
    for k, step in ipairs(r.steps) do
      local names, n, kept, gain = {}, 0, 0, 0
      for i, c in ipairs(step.group) do
        local class = w.plan.classes[c]
        names[i], n, kept, gain = class.name, n + class.size, kept + #step.units[c], step.gain[c]
        keep[class.name] = step.units[c]
      end
      rows[k] = { groups = table.concat(names, " "), units = n, kept = kept, rescale = gain, alone = step.alone,
        loss = step.loss }
      worst = math.max(worst, step.loss - r.loss)
    end
    return new_stability { loss = r.loss, rows = rows, stability = worst, keep = keep }
  end

  -- ---- the path ----

  -- From a network to one that uses half of its units: { values, … } with what each step is, and where the units that
  -- are read lie at the end.
  local function halved(w, theta, r)
    local plan = w.plan
    local list, said = { (map.values(w.what, theta)) }, {}
    local function go(values, what, group)
      list[#list + 1], said[#said + 1] = values, what .. " " .. plan.classes[group[1]].name
    end
    local places = {}
    for k, step in ipairs(r.steps) do
      local now = list[#list]
      if k == 1 then
        go(halves.drop(plan, now, step.units, step.gain), "drop", step.group)
      else
        local free = {}
        for c, at in pairs(places) do free[c] = halves.others(plan.classes[c].size, #at, at) end
        go(halves.write(plan, now, places, free, step.units, step.gain), "write above", step.group)
        go(halves.shift(plan, list[#list], places, free, step.units, step.gain), "drop", step.group)
        places = free
        if step.group.cyclic then -- what reads the layer inside of it, by no theorem
          go(halves.drop(plan, list[#list], step.units, step.gain, function(about)
            return halves.makes(about) and not halves.makes(about, places)
          end), "drop inside", step.group)
        end
      end
      places = union { places, step.units }
    end
    return list, said, places
  end

  -- All knots of the path from a to b, and what happens between them.
  local function knots_of(w, a, b, ra, rb)
    local plan = w.plan
    local list, said, at = halved(w, a, ra)
    local back, said_back, there = halved(w, b, rb)
    local function go(values, what) list[#list + 1], said[#said + 1] = values, what end
    -- Units of a that lie where those of b will be move to places that neither has.
    local from, to, any = {}, {}, false
    for c, place in pairs(at) do
      local mine, taken = {}, {}
      for _, p in ipairs(there[c]) do taken[p] = true end
      for _, p in ipairs(place) do
        if taken[p] then mine[#mine + 1] = p end
      end
      if #mine > 0 then
        from[c], to[c], any = mine, halves.others(plan.classes[c].size, #mine, place, there[c]), true
      end
    end
    if any then
      go(halves.copied(plan, list[#list], from, to), "copy units")
      go(halves.reread(plan, list[#list], from, to), "read the copies")
    end
    local final = back[#back]
    go(halves.joined(plan, list[#list], final, there), "write b")
    go(halves.last(plan, list[#list], final), "change to b")
    go(final, "clear a")
    for k = #back - 1, 1, -1 do go(back[k], "back: " .. said_back[k]) end
    return list, said
  end

  local options = { "tries", "keep", "rescale", "seed", "bn", "journal" }

  -- The options of one of the models; keeps: what tells journals apart.
  local function with(o, keep)
    local own = {}
    for key, v in pairs(o or {}) do own[key] = v end
    own.keep, own.keeps = keep, o and o.keep
    return own
  end

  define("probe.dropout_stability", "probe.dropout_stability(f, m, {tries = 8, keep =, rescale =, seed = 0, bn =, "
    .. "journal =}) -> record",
    "Are half of the units of each layer enough (dropout stability, Kuditipudi et al. 2019, arXiv:1906.06247)? f: "
    .. "net:loss(data). From the last hidden layer to the first, half of the units go and the rest count for more; of "
    .. "the halves that are tried the best is kept. rows, last layer first: groups (of align.groups; those that read "
    .. "each other, as in a residual stream, go together), units, kept, rescale, alone (the loss with this layer "
    .. "dropped only), loss (with this one and all later ones dropped). stability: the most that the loss rises in "
    .. "these. keep: {group = units}, as this takes it.\n"
    .. "  tries: random halves a layer, besides the units of the largest weights\n"
    .. "  keep: {[group] = {unit, …}}: the units to keep in these groups, at most half\n"
    .. "  rescale: what the kept units are multiplied by, a number or a list to choose from; default: units / kept, "
    .. "and 1\n"
    .. "  bn, journal: as in probe.path; running statistics fit no dropped network, so give data\n"
    .. "Reading it: rises near 0 mean that probe.dropout_path is low all along. Cost: 2 (tries + 1) + 1 passes a "
    .. "layer. Misleading: the best half is not looked for in earnest, so this is an upper bound of the stability; "
    .. "narrow networks are never stable; where units act on each other unread (layer norms over a stream) there are "
    .. "no halves, and the probe says so.",
    "local d = data.two_moons { n = 60, seed = 1 }\nlocal net = nn.mlp { 2, 64, 2 }\n"
    .. "local m = train.fit(net, d, { epochs = 20, lr = 0.02, quiet = true })\n"
    .. "local r = probe.dropout_stability(net:loss(d), m)\nprint(#r.rows, r.rows[1].kept, r.stability < 0.1)\n"
    .. "-- > 1\t32\ttrue",
    told(function(f, theta, o)
      local what = "probe.dropout_stability"
      check(what, o, options)
      expect(what, o, { keep = "a table" })
      local _ <close> = core.run(false) -- wipes the line of progress
      local w, m = opened(what, f, { points.loaded(what, theta) }, 1, with(o, o and o.keep))
      return stability_of(w, dropped(w, m))
    end))

  define("probe.dropout_path", "probe.dropout_path(f, a, b, {tries = 8, keep =, rescale =, seed = 0, bn =, journal "
  .. "=}) -> curve",
    "The path between two networks that dropout stability gives (Kuditipudi et al. 2019, arXiv:1906.06247), made and "
    .. "not trained: straight pieces through networks that use half of the units. Question: are two solutions joined "
    .. "because both are wider than they need be? Layer after layer, last first, a copy that does without half of the "
    .. "layer is written into units that nothing reads, and the outputs go over to it; then b is written beside the "
    .. "half of a that is left, the outputs go over to b, and the same way leads back. Units that are in the way are "
    .. "copied and then read at their new places, which changes nothing. The record is a curve (c:path(f, {points = 8 "
    .. "* (#c.points - 1) + 1}) meets all its points), with steps: what each piece does, stability_a, stability_b "
    .. "(see probe.dropout_stability), and bound: the highest loss of the two and of their dropped networks.\n"
    .. "  f: net:loss(data) with a loss that is convex in the outputs; keep: {a = {group = units}, b = …}; the rest as "
    .. "in probe.dropout_stability\n"
    .. "Reading it: no point of the path is above bound for networks in which a layer reads the one before, and "
    .. "outputs read the last; pieces that write, copy, read and clear are flat. Cost: that of the stability of both "
    .. "networks. Misleading: a high bound says that no good half was found, not that there is no path; where layers "
    .. "read each other (residual streams) or norms keep running statistics the bound is none, only what c:path "
    .. "measures.",
    "local d = data.two_moons { n = 60, seed = 1 }\nlocal net = nn.mlp { 2, 64, 64, 2 }\n"
    .. "local function fit(seed)\n"
    .. "  return (train.fit(net, d, { epochs = 20, lr = 0.01, seed = seed, quiet = true }))\nend\n"
    .. "local f = net:loss(d)\nlocal c = probe.dropout_path(f, fit(1), fit(2))\n"
    .. "print(#c.points, c:path(f, { points = 8 * (#c.points - 1) + 1 }).statistics.loss.max <= c.bound + 1e-6)\n"
    .. "-- > 12\ttrue",
    told(function(f, a, b, o)
      local what = "probe.dropout_path"
      check(what, o, options)
      expect(what, o, { keep = "a table" })
      o = o or {}
      local _ <close> = core.run(false)
      local results, models, w = {}, { points.loaded(what, a), points.loaded(what, b) }, nil
      for k, name in ipairs { "a", "b" } do
        w = opened(what, f, models, k, with(o, (o.keep or {})[name]))
        results[k] = dropped(w, models[k])
      end
      local list, said = knots_of(w, models[1], models[2], results[1], results[2])
      local space = descent.source(what, function() end, models[1], {}).space
      local vectors, knots, bound = {}, {}, -math.huge
      for k, values in ipairs(list) do
        vectors[k], knots[k] = space.pack(w.model(values, models[1])), (k - 1) / (#list - 1)
      end
      for _, r in ipairs(results) do
        bound = math.max(bound, r.loss)
        for _, step in ipairs(r.steps) do bound = math.max(bound, step.loss) end
      end
      local c = new_curve.make { kind = "dropout", knots = knots, space = space, a = models[1], b = models[2],
        first = vectors[1], last = vectors[#vectors], bends = { table.unpack(vectors, 2, #vectors - 1) } }
      c.steps, c.bound = said, bound
      c.stability_a, c.stability_b = stability_of(w, results[1]), stability_of(w, results[2])
      return c
    end))
end
