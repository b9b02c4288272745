-- SPDX-License-Identifier: Apache-2.0
-- A loss along a path between two models, and what is read off it: barriers by every definition in use, the convexity
-- gap, the rises that break monotone interpolation. All of it comes from one evaluation.
return function(define, check, core)
  local told = require "nn.told"
  local record = require "probe.record"
  local progress = require "probe.progress"(core)
  local points = require "probe.points"(core)
  local journal = require "probe.journal"(core)
  local shape = require "probe.shape"
  local short = record.short

  -- The value at t, where it is one of the points.
  local function value_at(p, field, where)
    for i, t in ipairs(p.t) do
      if math.abs(t - where) < 1e-12 then return p[field][i] end
    end
    return p.middle and p.middle[field]
  end

  -- ---- barriers ----

  local function signed(v) return v ~= v and "nan" or ("%+.4g"):format(v) end

  local function describe(b)
    local out = { ("barrier %s at t = %s"):format(short(b.barrier_loss), short(b.argmax_t)) }
    if b.mid_loss_excess then out[#out + 1] = "middle " .. signed(b.mid_loss_excess) end
    if b.barrier_error then
      out[#out + 1] = ("error barrier %s"):format(short(b.barrier_error))
      out[#out + 1] = ("instability %s"):format(short(b.instability_error))
    end
    if b.bn and b.bn ~= "none" then out[#out + 1] = "running statistics: " .. b.bn end
    return out[1] .. " (" .. table.concat(out, ", ", 2) .. ")"
  end

  -- A barrier counts as the number barrier_loss in comparisons and arithmetic.
  local function number(v) return type(v) == "table" and v.barrier_loss or v end
  local arithmetic = {
    __lt = function(a, b) return number(a) < number(b) end,
    __le = function(a, b) return number(a) <= number(b) end,
    __add = function(a, b) return number(a) + number(b) end,
    __sub = function(a, b) return number(a) - number(b) end,
    __mul = function(a, b) return number(a) * number(b) end,
    __div = function(a, b) return number(a) / number(b) end,
    __unm = function(a) return -number(a) end,
  }

  local new_barrier = record.kind("barrier", {
    text = describe,
    rows = function(b)
      local rows = {}
      for _, name in ipairs { "barrier_loss", "argmax_t", "barrier_error", "argmax_t_error", "instability_error",
        "instability_loss", "mid_loss_excess", "mid_error_excess", "max_loss", "max_error", "saddle", "saddle_error",
        "mode_connectivity", "mode_connectivity_error", "area", "convexity_gap", "largest_rise" } do
        if b[name] then rows[#rows + 1] = { name, b[name] } end
      end
      return { "quantity", "value" }, rows
    end,
    plot = function(b, o) return plot.path(b.path, o) end,
    meta = arithmetic,
  })

  -- Heights of values along t by each definition, with the places of their maxima.
  local function heights(p, field)
    local t, v, n = p.t, p[field], #p.t
    local mean, above, i = (v[1] + v[n]) / 2, shape.above_chord(t, v)
    local most, k_most = shape.greatest(v)
    local h = { barrier = above, at = t[i], max = most, at_max = t[k_most], instability = most - mean,
      saddle = most - math.max(v[1], v[n]) }
    h.connectivity, h.at_connectivity = 0, t[1]
    for k, x in ipairs(v) do
      if math.abs(mean - x) > math.abs(h.connectivity) then h.connectivity, h.at_connectivity = mean - x, t[k] end
    end
    local middle = value_at(p, field, (t[1] + t[n]) / 2)
    h.middle = middle and middle - mean
    return h
  end

  local function barrier_of(p)
    local t, loss, h = p.t, p.loss, heights(p, "loss")
    local b = { path = p, bn = p.bn, points = #t, barrier_loss = h.barrier, argmax_t = h.at, max_loss = h.max,
      argmax_max_loss = h.at_max, instability_loss = h.instability, saddle = h.saddle, mid_loss_excess = h.middle,
      mode_connectivity = h.connectivity, argmax_mode_connectivity = h.at_connectivity }
    b.area = shape.area(t, loss)
    b.convexity_gap = shape.convexity_gap(t, loss)
    b.largest_rise = select(2, shape.rises(t, loss))
    if p.error then
      h = heights(p, "error")
      b.barrier_error, b.argmax_t_error, b.max_error, b.saddle_error = h.barrier, h.at, h.max, h.saddle
      b.instability_error, b.argmax_instability, b.mid_error_excess = h.instability, h.at_max, h.middle
      b.mode_connectivity_error, b.argmax_mode_connectivity_error = h.connectivity, h.at_connectivity
    end
    return new_barrier(b)
  end

  -- ---- paths ----

  local function columns(p)
    local names = {}
    for name, v in pairs(p) do
      if type(v) == "table" and #v == #p.t and name ~= "t" and type(v[1]) == "number" then names[#names + 1] = name end
    end
    table.sort(names, function(x, y)
      local first = { loss = 1, error = 2 }
      local a, b = first[x] or 3, first[y] or 3
      if a ~= b then return a < b end
      return x < y
    end)
    return names
  end

  local function rows_of(p)
    local names, rows = columns(p), {}
    for i, t in ipairs(p.t) do
      rows[i] = { t }
      for _, name in ipairs(names) do rows[i][#rows[i] + 1] = p[name][i] end
    end
    table.insert(names, 1, "t")
    return names, rows
  end

  -- The list of a path that a method reads.
  local function values_of(what, p, field)
    local values = p[field or "loss"]
    if type(values) == "table" and type(values[1]) == "number" then return values end
    error(("%s: a path has no list of numbers called %s"):format(what, tostring(field or "loss")), 3)
  end

  local new_path = record.kind("path", {
    text = function(p)
      local head, rows = rows_of(p)
      for k = #head, 1, -1 do -- error says it already
        if head[k] == "accuracy" and p.error then
          table.remove(head, k)
          for _, row in ipairs(rows) do table.remove(row, k) end
        end
      end
      for _, row in ipairs(rows) do
        for k, v in ipairs(row) do row[k] = k == 1 and ("%.4g"):format(v) or ("%.6g"):format(v) end
      end
      local first = ("path of %d points%s"):format(#p.t, p.bn and p.bn ~= "none" and ", running statistics: " .. p.bn
        or "")
      return first .. "\n" .. record.columns(head, rows) .. "\n" .. describe(barrier_of(p))
    end,
    rows = rows_of,
    plot = function(p, o) return plot.path(p, o) end,
    methods = {
      barrier = barrier_of,
      convexity_gap = function(p, field) return shape.convexity_gap(p.t, values_of("path:convexity_gap", p, field)) end,
      rises = function(p, field) return shape.rises(p.t, values_of("path:rises", p, field)) end,
    },
  })

  local names = { "points", "t", "bn", "curve", "journal", "label" }

  local function positions(what, o, default)
    if o.t then return points.list(what, "t", o.t) end
    return points.evenly(0, 1, points.count(what, "points", o.points or default, 2))
  end

  -- The line from a to b, or the curve, as a function t -> model whose ends are the models themselves.
  local function curve_of(what, a, b, o)
    if o.curve then
      if type(o.curve) ~= "function" and core.kind(o.curve) ~= "curve" then
        error(what .. ": curve is a function(t) -> model", 0)
      end
      return o.curve
    end
    a, b = points.loaded(what, a, "the first point"), points.loaded(what, b, "the second point")
    return function(t) return points.sum { { 1 - t, a }, { t, b } } end
  end

  -- The path as a record; middle: the point half-way too, where it is none of the points.
  local function path_of(what, f, a, b, o, default, middle)
    if type(a) == "table" and b == nil and o == nil and getmetatable(a) == nil then a, o = nil, a end
    check(what, o, names)
    o = o or {}
    local ts = positions(what, o, default)
    local curve = curve_of(what, a, b, o)
    local prints = {}
    for k, t in ipairs(o.journal and ts or {}) do -- two points tell a line
      if o.curve or k == 1 or k == #ts then prints[#prints + 1] = points.fingerprint(curve(t)) end
    end
    local e = points.open(what, f, { bn = o.bn, total = #ts, journal = o.journal, identity = o.journal and { ts,
      points.fingerprint(f), prints } })
    local _ <close> = core.run(false) -- wipes the line of progress
    if e.bn == "keep" then e.like(curve(ts[1])) end
    local p, has_middle = { t = ts, bn = e.bn, label = o.label }, false
    local half = (ts[1] + ts[#ts]) / 2
    local values = e.all(#ts, function(i) return function() return curve(ts[i]) end, { ts[i] } end)
    for i, t in ipairs(ts) do
      has_middle = has_middle or math.abs(t - half) < 1e-12
      for name, v in pairs(values[i]) do
        p[name] = p[name] or {}
        p[name][i] = v
      end
    end
    if middle and not has_middle then p.middle = e.at(function() return curve(half) end, { half }) end
    p.n = p.n and p.n[1] -- the same everywhere
    return new_path(p)
  end

  define("probe.path", "probe.path(f, a, b, {points = 25, t =, bn =, curve =, journal =, label =}) -> path",
    "f along the straight line (1 - t) a + t b, or along a curve. Question: what lies between two solutions? f: a loss "
    .. "(net:loss(data)) or a function of a model that gives a number or a table with `loss`. The record has t, loss, "
    .. "error and every other number of f:report as lists; p:barrier() reads barriers off it, p:convexity_gap() the "
    .. "largest violation of convexity (Juneja et al. 2022, arXiv:2205.12411), p:rises() where it rises and the "
    .. "largest rise, p:save \"x.csv\" or \"x.json\", p:plot() and plot.path(p, q, …) its picture.\n"
    .. "  points: evenly from 0 to 1; t: a list instead, which may go beyond\n"
    .. "  curve: a function(t) -> model in the place of the line; a and b may be left out then\n"
    .. "  bn: running statistics of batch norm: \"interpolate\" (default), \"keep\" (those at the first point), or "
    .. "data over which they are made anew at every point (the data of f's own option bn by default)\n"
    .. "  journal: a file in which points are kept as they come; a run that was stopped goes on where it ended\n"
    .. "Reading it: a hump between the ends is a barrier; training loss shows it more clearly than test loss. Cost: "
    .. "one pass over the data a point. Misleading: between networks with batch norm \"interpolate\" and \"keep\" show "
    .. "collapsed statistics more than the landscape; networks trained apart should be aligned first (align); a narrow "
    .. "wall between two of the points is not seen.",
    "local p = probe.path(function(m) return m[\"w\"]:sum() ^ 2 end, model.new { { \"w\", tensor { -1 } } },\n"
    .. "  model.new { { \"w\", tensor { 3 } } }, { points = 5 })\nprint(table.concat(p.loss, \" \"))\n"
    .. "-- > 1.0 0.0 1.0 4.0 9.0",
    told(function(f, a, b, o) return path_of("probe.path", f, a, b, o, 25) end))

  define("probe.barrier", "probe.barrier(f, a, b, {options of probe.path}) or probe.barrier(path) -> barrier",
    "How high does the loss rise between two models? One evaluation gives every definition in use, since they "
    .. "differ by more than a constant where the ends differ:\n"
    .. "  barrier_loss, argmax_t: max over t of L(t) - ((1 - t) L(0) + t L(1)), not below 0 (Entezari et al. 2021, "
    .. "arXiv:2110.06296); barrier_error, argmax_t_error: the same of the error\n"
    .. "  instability_error: max error less the mean of the two ends (Frankle et al. 2019, arXiv:1912.05671, who "
    .. "call below 0.02 stable); argmax_instability; instability_loss: the same of the loss\n"
    .. "  mid_loss_excess, mid_error_excess: half-way, less the mean of the ends; may be negative\n"
    .. "  max_loss, argmax_max_loss, saddle: the highest point, where it is, and its height above the higher end "
    .. "(Draxler et al. 2018, arXiv:1803.00885); max_error, saddle_error\n"
    .. "  mode_connectivity: mean of the ends less the loss where it is furthest from it; negative: a barrier, "
    .. "positive: a valley, the ends are under-trained (Yang et al. 2021, arXiv:2107.11228, along trained curves); "
    .. "argmax_mode_connectivity; mode_connectivity_error and its argmax\n"
    .. "  area: mean height above the chord; convexity_gap, largest_rise: as in probe.path; bn, points: what stood "
    .. "for running statistics, and how many points there were\n"
    .. "It prints as one line and counts as the number barrier_loss in comparisons and arithmetic; b.path is the "
    .. "path. Reading it: 0 is linearly connected; set it beside the losses of the ends. Cost: that of probe.path. "
    .. "Misleading: as there; the maximum is over the points evaluated, so it is a lower bound.",
    "local function f(m) return m[\"w\"]:sum() ^ 2 - m[\"w\"]:sum() ^ 4 / 2 end\n"
    .. "local function at(x) return model.new { { \"w\", tensor({ x }, { dtype = \"f64\" }) } } end\n"
    .. "local b = probe.barrier(f, at(-1), at(1), { points = 9 })\nprint(b, b < 0.1)\n"
    .. "-- > barrier 0 at t = 0 (middle -0.5)\ttrue",
    told(function(f, a, b, o)
      if core.kind(f) == "path" then return barrier_of(f) end
      return barrier_of(path_of("probe.barrier", f, a, b, o, 25, true))
    end))

  define("path:barrier", "p:barrier() -> barrier", "What probe.barrier gives, of a path that is there.",
    "local p = probe.path(function(x) return -x * x end, -1, 1, { points = 3 })\nprint(p:barrier().barrier_loss)\n"
    .. "-- > 1.0", new_path({}).barrier)
  define("path:convexity_gap", "p:convexity_gap(field = \"loss\") -> number, t",
    "The largest height of a point above a chord between two others, and where: the largest violation of convexity on "
    .. "any part of the path, 0 where there is none. At least the barrier.",
    "local p = probe.path(function(x) return -x * x end, -1, 1, { points = 3 })\nprint(p:convexity_gap())\n"
    .. "-- > 1.0\t0.5", new_path({}).convexity_gap)
  define("path:rises", "p:rises(field = \"loss\") -> {{from, top, to, width, height}, …}, largest",
    "Where the values rise from t = 0 on: each rise lasts until they are below its start again. largest: the largest "
    .. "rise from any point to a later one; not above 0 where they never rise.",
    "local p = probe.path(function(x) return x * x end, -1, 2, { points = 4 })\n"
    .. "local list, most = p:rises()\nprint(#list, most)\n-- > 1\t4.0", new_path({}).rises)
  define("record:save", "r:save(path) -> r",
    "Writes what a probe returned: path.json holds every value, path.csv the table of its points. Models and functions "
    .. "are left out.",
    "local p = probe.path(function(x) return x * x end, 0, 2, { points = 3 })\nlocal path = os.tmpname()\n"
    .. "p:save(path .. \".csv\")\nfor line in io.lines(path .. \".csv\") do print(line) end\nos.remove(path)\n"
    .. "os.remove(path .. \".csv\")\n-- > t,loss\n-- > 0,0\n-- > 0.5,1\n-- > 1,4", new_path({}).save)
  define("record:plot", "r:plot {title =, …} -> figure",
    "The picture of what a probe returned, with the options of the function of plot that makes it.",
    "local p = probe.path(function(x) return x * x end, 0, 2, { points = 3 })\nprint(p:plot().kind)\n-- > panels",
    new_path({}).plot)

  -- ---- from initialisation to solution ----

  -- How far the direction of the logits turns on the way, for each example: the integral of the part of the second
  -- derivative that is across the first, over the norm of the first.
  local function turning(net)
    local net_of = require "nn.net"
    return compile(function(theta, d, batch)
      local function logits(th) return (net_of.run(net, th, batch, { mode = "eval" })) end
      local function velocity(th) return (jvp(logits, th, d)) end
      local bend, v = jvp(velocity, theta, d)
      local size = (v * v):sum { dim = -1, keepdim = true }
      local safe = tensor.where(size:gt(0), size, 1)
      local across = bend - v * ((bend * v):sum { dim = -1, keepdim = true } / safe)
      local curved = ((across * across):sum { dim = -1, keepdim = true } / safe):sqrt()
      return tensor.where(size:gt(0), curved, 0):mean()
    end)
  end

  local new_interpolation = record.kind("interpolation", {
    text = function(r)
      local words = { ("%s from %s to %s"):format(r.monotone and "monotone" or "not monotone", short(r.path.loss[1]),
        short(r.path.loss[#r.path.loss])), "largest rise " .. signed(r.largest_rise) }
      if #r.bumps > 0 then words[#words + 1] = #r.bumps .. (#r.bumps == 1 and " rise" or " rises") end
      if r.gauss_length then words[#words + 1] = "Gauss length " .. short(r.gauss_length) end
      words[#words + 1] = "distance " .. short(r.distance)
      return table.concat(words, ", ")
    end,
    rows = function(r) return rows_of(r.path) end,
    plot = function(r, o) return plot.path(r.path, o) end,
  })

  define("probe.interpolation", "probe.interpolation(f, init, final, {points = 50, bn =, tolerance = 0, gauss = 0, "
    .. "journal =}) -> interpolation",
    "Monotonic linear interpolation (Goodfellow et al. 2014, arXiv:1412.6544; Lucas et al. 2021, arXiv:2104.11044). "
    .. "Question: does the loss only fall on the straight line from initialisation to solution? The record has "
    .. "monotone (no rise above tolerance), largest_rise, bumps {from, top, to, width, height}, distance, and path.\n"
    .. "  gauss: the number of examples over which gauss_length is taken: how much the logits' direction of travel "
    .. "turns on the way (radians, mean over examples, exact second derivatives, trapezoids over the points); near 0 "
    .. "the logits go straight. 0: not at all\n"
    .. "  bn: as in probe.path; anew at every point is what one wants here; journal: as there, with that of gauss "
    .. "in journal .. \".turning\"\n"
    .. "Reading it: large steps, Adam and batch norm raise the bump. Cost: that of probe.path, and about six passes "
    .. "a point over the examples of gauss. Misleading: it says nothing of generalisation (Vlaar, Frankle 2021, "
    .. "arXiv:2106.16004), and a plateau near the start may come from the last layer's biases alone. Running "
    .. "statistics are held while logits are differentiated.",
    "local r = probe.interpolation(function(x) return (x - 2) ^ 2 end, 0, 2, { points = 5 })\n"
    .. "print(r.monotone, r.largest_rise)\n-- > true\t-0.25",
    told(function(f, a, b, o)
      local what = "probe.interpolation"
      check(what, o, { "points", "bn", "tolerance", "gauss", "journal" })
      o = o or {}
      a, b = points.loaded(what, a), points.loaded(what, b)
      local p = path_of(what, f, a, b, { points = o.points, bn = o.bn, journal = o.journal }, 50)
      local bumps, largest = shape.rises(p.t, p.loss)
      local d = b - a
      local r = { path = p, bumps = bumps, largest_rise = largest, monotone = largest <= (o.tolerance or 0),
        distance = points.norm(d) }
      local examples = o.gauss or 0
      if examples > 0 then
        if core.kind(f) ~= "loss" then error(what .. ": gauss needs a loss of a network (net:loss)", 0) end
        local _, chunk = require "nn.loss".chunks_of(f.data, points.count(what, "gauss", examples, 1))
        local batch, run, lengths = chunk(1), turning(f.net), {}
        local still = {}
        for _, q in ipairs(f.net:params()) do
          if q.buffer then still[q.name] = tensor.zeros_like(a:tensor(q.name)) end
        end
        d = next(still) and core.with_values(d, still) or d
        local path = core.kind(o.journal) == "table" and o.journal.path or o.journal
        local draw <close> = progress(what, #p.t, "turns of the logits")
        local j <close> = journal.open(what, { points = o.points, gauss = examples, bn = o.bn,
          journal = path and path .. ".turning" }, { f, a, b }, draw)
        for i, t in ipairs(p.t) do
          lengths[i] = j.once({ i }, function()
            local theta = points.sum { { 1 - t, a }, { t, b } }
            if f.bn or o.bn and type(o.bn) ~= "string" then
              theta = eval.bn_reset(f.net, theta, type(o.bn) ~= "string" and o.bn or f.bn)
            end
            local length = run(theta, d, { x = batch.x, y = batch.y })
            return type(length) == "number" and length or length:item()
          end)
          draw(i)
        end
        local sum = 0
        for i = 1, #p.t - 1 do sum = sum + (p.t[i + 1] - p.t[i]) * (lengths[i] + lengths[i + 1]) / 2 end
        r.gauss_length, r.turning = sum, lengths
      end
      return new_interpolation(r)
    end))
end
