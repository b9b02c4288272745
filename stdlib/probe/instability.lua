-- SPDX-License-Identifier: Apache-2.0
-- Is the mode decided? Runs that share their first k steps, and differ afterwards in the noise of training or by a
-- small push (Frankle et al. 2020, arXiv:1912.05671). What differs is one seed or the other, and nothing else.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local record = require "probe.record"
  local runs = require "probe.runs"(core)
  local journal = require "probe.journal"(core)
  local short = record.short

  local function whole(what, name, v, least, default)
    if v == nil then return default end
    if math.type(v) ~= "integer" or v < least then runs.fail(what, "%s is a whole number, at least %d", name, least) end
    return v
  end

  local function network(what, net)
    if not net_of.is(net) then runs.fail(what, "expected a network, got %s", core.kind(net)) end
  end

  -- Floating parameters only: buffers are no coordinates.
  local function distance(net, a, b)
    local sum = 0
    for _, p in ipairs(net:params()) do
      if not p.buffer then
        local d = a:tensor(p.name):to "f64" - b:tensor(p.name):to "f64"
        sum = sum + d:dot(d)
      end
    end
    return math.sqrt(sum)
  end

  -- One row: what lies between two models on one data set.
  local function between(f, a, b, o)
    local r = probe.barrier(f, a, b, o)
    local p = r.path
    return { barrier_loss = r.barrier_loss, barrier_error = r.barrier_error, instability = r.instability_error,
      loss_a = p.loss[1], loss_b = p.loss[#p.loss], error_a = p.error and p.error[1],
        error_b = p.error and p.error[#p.error] }
  end

  local quantities = { "barrier_loss", "barrier_error", "instability", "distance", "amplification", "disagreement",
    "loss_a", "loss_b", "error_a", "error_b" }

  -- Means over the rows of equal keys, in the order of the first of each.
  local function means(rows, keys)
    local out, by = {}, {}
    for _, row in ipairs(rows) do
      local words = {}
      for i, key in ipairs(keys) do words[i] = tostring(row[key]) end
      local name = table.concat(words, "\0")
      local m = by[name]
      if not m then
        m = { count = 0 }
        for _, key in ipairs(keys) do m[key] = row[key] end
        by[name], out[#out + 1] = m, m
      end
      m.count = m.count + 1
      for _, q in ipairs(quantities) do m[q] = row[q] and (m[q] or 0) + row[q] end
    end
    for _, m in ipairs(out) do
      for _, q in ipairs(quantities) do m[q] = m[q] and m[q] / m.count end
    end
    return out
  end

  local function table_of(rows, head)
    local out = {}
    for i, row in ipairs(rows) do
      out[i] = {}
      for k, name in ipairs(head) do
        local v = row[name]
        out[i][k] = v == nil and "" or v
      end
    end
    return head, out
  end

  local function text_of(rows, head)
    local _, cells = table_of(rows, head)
    for _, row in ipairs(cells) do
      for k, v in ipairs(row) do row[k] = type(v) == "number" and short(v) or tostring(v) end
    end
    return record.columns(head, cells)
  end

  -- Lines over the step, one for each data set and way.
  local function lines_of(r, field)
    local lines, by = {}, {}
    for _, m in ipairs(r.mean) do
      local label = m.way == "direct" and m.data or m.data .. ", " .. tostring(m.way or m.size)
      if not by[label] then
        by[label] = { label, {}, {} }
        lines[#lines + 1] = by[label]
      end
      if type(m.at) == "number" then
        table.insert(by[label][2], m.at)
        table.insert(by[label][3], m[field] or 0.0 / 0.0)
      end
    end
    return lines
  end

  -- ---- instability ----

  -- The error of the best guess that does not look; nil where there are no classes.
  local function blind(set)
    local y = set.y
    if core.kind(y) ~= "tensor" or y.dtype:find "f" or #y.shape ~= 1 then return nil end
    local counts, most = {}, 0
    for _, label in ipairs(y:totable()) do
      counts[label] = (counts[label] or 0) + 1
      most = math.max(most, counts[label])
    end
    return 1 - most / y:numel()
  end

  -- Per data set: what is between runs that share nothing, and what would be between runs with a point on the line
  -- between them that knows no more than the shares of the classes.
  local function ceilings(r, losses)
    local out = {}
    for _, l in ipairs(losses) do
      local ends, n, chance = 0, 0, blind(l.f.data)
      local independent
      for _, m in ipairs(r.mean) do
        if m.data == l.name and m.way == "direct" then
          if m.error_a then ends, n = ends + (m.error_a + m.error_b) / 2, n + 1 end
          if m.at == "independent" then independent = m end
        end
      end
      out[l.name] = { chance = chance and n > 0 and chance - ends / n or nil,
        instability = independent and independent.instability, barrier_loss = independent and independent.barrier_loss }
    end
    return out
  end

  local new = record.kind("instability", {
    text = function(r)
      local head = { "at", "data", "way", "instability", "barrier_loss", "barrier_error", "distance" }
      local chance = {}
      for name, c in pairs(r.ceiling) do
        chance[#chance + 1] = c.chance and ("%s (%s)"):format(short(c.chance), name)
      end
      table.sort(chance)
      return ("instability: %d children of a run of %d steps, seed %d; means over pairs\n%s%s"):format(r.children_each,
        r.steps, r.seed, text_of(r.mean, head), #chance > 0
        and "\nwith a point of chance on the line: " .. table.concat(chance, ", ") or "")
    end,
    rows = function(r)
      return table_of(r.rows, { "at", "data", "way", "a", "b", "instability", "barrier_loss", "barrier_error",
        "distance", "loss_a", "loss_b", "error_a", "error_b" })
    end,
    plot = function(r, o)
      local field = r.mean[1].instability and "instability" or "barrier_loss"
      local lines = lines_of(r, field)
      for i = 1, #lines do -- the ceiling, in the colour of its line
        local c, at = r.ceiling[lines[i][1]], lines[i][2]
        if c and c[field] and #at > 0 then
          local low, high = at[1], math.max(at[#at], at[1] + 1)
          lines[#lines + 1] = { label = lines[i][1] .. ", nothing shared", x = { low, high },
            y = { c[field], c[field] }, dash = true, style = i }
        end
      end
      lines.title, lines.xlabel = "instability", "shared steps"
      lines.ylabel = field == "instability" and "error barrier" or "loss barrier"
      return plot.line(record.with(lines, o))
    end,
  })

  local function instability(net, data, options)
    local what = "probe.instability"
    check(what, options, { "at", "unit", "children", "vary", "seed", "start", "fresh", "on", "points", "bn", "ways",
      "independent", "train", "batch", "journal" })
    expect(what, options, { start = "a model", ways = "a table", vary = "a table" })
    network(what, net)
    local o = options or {}
    local fit, total, per_epoch = runs.options(what, data, o.train)
    local steps = runs.steps(what, o.at or { 0 }, o.unit, total, per_epoch)
    local seed, count = whole(what, "seed", o.seed, 0, 0), whole(what, "children", o.children, 2, 2)
    local losses, vary = runs.losses(what, net, o.on or data, o.batch, fit), o.vary or { "order", "augment", "dropout" }
    for name, f in pairs(o.ways or {}) do
      if type(f) ~= "function" or type(name) ~= "string" then runs.fail(what, "ways is {name = function(a, b), …}") end
    end
    local seeds = { init = seed, order = seed, augment = seed, dropout = seed }
    local kept <close> = journal.open(what, o, { net, data })
    local parent, done = runs.parent(kept, net, data, fit, seeds, o.start), kept.once
    local path = { points = whole(what, "points", o.points, 2, 30), bn = o.bn }
    local r = { rows = {}, seed = seed, steps = total, children_each = count, vary = vary, children = {}, at = steps }

    local ways = { "direct" }
    for name in pairs(o.ways or {}) do ways[#ways + 1] = name end
    table.sort(ways, function(x, y) return x == "direct" or y ~= "direct" and x < y end)

    -- Rows of all pairs, data sets and ways; models: function(c) -> child c, trained when it is asked for.
    local function measure(at, child)
      for i = 1, count do
        for j = i + 1, count do
          local moved = {}
          local function other(way)
            if way == "direct" then return child(j) end
            moved[way] = moved[way] or o.ways[way](child(i), child(j))
            return moved[way]
          end
          for _, way in ipairs(ways) do
            for _, l in ipairs(losses) do
              r.rows[#r.rows + 1] = done({ at, i, j, way, l.name }, function()
                local a, b, own = child(i), other(way), path
                if type(b) == "function" then own = runs.with(path, { curve = b }) end
                local row = between(l.f, a, b, own)
                if core.kind(b) == "model" then row.distance = distance(net, a, b) end
                row.at, row.a, row.b, row.way, row.data = at, i, j, way, l.name
                return row
              end)
            end
          end
        end
      end
    end

    local function once(f)
      local made = {}
      return function(c)
        made[c] = made[c] or f(c)
        return made[c]
      end, made
    end

    for _, k in ipairs(steps) do
      local child, made = once(function(c)
        return parent.child(k, { seeds = runs.child_seeds(what, seed, vary, c), fresh = o.fresh,
          key = { "child", k, c } })
      end)
      measure(k, child)
      for c = 1, count do child(c) end -- where rows are from a journal, children are too
      r.children[k] = made
    end
    if o.independent then
      local child, made = once(function(c)
        return runs.fit(kept, { "child", "independent", c }, net, data,
          runs.with(fit, { seed = seed * 10007 + 7919 * c }))
      end)
      measure("independent", child)
      for c = 1, count do child(c) end
      r.children.independent = made
    end
    r.mean = means(r.rows, { "at", "data", "way" })
    r.ceiling = ceilings(r, losses)
    return new(r)
  end

  local moons = "local d = data.two_moons { n = 100, seed = 1 }\nlocal net = nn.mlp { 2, 8, 2 }\n"

  define("probe.instability", "probe.instability(net, data, {at = 0, unit = \"steps\", children = 2, vary = "
    .. "{\"order\", \"augment\", \"dropout\"}, seed = 0, start =, fresh = false, on =, points = 30, bn =, ways =, "
    .. "independent = false, train = {options of train.fit}, batch = 1000, journal =}) -> record",
    "Instability analysis (Frankle et al. 2020, arXiv:1912.05671): from which step on does the noise of training no "
    .. "longer decide which linearly connected mode a run ends in? One run is trained; at each step of `at` "
    .. "children leave it and go on to the end with other seeds, and what lies between each two of them is "
    .. "measured. rows: at, data, way, a, b (children), instability (max error less the mean of the ends), "
    .. "barrier_loss, barrier_error, distance, loss_a, loss_b, error_a, error_b; mean: their means over pairs; "
    .. "children[k]: the models. Reading it: plotted, instability falls with k, from the ceiling (a dashed line, "
    .. "with independent = true: that of runs that share not even their first weights) down to 0; below 0.02 counts "
    .. "as stable. ceiling, by data set: instability and barrier_loss of independent runs, and chance: the "
    .. "instability that there would be with a point on the line that does no better than guessing.\n"
    .. "  at: steps of training that are shared, a number or a list; unit: \"steps\" or \"epochs\" (which may be "
    .. "broken)\n"
    .. "  vary: the seeds that differ between children; the others are the parent's, so that one source of noise can "
    .. "be taken at a time\n"
    .. "  fresh: children begin with a new state of the optimiser; else they go on with the parent's\n"
    .. "  start: the model of step 0 (default: net:init with seed)\n"
    .. "  on: the data to measure on, or {name = data, …} (default: the training data)\n"
    .. "  ways: {name = function(a, b) -> b', or -> function(t) -> model}: paths besides the straight line, such as "
    .. "function(a, b) return align.weights(net, a, b):apply(b) end; with them the grid of spawning against "
    .. "permuting\n"
    .. "  independent: runs from different initialisations as a last row, the ceiling\n"
    .. "  train: options of train.fit, but seed, checkpoint, callbacks and what else the probe sets; bn: as in "
    .. "probe.path\n"
    .. "  journal: a file in which rows are kept, with the models and the state of the training beside it; a probe "
    .. "that was stopped goes on where it ended\n"
    .. "Costs children runs for each step of `at`, and points passes over the data. Misleads: test error may be "
    .. "stable where training loss is not; two children are one sample: repeat over seeds.",
    moons .. "local r = probe.instability(net, d, { at = { 0, 8 }, points = 5, train = { epochs = 2, batch = 20, lr = "
      .. "0.05 } })\n"
    .. "print(#r.mean, r.mean[1].at, r.mean[2].distance < r.mean[1].distance)\n-- > 2\t0\ttrue", told(instability))

  -- ---- perturb and track ----

  local new_push = record.kind("perturbation", {
    text = function(r)
      return ("perturbations of a run of %d steps, seed %d; means over directions\n%s"):format(r.steps, r.seed,
        text_of(r.mean, { "at", "size", "data", "distance", "amplification", "instability", "barrier_loss",
          "disagreement" }))
    end,
    rows = function(r)
      return table_of(r.rows, { "at", "size", "data", "direction", "distance", "amplification", "instability",
        "barrier_loss", "barrier_error", "disagreement" })
    end,
    plot = function(r, o)
      local lines = lines_of(r, "distance")
      lines.title, lines.xlabel = "perturbation", "step"
      lines.ylabel, lines.ylog = "distance at the end", true
      return plot.line(record.with(lines, o))
    end,
  })

  -- theta + size |theta| z / |z| over the parameters, z normal by (seed, name).
  local function pushed(net, theta, size, seed)
    local z, zz, tt = {}, 0, 0
    for _, p in ipairs(net:params()) do
      local t = theta:tensor(p.name)
      if not p.buffer and t.dtype:find "f" then
        z[p.name] = tensor.normal(t.shape, (net_of.hash(p.name) ~ seed * 1000003) & 0x7fffffffffff, { dtype = t.dtype })
        zz, tt = zz + z[p.name]:dot(z[p.name]), tt + t:dot(t)
      end
    end
    local scale, values = size * math.sqrt(tt / zz), {}
    for name, t in pairs(z) do values[name] = theta:tensor(name) + scale * t end
    return core.with_values(theta, values), size * math.sqrt(tt)
  end

  local function perturbation(net, data, options)
    local what = "probe.perturbation"
    check(what, options, { "at", "unit", "size", "directions", "seed", "start", "on", "points", "bn", "train", "batch",
      "journal" })
    expect(what, options, { start = "a model", size = "a number or a list of numbers" })
    network(what, net)
    local o = options or {}
    local fit, total, per_epoch = runs.options(what, data, o.train)
    local steps = runs.steps(what, o.at or { 0 }, o.unit, total, per_epoch)
    local sizes, seed = o.size or { 1e-3 }, whole(what, "seed", o.seed, 0, 0)
    if type(sizes) == "number" then sizes = { sizes } end
    for _, v in ipairs(sizes) do
      if type(v) ~= "number" or v <= 0 then runs.fail(what, "size is a number above 0, or a list of such") end
    end
    local losses = runs.losses(what, net, o.on or data, o.batch, fit)
    local seeds = { init = seed, order = seed, augment = seed, dropout = seed }
    local kept <close> = journal.open(what, o, { net, data })
    local parent, done = runs.parent(kept, net, data, fit, seeds, o.start), kept.once
    local path = { points = whole(what, "points", o.points, 2, 30), bn = o.bn }
    local r = { rows = {}, seed = seed, steps = total, children = {} }
    for _, k in ipairs(steps) do
      r.children[k] = {}
      for _, size in ipairs(sizes) do
        r.children[k][size] = {}
        for c = 1, whole(what, "directions", o.directions, 1, 1) do
          local moved, first = pushed(net, parent.model(k), size, seed * 10007 + 7919 * c)
          local child = parent.child(k, { start = moved, key = { "child", k, size, c } })
          r.children[k][size][c] = child
          for _, l in ipairs(losses) do
            r.rows[#r.rows + 1] = done({ k, size, c, l.name }, function()
              local whole_run = parent.model(total)
              local row = between(l.f, whole_run, child, path)
              row.at, row.size, row.direction, row.data = k, size, c, l.name
              row.distance = distance(net, whole_run, child)
              row.amplification = row.distance / first
              row.disagreement = row.error_a and probe.agreement(net, whole_run, child, l.f.data,
                { batch = o.batch }).disagreement
              return row
            end)
          end
        end
      end
    end
    r.mean = means(r.rows, { "at", "size", "data" })
    r.whole = parent.model(total)
    return new_push(r)
  end

  define("probe.perturbation", "probe.perturbation(net, data, {at = 0, unit = \"steps\", size = 1e-3, directions = 1, "
    .. "seed = 0, start =, on =, points = 30, bn =, train = {options of train.fit}, batch = 1000, journal =}) -> "
    .. "record",
    "Perturb and track: does a small push at step k grow? The run is trained, and again from each step of `at` with "
    .. "the parameters moved in a random direction by size times their norm, on the same batches in the same order. "
    .. "rows: at, size, data, direction, distance (to the unmoved run at the end), amplification (that over the "
    .. "first distance), instability, barrier_loss, barrier_error, disagreement of predictions; mean over "
    .. "directions; children[k][size], whole: the models. Reading it: early pushes grow to a distance that does not "
    .. "depend on their size; late ones do not.\n"
    .. "  at, unit, start, on, bn, train, journal: as in probe.instability; size: a number or a list\n"
    .. "  directions: random directions for each\n"
    .. "Costs one run from k on for each push. Misleads: with a schedule that goes to 0 late pushes have no time to "
    .. "grow; rounding alone is a push of 1e-7.",
    moons .. "local r = probe.perturbation(net, d, { at = { 0, 8 }, size = 0.01, points = 3, train = { epochs = 2, "
      .. "batch = 20 } })\n"
    .. "print(#r.rows, r.rows[1].amplification > 0)\n-- > 2\ttrue", told(perturbation))
end
