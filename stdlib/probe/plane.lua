-- SPDX-License-Identifier: Apache-2.0
-- A loss over a plane of parameter space: through three models, along random directions scaled like the weights, along
-- the principal components of a trajectory, or along directions that are given (eigenvectors). A cell is one pass of a
-- compiled function over examples that are ready in memory, on one processor, with other cells beside it; its bits do
-- not depend on that.
return function(define, check, core)
  local told = require "nn.told"
  local record = require "probe.record"
  local points = require "probe.points"(core)
  local hash = require "nn.net".hash
  local expect = require "expect"(core.kind)
  local short = record.short

  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end

  -- ---- directions ----

  -- How each part of a drawn direction is scaled to the weights: w and d are f64.
  local function axes_but_first(t)
    local list = {}
    for k = 2, t.rank do list[#list + 1] = k end
    return list
  end
  local function norms(t, rows)
    if rows and t.rank > 1 then return (t * t):sum { dim = axes_but_first(t), keepdim = true }:sqrt() end
    return math.sqrt((t * t):sum())
  end
  local scalings = {
    filter = function(d, w) return d * (norms(w, true) / (norms(d, true) + 1e-10)) end,
    layer = function(d, w) return d * (norms(w) / (norms(d) + 1e-10)) end,
    weight = function(d, w) return d * w end,
    dfilter = function(d) return d / (norms(d, true) + 1e-10) end,
    dlayer = function(d) return d / (norms(d) + 1e-10) end,
    none = function(d) return d end,
  }

  local function scaling_of(what, norm)
    local known = scalings[norm]
    if not known then
      fail(what, "norm = %q; expected \"filter\", \"layer\", \"weight\", \"dfilter\", \"dlayer\" or \"none\"",
        tostring(norm))
    end
    return known
  end

  local floating = require "floating"

  -- o: norm, bias, seed, from (a direction that is scaled instead of a drawn one).
  local function direction(what, theta, o)
    expect.one(what, nil, theta, "a model")
    expect(what, o, { from = "a model" })
    local scaled, bias, list = scaling_of(what, o.norm or "filter"), o.bias or "zero", {}
    if bias ~= "zero" and bias ~= "copy" and bias ~= "free" then
      fail(what, "bias = %q; expected \"zero\", \"copy\" or \"free\"", tostring(bias))
    end
    for _, name in ipairs(theta:names()) do
      local w, info = theta:tensor(name), theta:info(name)
      if floating[w.dtype] then
        local d
        local small = w.rank <= 1
        if info.buffer or small and bias == "zero" then d = tensor.zeros_like(w)
        elseif small and bias == "copy" then d = w
        else
          local v = o.from and o.from:tensor(name):to "f64"
            or tensor.normal(w.shape, (o.seed or 0) * 1000003 + hash(name), { dtype = "f64" })
          d = scaled(v, w:to "f64"):to(w.dtype)
        end
        list[#list + 1] = { name, d }
      end
    end
    return model.new(list, { mass = 0 })
  end

  local conventions = "  norm: \"filter\": every row of a matrix and every output channel of a convolution (first "
    .. "axis) gets the norm of the weight's; \"layer\": every tensor; \"weight\": times the weight; \"dfilter\", "
    .. "\"dlayer\": norm 1; \"none\"\n"
    .. "  bias: what tensors of one axis get: \"zero\", \"copy\" (theta's own values, so that they move radially) or "
    .. "\"free\" (as others). Buffers get zero\n"

  define("probe.direction", "probe.direction(theta, {seed = 0, norm = \"filter\", bias = \"zero\", from =}) -> vector",
    "A random direction with the scale of the weights (Li et al. 2018, arXiv:1712.09913), for probe.plane and to ask "
    .. "along lines: how wide is the valley for weights of this size? probe.path(f, { curve = function(t) return "
    .. "theta + t * d end, t = … }). Rescaling a relu network's layers against each other leaves a "
    .. "filter-normalised slice as it is. Each tensor follows from seed and its name.\n"
    .. conventions .. "  from: a vector that is scaled instead of a drawn one\n"
    .. "Reading it: t = 1 moves every filter by its own norm. Cost: one vector. Misleading: most random directions "
    .. "are flat; the sharp ones are eigenvectors (probe.eigenvalues).",
    "local d = probe.direction(nn.mlp { 2, 3, 1 }:init { seed = 1 }, { seed = 1 })\n"
    .. "print(d:mass(), d[\"fc1.bias\"]:sum())\n-- > 0.0\t0.0",
    told(function(theta, o)
      local what = "probe.direction"
      check(what, o, { "seed", "norm", "bias", "from" })
      if core.kind(theta) ~= "model" then fail(what, "expected a model, got %s", core.kind(theta)) end
      return direction(what, theta:load(), o or {})
    end))

  -- Coordinates of v in the span of d1, d2 (which need not be orthogonal), and the norm of what lies outside.
  local function project(v, g, d1, d2)
    local p, q = points.dot(v, d1), points.dot(v, d2)
    local x, y = (g[3] * p - g[2] * q) / g.det, (g[1] * q - g[2] * p) / g.det
    local inside = x * p + y * q
    return x, y, math.sqrt(math.max(points.dot(v, v) - inside, 0))
  end

  local function gram_of(what, d1, d2)
    local g = { points.dot(d1, d1), points.dot(d1, d2), points.dot(d2, d2) }
    g.det = g[1] * g[3] - g[2] * g[2]
    g.cosine = g[2] / math.sqrt(g[1] * g[3])
    if g.det ~= g.det or g.det <= 1e-12 * g[1] * g[3] then
      fail(what, "the two directions are parallel (or one is zero)")
    end
    return g
  end

  -- ---- the kinds of plane ----

  -- Each gives {centre, d1, d2, xlim, ylim, marks = { {label, model}, … }, labels}.
  local kinds = {}

  function kinds.through(what, list)
    if #list ~= 3 then fail(what, "a plane goes through three models; %d are given (pca = true for more)", #list) end
    local a, u, v = list[1], list[2] - list[1], list[3] - list[1]
    local dx = points.norm(u)
    if dx == 0 then fail(what, "the first two models are equal") end
    u = u * (1 / dx)
    local along = points.dot(v, u)
    v = v - along * u
    local dy = points.norm(v)
    if dy ~= dy or dy <= 1e-6 * dx then fail(what, "the three models lie on a line") end
    v = v * (1 / dy)
    local low, high = math.min(0, along), math.max(dx, along)
    return { centre = a, d1 = u, d2 = v, xlim = { low - 0.2 * (high - low), high + 0.2 * (high - low) },
      ylim = { -0.2 * dy, 1.2 * dy }, marks = { { "a", a }, { "b", list[2] }, { "c", list[3] } },
      xlabel = "distance along b - a", ylabel = "distance across" }
  end

  function kinds.random(what, theta, o)
    local seed = o.seed or 0
    local made = { norm = o.norm, bias = o.bias, seed = 2 * seed }
    local d1 = direction(what, theta, made)
    made.seed = 2 * seed + 1
    return { centre = theta, d1 = d1, d2 = direction(what, theta, made), xlim = { -1, 1 }, ylim = { -1, 1 },
      marks = { { "centre", theta } }, xlabel = "random direction 1", ylabel = "random direction 2" }
  end

  function kinds.given(what, theta, o)
    local d = o.directions
    if type(d) ~= "table" or #d ~= 2 then fail(what, "directions is a list of two vectors") end
    return { centre = theta, d1 = points.loaded(what, d[1]), d2 = points.loaded(what, d[2]), xlim = { -1, 1 },
      ylim = { -1, 1 }, marks = { { "centre", theta } }, xlabel = "direction 1", ylabel = "direction 2" }
  end

  -- Principal components of the rows theta_t - theta_T, centred, from their Gram matrix.
  function kinds.pca(what, list)
    local n = #list
    if n < 3 then fail(what, "pca = true needs a list of at least three models") end
    local last, rows, g = list[n], {}, {}
    for t = 1, n do rows[t] = list[t] - last end
    for i = 1, n do
      g[i] = g[i] or {}
      for j = 1, i do
        local v = (i == n or j == n) and 0.0 or points.dot(rows[i], rows[j])
        g[i][j], g[j] = v, g[j] or {}
        g[j][i] = v
      end
    end
    local h = tensor.eye(n, n, { dtype = "f64" }) - 1 / n
    local values, vectors = h:matmul(tensor(g, { dtype = "f64" })):matmul(h):eigh()
    values, vectors = values:totable(), vectors:totable()
    local total, dirs = 0, {}
    for _, v in ipairs(values) do total = total + math.max(v, 0) end
    for k = 1, 2 do
      local value, terms = values[n + 1 - k], {}
      if value ~= value or value <= 1e-12 * total then
        fail(what, "the models lie on a line: there is no second component")
      end
      for t = 1, n do terms[t] = { vectors[t][n + 1 - k] / math.sqrt(value), rows[t] } end
      dirs[k] = points.sum(terms)
    end
    local marks = {}
    for t, m in ipairs(list) do marks[t] = { tostring(t - 1), m } end
    local function share(k) return math.max(values[n + 1 - k], 0) / total end
    return { centre = last, d1 = dirs[1], d2 = dirs[2], marks = marks, trail = true, explained = { share(1), share(2) },
      xlabel = ("1st component: %.1f %%"):format(100 * share(1)),
      ylabel = ("2nd component: %.1f %%"):format(100 * share(2)) }
  end

  -- ---- the record ----

  local function fields_of(p)
    local list = {}
    for name, v in pairs(p) do
      if type(v) == "table" and #v == #p.x and type(v[1]) == "table" and #v[1] == #p.y then list[#list + 1] = name end
    end
    table.sort(list, function(x, y)
      if (x == "loss") ~= (y == "loss") then return x == "loss" end
      return x < y
    end)
    return list
  end

  local new_plane = record.kind("plane", {
    text = function(p)
      local low, high = math.huge, -math.huge
      for _, row in ipairs(p.loss) do
        for _, v in ipairs(row) do
          if v == v then low, high = math.min(low, v), math.max(high, v) end
        end
      end
      local out = { ("plane of %d x %d points (%s), loss %s to %s"):format(#p.x, #p.y, p.through, short(low),
        short(high)) .. (p.bn and p.bn ~= "none" and ", running statistics: " .. p.bn or "") }
      if p.explained then
        out[#out + 1] = ("components explain %.1f %% and %.1f %%"):format(100 * p.explained[1], 100 * p.explained[2])
      end
      if math.abs(p.cosine) > 1e-6 then out[#out + 1] = "cosine of the directions " .. short(p.cosine) end
      local rows, every = {}, math.max(1, math.ceil(#p.marks / 8)) -- of a long trajectory some
      for k = #p.marks, 1, -every do
        local m = p.marks[k]
        table.insert(rows, 1, { m.label, short(m.x), short(m.y), short(m.loss), short(m.loss_here), short(m.residual) })
      end
      if #rows > 0 then
        out[#out + 1] = record.columns({ "model", "x", "y", "its loss", "loss in the plane", "distance to it" }, rows)
      end
      return table.concat(out, "\n")
    end,
    rows = function(p)
      local names, rows = fields_of(p), {}
      for i, x in ipairs(p.x) do
        for j, y in ipairs(p.y) do
          local row = { x, y }
          for _, name in ipairs(names) do row[#row + 1] = p[name][i][j] end
          rows[#rows + 1] = row
        end
      end
      return { "x", "y", table.unpack(names) }, rows
    end,
    plot = function(p, o) return plot.plane(p, o) end,
    methods = { topology = function(p, o) return probe.topology(p, o) end },
  })

  local names = { "points", "xlim", "ylim", "x", "y", "seed", "norm", "bias", "directions", "pca", "mark", "bn",
    "journal" }

  local function axis(what, o, name, lim, n)
    if o[name] then return points.list(what, name, o[name]) end
    local v = o[name .. "lim"] or lim
    if type(v) ~= "table" or type(v[1]) ~= "number" or type(v[2]) ~= "number" or v[1] >= v[2] then
      fail(what, "%slim = {low, high}", name)
    end
    return points.evenly(v[1], v[2], n)
  end

  -- The models on the plane, with their own loss and, where they lie off it, the loss of their shadow.
  local function placed(e, s, g, list, at)
    local out = {}
    for k, pair in ipairs(list) do
      local x, y, off = project(pair[2] - s.centre, g, s.d1, s.d2)
      if off < 1e-5 * (math.sqrt(x * x * g[1] + y * y * g[3]) + 1e-30) or pair[2] == s.centre then off = 0.0 end
      local own = e.at(pair[2], { "mark", k })
      out[k] = { label = pair[1], x = x, y = y, residual = off, loss = own.loss, error = own.error,
        loss_here = off == 0 and own.loss or e.at(function() return at(x, y) end, { "shadow", k }).loss }
    end
    return out
  end

  -- Without other limits, a trajectory and room around it.
  local function around(marks, key)
    local low, high = math.huge, -math.huge
    for _, m in ipairs(marks) do low, high = math.min(low, m[key]), math.max(high, m[key]) end
    local room = 0.15 * (high - low)
    return { low - room, high + room }
  end

  local function setting_of(what, given, o)
    local list = type(given) == "table" and getmetatable(given) == nil and given or nil
    local kind = o.pca and "pca" or list and "through" or o.directions and "given" or "random"
    if (kind == "pca") and not list then fail(what, "pca = true takes a list of models") end
    local models = {}
    for k, m in ipairs(list or { given }) do
      models[k] = points.loaded(what, m, list and "model " .. k or "the centre")
      if core.kind(models[k]) ~= "model" then fail(what, "expected models, got a %s", core.kind(models[k])) end
    end
    if list and #list == 0 then fail(what, "there are no models") end
    local s = kinds[kind](what, list and models or models[1], o)
    s.kind, s.models = kind, models
    return s
  end

  define("probe.plane", "probe.plane(f, {a, b, c} or theta, {points = 21, xlim =, ylim =, x =, y =, seed = 0, norm = "
    .. "\"filter\", bias = \"zero\", directions =, pca = false, mark =, bn =, journal =}) -> plane",
    "f on a grid of a plane of parameter space. Question: what does the landscape around or between solutions look "
    .. "like?\n"
    .. "  {a, b, c}: the plane through three models (Garipov et al. 2018, arXiv:1802.10026), in units of distance, "
    .. "with a fifth of its extent around them\n"
    .. "  theta: through theta along two random directions (probe.direction) from -1 to 1; with directions = {d1, d2} "
    .. "along these\n"
    .. "  list of models, pca = true: along the two principal components of a trajectory, through its last model (Li "
    .. "et al. 2018, arXiv:1712.09913)\n" .. conventions
    .. "  points: on each axis, or {nx, ny}; xlim, ylim: {low, high}; x, y: the coordinates themselves\n"
    .. "  mark: { {\"label\", model}, … }, more models that are shown where they project\n"
    .. "  bn: as in probe.path; \"keep\" keeps the statistics of the centre, the convention around one minimum, and "
    .. "data make them anew, the right thing between models\n"
    .. "  journal: a file in which cells are kept as they come; a stopped run goes on where it ended\n"
    .. "The record has x, y, loss[i][j] at x[i], y[j], error and other numbers of f:report likewise, marks (with "
    .. "each model's own loss, the loss of its shadow and the distance between them), explained (pca); p:plot() "
    .. "shows it, p:topology() its merge tree, p:save \"x.csv\" or \"x.json\". Reading it: lines that stand close "
    .. "are steep; of a valley between two marks look at the lowest way, not at the straight one. Cost: a pass over "
    .. "the data a cell, near the speed of the network's products. Misleading: two of millions of directions; with "
    .. "other scalings than \"filter\" widths of valleys cannot be compared; what is drawn under a model that lies "
    .. "off the plane is not its loss (see marks); a trajectory's principal plane makes almost any run look like a "
    .. "curve into a bowl.",
    "local function f(m) return (m[\"w\"] ^ 2):sum() end\n"
    .. "local function at(x, y) return model.new { { \"w\", tensor { x, y } } } end\n"
    .. "local p = probe.plane(f, { at(0, 0), at(1, 0), at(0, 1) }, { x = { 0, 1, 2 }, y = { 0, 1 } })\n"
    .. "print(p.loss[3][2], p.marks[3].y)\n-- > 5.0\t1.0",
    told(function(f, given, o)
      local what = "probe.plane"
      check(what, o, names)
      o = o or {}
      local s = setting_of(what, given, o)
      local g = gram_of(what, s.d1, s.d2)
      local marks = { table.unpack(s.marks) }
      expect(what, o, { mark = "a table" })
      for k, pair in ipairs(o.mark or {}) do
        if type(pair) ~= "table" or type(pair[1]) ~= "string" then fail(what, "mark is { {\"label\", model}, … }") end
        marks[#marks + 1] = { pair[1], points.loaded(what, pair[2], "mark " .. k) }
      end
      if not s.xlim then
        local places = {}
        for k, pair in ipairs(marks) do
          local x, y = project(pair[2] - s.centre, g, s.d1, s.d2)
          places[k] = { x = x, y = y }
        end
        s.xlim, s.ylim = around(places, "x"), around(places, "y")
      end
      local n = o.points or 21
      local nx, ny = type(n) == "table" and n[1] or n, type(n) == "table" and n[2] or n
      local xs = axis(what, o, "x", s.xlim, points.count(what, "points", nx, 2))
      local ys = axis(what, o, "y", s.ylim, points.count(what, "points", ny, 2))
      local identity = o.journal and { xs, ys, points.fingerprint(f), points.fingerprint(s.centre),
        points.fingerprint(s.d1), points.fingerprint(s.d2), #marks, type(o.bn) == "string" and o.bn or o.bn ~= nil }
      local e = points.open(what, f, { bn = o.bn, journal = o.journal, identity = identity,
        total = #xs * #ys + #marks })
      e.like(s.centre)
      local _ <close> = core.run(false)
      local function at(x, y) return points.sum { { 1, s.centre }, { x, s.d1 }, { y, s.d2 } } end
      local p = { x = xs, y = ys, through = s.kind, bn = e.bn, cosine = g.cosine, explained = s.explained,
        trail = s.trail, xlabel = s.xlabel, ylabel = s.ylabel }
      local function place(k) return (k - 1) // #ys + 1, (k - 1) % #ys + 1 end
      local cells = e.all(#xs * #ys, function(k)
        local i, j = place(k)
        return function() return at(xs[i], ys[j]) end, { i, j }
      end)
      for k, cell in ipairs(cells) do
        local i, j = place(k)
        for name, v in pairs(cell) do
          p[name] = p[name] or {}
          p[name][i] = p[name][i] or {}
          p[name][i][j] = v
        end
      end
      p.n = p.n and p.n[1][1]
      p.marks = placed(e, s, g, marks, at)
      return new_plane(p)
    end))
end
