-- SPDX-License-Identifier: Apache-2.0
-- The region around and between models: losses of random points in the hull of several models, on its boundary, beyond
-- it and around it; and how far one can go from a model before the loss has risen.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local record = require "probe.record"
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local points = require "probe.points"(core)
  local hash = require "nn.net".hash
  local short = record.short

  local LEVELS = { 0, 0.05, 0.25, 0.5, 0.75, 0.95, 1 }

  -- A random vector with m's names and the given norm; buffers stay where they are.
  local function noise(m, seed, size)
    local list = {}
    for _, name in ipairs(m:names()) do
      local t, info = m:tensor(name), m:info(name)
      if t.dtype:find "f" then
        list[#list + 1] = { name, info.buffer and tensor.zeros_like(t)
          or tensor.normal(t.shape, seed * 1000003 + hash(name), { dtype = t.dtype }) }
      end
    end
    local r = model.new(list, { mass = 0 })
    return r * (size / points.norm(r))
  end

  -- Weights that are even over the simplex: exponential variables over their sum.
  local function dirichlet(n, seed)
    local u, w, sum = tensor.rand({ n }, seed, { dtype = "f64" }):totable(), {}, 0
    for k = 1, n do
      w[k] = -math.log(1 - u[k])
      sum = sum + w[k]
    end
    for k = 1, n do w[k] = w[k] / sum end
    return w
  end

  local function weighted(models, w)
    local terms = {}
    for k, m in ipairs(models) do terms[k] = { w[k], m } end
    return points.sum(terms)
  end

  -- make(s, k, seed) -> the model of sample k; s: models, mean, radius (each model's distance from the mean).
  local kinds = {}

  function kinds.hull(s, _, seed) return weighted(s.models, dirichlet(#s.models, seed)) end

  function kinds.boundary(s, k, seed) -- a face: one model has no part, each in turn
    local n = #s.models
    local w, out = dirichlet(n - 1, seed), (k - 1) % n + 1
    table.insert(w, out, 0)
    return weighted(s.models, w)
  end

  function kinds.ray(s, k, seed) -- as far again beyond a model, seen from the mean, at most
    local far = 1 + tensor.rand({ 1 }, seed, { dtype = "f64" }):item()
    local m = s.models[(k - 1) % #s.models + 1]
    return points.sum { { 1 - far, s.mean }, { far, m } }
  end

  function kinds.ball(s, k, seed) -- in so many dimensions a ball is its surface
    return s.mean + noise(s.mean, seed, s.radius[(k - 1) % #s.models + 1])
  end

  function kinds.noise(s, k, seed)
    local i = (k - 1) % #s.models + 1
    return s.models[i] + noise(s.mean, seed, s.radius[i])
  end

  local order = { "hull", "boundary", "ray", "ball", "noise" }

  local new_region = record.kind("region", {
    text = function(r)
      local rows = {}
      local function row(name, q, below)
        rows[#rows + 1] = { name, short(q[1]), short(q[3]), short(q[4]), short(q[5]), short(q[7]),
          below and ("%.0f %%"):format(100 * below) or "" }
      end
      row("the models", points.quantiles(r.models, LEVELS))
      for _, name in ipairs(order) do
        if r.samples[name] then row(name, r.quantiles[name], r.below[name]) end
      end
      local head = { "", "least", "quarter", "median", "three quarters", "most", "below " .. short(r.threshold) }
      return ("losses around %d models, %d samples a kind; the mean has %s\n"):format(#r.models, r.n, short(r.mean))
        .. record.columns(head, rows)
    end,
    rows = function(r)
      local rows = {}
      for k, v in ipairs(r.models) do rows[#rows + 1] = { "model", k, v } end
      for _, name in ipairs(order) do
        for k, v in ipairs(r.samples[name] or {}) do rows[#rows + 1] = { name, k, v } end
      end
      return { "kind", "sample", "loss" }, rows
    end,
    plot = function(r, o)
      local series = { ylabel = "loss", xlabel = "share of the samples", title = o.title }
      for _, name in ipairs(order) do
        if r.samples[name] then series[#series + 1] = record.sorted(name, r.samples[name]) end
      end
      return plot.line(record.with(series, o))
    end,
  })

  define("probe.region", "probe.region(f, {a, b, …}, {n = 50, kinds = {\"hull\", \"boundary\", \"ray\", \"ball\", "
    .. "\"noise\"}, seed = 0, threshold =, bn =, journal =}) -> region",
    "Losses of random points around several models. Question: do they span a region whose inside is as good as they "
    .. "are (Gueta et al. 2023, arXiv:2302.04863), and where does it end?\n"
    .. "  kinds: \"hull\": even over the weights of convex combinations (Dirichlet 1); \"boundary\": the same with one "
    .. "model left out in turn; \"ray\": from the mean through a model and up to as far again beyond it; \"ball\": the "
    .. "mean plus a random direction as long as a model's distance from it; \"noise\": a model plus such a direction\n"
    .. "  threshold: losses below it are counted; that of the worst model unless said\n"
    .. "The record has samples, quantiles (0, 5, 25, 50, 75, 95, 100 %) and below by kind, models and mean (losses "
    .. "of these). Reading it: r:plot() shows sorted losses; a curve that stays at the models' own losses up to the "
    .. "right is a region that is filled. Cost: n passes a kind. Misleading: an even Dirichlet of many models stays "
    .. "near their mean; models of one fine-tuning run share a basin whatever one does.",
    "local function f(m) return (m[\"w\"] ^ 2):sum() end\n"
    .. "local function at(x, y) return model.new { { \"w\", tensor { x, y } } } end\n"
    .. "local r = probe.region(f, { at(1, 0), at(0, 1), at(-1, 0) }, { n = 20 })\n"
    .. "print(r.below.hull, r.below.ray)\n-- > 1.0\t0.0",
    told(function(f, list, o)
      local what = "probe.region"
      check(what, o, { "n", "kinds", "seed", "threshold", "bn", "journal" })
      expect(what, o, { kinds = "a table" })
      o = o or {}
      if core.kind(list) ~= "table" or #list < 2 then error(what .. ": expected a list of at least two models", 0) end
      local n, seed, chosen = points.count(what, "n", o.n or 50, 2), o.seed or 0, o.kinds or order
      local s = { models = {}, radius = {} }
      for k = 1, #list do
        local m = points.loaded(what, list[k], "model " .. k)
        if core.kind(m) ~= "model" then error(what .. ": expected models, got a " .. core.kind(m), 0) end
        s.models[k] = m
      end
      local even, prints = {}, {}
      for k = 1, #list do even[k] = 1 / #list end
      s.mean = weighted(s.models, even)
      for k, m in ipairs(s.models) do
        s.radius[k] = points.norm(m - s.mean)
        if o.journal then prints[k] = points.fingerprint(m) end
      end
      local e = points.open(what, f, { bn = o.bn, journal = o.journal, total = #chosen * n + #list + 1,
        identity = o.journal and { seed, points.fingerprint(f), prints } })
      e.like(s.models[1])
      local _ <close> = core.run(false)
      local r = { n = n, seed = seed, models = {}, samples = {}, quantiles = {}, below = {}, levels = LEVELS,
        radius = s.radius, bn = e.bn }
      for k, m in ipairs(s.models) do r.models[k] = e.at(m, { "model", k }).loss end
      r.mean = e.at(s.mean, { "mean" }).loss
      r.threshold = o.threshold or math.max(table.unpack(r.models))
      for _, kind in ipairs(chosen) do
        local make = kinds[kind]
        if not make then
          error(("%s: kinds: %q; expected %s"):format(what, tostring(kind), table.concat(order, ", ")), 0)
        end
        local values, below = e.all(n, function(k)
          return function() return make(s, k, seed * 1000003 + hash(kind .. "#" .. k)) end, { kind, k }
        end), 0
        for k = 1, n do
          values[k] = values[k].loss
          if values[k] <= r.threshold then below = below + 1 end
        end
        r.samples[kind], r.quantiles[kind], r.below[kind] = values, points.quantiles(values, LEVELS), below / n
      end
      return new_region(r)
    end))

  -- ---- how far ----

  local new_radius = record.kind("radius", {
    text = function(r)
      local q = points.quantiles(r.radius, { 0, 0.5, 1 })
      return ("radius of a rise by %s: median %s of %d directions (least %s, most %s), mean of log %s%s"):format(
        short(r.rise), short(q[2]), #r.radius, short(q[1]), short(q[3]), short(r.mean_log),
        r.open > 0 and ("; %d did not rise within %s"):format(r.open, short(r.most)) or "")
    end,
    rows = function(r)
      local rows = {}
      for k, v in ipairs(r.radius) do rows[k] = { k, v } end
      return { "direction", "radius" }, rows
    end,
    plot = function(r, o)
      return plot.line(record.with({ record.sorted("radius", r.radius), title = "radius of a rise by "
        .. short(r.rise), xlabel = "share of the directions", ylabel = "radius" }, o))
    end,
  })

  define("probe.radius", "probe.radius(f, theta, {rise = 0.1, directions = 10, first = 0.05, factor = 1.5, most = 10, "
    .. "tolerance = 0.001, norm = \"filter\", bias = \"zero\", seed = 0, bn =, journal =}) -> radius",
    "How far from theta the loss has risen by `rise`, along random directions (probe.direction). Question: how wide is "
    .. "the basin? From `first` steps grow by `factor` until the loss is above f(theta) + rise, then the last step is "
    .. "halved to the relative tolerance. The record has radius (one a direction, in units of the direction), mean_log "
    .. "(times the number of parameters a stand-in for the log volume), open (directions that did not rise within "
    .. "`most`, which count as `most`). journal: a file that keeps directions as they are done.\n"
    .. "Reading it: r:plot() shows the radii from the least up; a flat curve is a round basin. Cost: about 15 "
    .. "passes a direction. Misleading: random directions are nearly all flat, the sharp ones are few (see "
    .. "curvature); a wall that is thinner than a step is stepped over; units are the direction's, so compare with "
    .. "norm = \"filter\" only.",
    "local theta = model.new { { \"w\", tensor { {3, 4} } } }\n"
    .. "local r = probe.radius(function(m) return ((m - theta)[\"w\"] ^ 2):sum() end, theta, { rise = 1 })\n"
    .. "print(math.abs(r.radius[1] - 0.2) < 1e-3)\n-- > true",
    told(function(f, theta, o)
      local what = "probe.radius"
      check(what, o, { "rise", "directions", "first", "factor", "most", "tolerance", "norm", "bias", "seed", "bn",
        "journal" })
      expect(what, o, { most = "a number" })
      o = o or {}
      theta = points.loaded(what, theta)
      local rise, n, most = o.rise or 0.1, points.count(what, "directions", o.directions or 10, 1), o.most or 10
      local first, factor, tolerance = o.first or 0.05, o.factor or 1.5, o.tolerance or 1e-3
      if rise <= 0 or first <= 0 or factor <= 1 or tolerance <= 0 then
        error(what .. ": rise, first and tolerance are above 0, factor above 1", 0)
      end
      local e = points.open(what, f, { bn = o.bn })
      e.like(theta)
      local start = e.at(theta).loss
      local r = { rise = rise, radius = {}, open = 0, most = most, loss = start, seed = o.seed or 0 }
      local draw <close> = progress(what, n, "directions")
      local j <close> = journal.open(what, o, { f, theta }, draw)
      -- How far along direction k; and whether the loss did not rise within `most`.
      local function along(k)
        local d = probe.direction(theta, { seed = (o.seed or 0) * 65537 + k, norm = o.norm, bias = o.bias })
        local function inside(s) return e.at(theta + s * d).loss <= start + rise end
        local low, high = 0.0, first
        while high < most and inside(high) do low, high = high, high * factor end
        if high >= most and inside(most) then return { radius = most + 0.0, open = true } end
        high = math.min(high, most)
        while high - low > tolerance * high do
          local middle = (low + high) / 2
          if inside(middle) then low = middle else high = middle end
        end
        return { radius = (low + high) / 2, open = false }
      end
      local sum = 0
      for k = 1, n do
        local one = j.once({ k }, function() return along(k) end)
        r.radius[k], r.open = one.radius, r.open + (one.open and 1 or 0)
        sum = sum + math.log(r.radius[k])
        draw(k)
      end
      r.mean_log = sum / n
      return new_radius(r)
    end))
end
