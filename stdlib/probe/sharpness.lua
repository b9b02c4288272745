-- SPDX-License-Identifier: Apache-2.0
-- How far the loss rises near a point: in the worst direction, after one step up, on the average. Searches go in the
-- variable z of theta + s * z, with s = 1 or |theta| (adaptive: it does not change when a ReLU network's weights are
-- rescaled without changing its outputs), so that every ball is a ball in z.
return function(define, check, core, told, whole)
  local expect = require "expect"(core.kind)
  local operator = require "probe.operator"(core)
  local objective = require "probe.objective"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local record = require "probe.record"

  local function positive(what, o, name, default)
    local v = o[name]
    if v == nil then return default end
    if type(v) ~= "number" or not (v > 0 and v < math.huge) then
      error(("%s: %s is a number above 0, got %s"):format(what, name, tostring(v)), 0)
    end
    return v
  end

  local function scale_of(f, adaptive, eta) return adaptive and f.centre:abs() + (eta or 0) or nil end
  local function scaled(s, z) return s and s * z or z end

  -- ---- balls in z ----

  local norms = {
    -- project(z), ascend(u) -> the step of length rho that u asks for
    l2 = function(rho)
      return function(z)
        local size = z:norm()
        return size > rho and z * (rho / size) or z
      end, function(u) return u * (rho / math.max(u:norm(), 1e-300)) end
    end,
    linf = function(rho)
      return function(z) return z:clamp(-rho, rho) end, function(u) return u:sign() * rho end
    end,
  }

  local function norm_of(what, o)
    local norm = o.norm or "l2"
    if not norms[norm] then error(('%s: norm = %q; expected "l2" or "linf"'):format(what, tostring(norm)), 0) end
    return norm
  end

  -- Projected ascent from z: a step that gains doubles the next, one that does not is halved. The value never falls.
  -- loop: of a journal.
  local function climb(value_and_slope, z, project, ascend, steps, loop)
    local s = loop.state
    if not s then
      local v, u = value_and_slope(z)
      s = { done = 0, z = z, best = v, slope = u, length = 1.0 }
    end
    for k = s.done + 1, steps do
      local next_ = project(s.z + ascend(s.slope) * s.length)
      local v, u = value_and_slope(next_)
      if v > s.best then
        s = { done = k, z = next_, best = v, slope = u, length = math.min(2 * s.length, 64) }
      else
        s.done, s.length = k, s.length / 2
        if s.length < 1e-7 then break end
      end
      loop.keep(function() return s end)
    end
    return s.best, s.z
  end

  -- The numbers of steps after which auto-PGD looks back: 22 % of all, then ever closer, 6 % at least.
  local function looks(steps)
    local set, at, before = {}, 0.22, 0
    while at <= 1 do
      set[math.ceil(at * steps)] = true
      at, before = at + math.max(at - before - 0.03, 0.06), at
    end
    return set
  end

  -- Auto-PGD (Croce, Hein 2020, arXiv:2003.01690): steps with momentum, of length 2 rho at first, halved and begun anew
  -- at the best place where fewer than three quarters of the last ones gained, or none did better than all before.
  local function auto_pgd(value_and_slope, z, project, ascend, steps, loop)
    local s, look = loop.state, looks(steps)
    if not s then
      local v, u = value_and_slope(z)
      s = { done = 0, z = z, before = z, value = v, slope = u, best = v, where = z, there = u, length = 2.0, gains = 0,
        seen = 0, best_seen = v, halved = true }
    end
    for k = s.done + 1, steps do
      local next_ = project(s.z + ascend(s.slope) * s.length)
      if k > 1 then next_ = project(s.z + 0.75 * (next_ - s.z) + 0.25 * (s.z - s.before)) end
      local v, u = value_and_slope(next_)
      s.gains = s.gains + (v > s.value and 1 or 0)
      s.before, s.z, s.value, s.slope, s.done = s.z, next_, v, u, k
      if v > s.best then s.best, s.where, s.there = v, next_, u end
      if look[k] then
        local few = s.gains < 0.75 * (k - s.seen)
        local still = not s.halved and s.best_seen == s.best
        s.halved = few or still
        if s.halved then
          s.length, s.z, s.value, s.slope = s.length / 2, s.where, s.best, s.there
        end
        s.gains, s.seen, s.best_seen = 0, k, s.best
      end
      loop.keep(function() return s end)
    end
    return s.best, s.where
  end

  local climbs = { ascent = climb, apgd = auto_pgd }

  local function method_of(what, o)
    local method = o.method or "ascent"
    if not climbs[method] then
      error(('%s: method = %q; expected "ascent" or "apgd"'):format(what, tostring(method)), 0)
    end
    return climbs[method]
  end

  -- The starts: the gradient, what the caller names, random directions.
  local function starts_of(f, s, slope, ascend, o)
    local list = { ascend(slope) }
    for _, v in ipairs(o.directions or {}) do
      local z = s and v / tensor.where(s:gt(0), s, 1) or v
      list[#list + 1] = ascend(z)
      list[#list + 1] = -ascend(z)
    end
    for k = 1, o.restarts do list[#list + 1] = ascend(operator.signs(f, o.seed, k)) end
    return list
  end

  -- o: climb, adaptive, steps, and what starts_of takes; j, key: where in a journal.
  local function worst_of(f, rho, norm, o, j, key)
    local s = scale_of(f, o.adaptive)
    local project, ascend = norms[norm](rho)
    local function value_and_slope(z)
      local v, g = f.both(scaled(s, z))
      return v, scaled(s, g)
    end
    local zero = operator.signs(f, 0, 0) * 0
    local base, slope = value_and_slope(zero)
    local all, best, where = {}, base, zero -- no step is in the ball too
    for k, z in ipairs(starts_of(f, s, slope, ascend, o)) do
      local got = j.loop({ key, "start", k }, function(loop)
        local v, at = o.climb(value_and_slope, z, project, ascend, o.steps, loop)
        return { value = v, at = at }
      end)
      all[k] = got.value - base
      if got.value > best then best, where = got.value, got.at end
    end
    return best - base, all, scaled(s, where), base
  end

  -- Directions of the caller as vectors.
  local function packed(what, f, directions)
    local flat_of = require "probe.flat"(core)
    local out = {}
    expect(what, { directions = directions }, { directions = "a table" })
    for i, m in ipairs(directions or {}) do
      local v = flat_of(what, m).pack(m)
      if v:numel() ~= f.n then
        error(("%s: directions[%d] has %d numbers, the parameters %d"):format(what, i, v:numel(), f.n), 0)
      end
      out[i] = v
    end
    return out
  end

  -- ---- records ----

  local function text_of(r)
    local n = r.parts and #r.parts or 1
    local what = {
      worst = ("worst %sloss in %s of radius %g: +%.6g (a lower bound; %d starts%s)"):format(
        r.adaptive and "adaptive " or "", r.norm == "linf" and "the box" or "the ball", r.rho or 0, r.value or 0,
        r.starts or 0, n > 1 and (", mean over %d parts"):format(n) or ""),
      sam = ("one step up the gradient, %srho = %g: +%.6g"):format(r.adaptive and "adaptive, " or "", r.rho or 0,
        r.value or 0),
      average = ("average rise of the loss, %s%s noise of size %g: %+.6g, standard error %.2g (%d draws)"):format(
        r.adaptive and "adaptive " or "", r.norm == "linf" and "uniform" or "Gaussian", r.rho or 0, r.value or 0,
        r.error or 0, r.draws and #r.draws or 0),
      keskar = ("epsilon-sharpness, epsilon = %g: %.6g (a lower bound)"):format(r.epsilon or 0, r.value or 0),
    }
    return what[r.kind]
  end

  local sharpness_record = record.kind("sharpness", {
    text = text_of,
    rows = function(r)
      local rows = {}
      for i, v in ipairs(r.draws or r.parts or { r.value }) do rows[i] = { i, v } end
      return { r.draws and "draw" or "part", "rise" }, rows
    end,
    plot = function(r, o) -- the draws, the parts, or what the starts reached
      local of = r.draws and "draws" or r.parts and #r.parts > 1 and "parts" or r.rises and "starts"
      if not of then error("record:plot: one number makes no picture", 0) end
      return plot.line(record.with({ record.sorted("rise of the loss", r.draws or of == "parts" and r.parts or r.rises),
        xlabel = "share of the " .. of, ylabel = "rise of the loss" }, o))
    end,
  })

  local function mean(list)
    local sum = 0
    for _, v in ipairs(list) do sum = sum + v end
    return sum / #list
  end

  -- ---- worst case ----

  local function sharpness(f, theta, o)
    local what = "probe.sharpness"
    check(what, o, { "rho", "norm", "adaptive", "method", "restarts", "steps", "seed", "m", "only", "directions",
      "journal" })
    o = o or {}
    local rho, norm = positive(what, o, "rho", 0.05), norm_of(what, o)
    local parts = objective.parts(what, f, theta, o.only, o.m)
    local draw <close> = progress(what, #parts, "parts")
    local how = { climb = method_of(what, o), adaptive = o.adaptive, restarts = whole(what, o, "restarts", 0, 4),
      steps = whole(what, o, "steps", 1, 100), seed = whole(what, o, "seed", 0, 0),
      directions = packed(what, parts[1], o.directions) }
    local r = { kind = "worst", rho = rho, norm = norm, adaptive = o.adaptive and true or false, seed = how.seed,
      m = o.m, parts = {}, bound = "lower" }
    local j <close> = journal.open(what, o, { f, theta }, draw)
    if #parts == 1 then
      local rise, all, where, base = worst_of(parts[1], rho, norm, how, j, 1)
      r.parts[1], r.starts, r.rises, r.loss, r.direction = rise, #all, all, base, parts[1].unpack(where)
      draw(1)
    else
      for k, part in ipairs(parts) do
        local one = j.once({ "part", k }, function()
          local rise, all = worst_of(part, rho, norm, how, journal.none)
          return { rise = rise, starts = #all }
        end)
        r.parts[k], r.starts = one.rise, one.starts
        draw(k)
      end
    end
    r.value = mean(r.parts)
    return sharpness_record(r)
  end

  -- ---- one step ----

  local function sam(f, theta, o)
    local what = "probe.sam"
    check(what, o, { "rho", "adaptive", "eta", "m", "only" })
    o = o or {}
    local rho = positive(what, o, "rho", o.adaptive and 0.5 or 0.05)
    if o.eta ~= nil and not (type(o.eta) == "number" and o.eta >= 0) then
      error(what .. ": eta is a number from 0", 0)
    end
    local r = { kind = "sam", rho = rho, adaptive = o.adaptive and true or false, eta = o.eta, m = o.m, parts = {} }
    for k, part in ipairs(objective.parts(what, f, theta, o.only, o.m)) do
      local s = scale_of(part, o.adaptive, o.eta)
      local base, g = part.both()
      local u = scaled(s, g)
      local size = u:norm()
      local d = size > 0 and scaled(s, u) * (rho / size) or u
      r.parts[k] = part.value(d) - base
      if k == 1 then r.loss, r.direction = base, part.unpack(d) end
    end
    if #r.parts > 1 then r.loss, r.direction = nil, nil end
    r.value = mean(r.parts)
    return sharpness_record(r)
  end

  -- ---- on the average ----

  local function average(f, theta, o)
    local what = "probe.average_sharpness"
    check(what, o, { "rho", "norm", "adaptive", "samples", "seed", "only", "journal" })
    o = o or {}
    local rho, norm = positive(what, o, "rho", 0.05), norm_of(what, o)
    local samples, seed = whole(what, o, "samples", 2, 100), whole(what, o, "seed", 0, 0)
    local f_ = objective.of(what, f, theta, o.only)
    local s, base = scale_of(f_, o.adaptive), f_.value()
    local draw <close> = progress(what, samples, "draws")
    local j <close> = journal.open(what, o, { f, theta }, draw)
    local draws = {}
    for k = 1, samples do
      draws[k] = j.once({ k }, function()
        local at = seed + 1000003 * k
        local z = norm == "l2" and tensor.normal({ f_.n }, at, { dtype = f_.dtype })
          or 2 * tensor.uniform({ f_.n }, at, { dtype = f_.dtype }) - 1
        return f_.value(scaled(s, z) * rho) - base
      end)
      draw(k)
    end
    local value, squares = mean(draws), 0
    for _, v in ipairs(draws) do squares = squares + (v - value) ^ 2 end
    return sharpness_record { kind = "average", rho = rho, norm = norm, adaptive = o.adaptive and true or false,
      seed = seed, loss = base, value = value, error = math.sqrt(squares / (samples - 1) / samples), draws = draws }
  end

  -- ---- Keskar's ----

  -- theta + A z with a random A of p columns: the box is about z's own share of theta, A+ theta.
  local function within(what, f, p, seed)
    operator.fits(what, f.n, f.dtype, p, 8, "basis")
    local a = tensor.normal({ p, f.n }, seed + 7919, { dtype = f.dtype })
    local coordinates = a:to "f64":matmul(a:to "f64":t()):solve(a:matmul(f.centre):to "f64"):to(f.dtype)
    return { n = p, dtype = f.dtype, centre = coordinates, value = function(z) return f.value(z:matmul(a)) end,
      both = function(z)
        local v, g = f.both(z:matmul(a))
        return v, a:matmul(g)
      end }
  end

  local function keskar(f, theta, o)
    local what = "probe.epsilon_sharpness"
    check(what, o, { "epsilon", "basis", "restarts", "steps", "seed", "only", "journal" })
    o = o or {}
    local epsilon, seed = positive(what, o, "epsilon", 1e-3), whole(what, o, "seed", 0, 0)
    local inner = objective.of(what, f, theta, o.only)
    if o.basis then inner = within(what, inner, whole(what, o, "basis", 1), seed) end
    local s = inner.centre:abs() + 1
    local project, ascend = norms.linf(epsilon)
    local function value_and_slope(z)
      local v, g = inner.both(s * z)
      return v, s * g
    end
    local base, slope = value_and_slope(s * 0)
    local how = { restarts = whole(what, o, "restarts", 0, 4), seed = seed }
    local best, steps, rises = -math.huge, whole(what, o, "steps", 1, 100), {}
    local draw <close> = progress(what, how.restarts + 1, "starts")
    local j <close> = journal.open(what, o, { f, theta }, draw)
    for k, z in ipairs(starts_of(inner, nil, slope, ascend, how)) do
      local v = j.loop({ "start", k }, function(loop)
        return (climb(value_and_slope, z, project, ascend, steps, loop))
      end)
      best, rises[k] = math.max(best, v), v - base
      draw(k)
    end
    return sharpness_record { kind = "keskar", epsilon = epsilon, basis = o.basis, seed = seed, loss = base,
      most = best, value = 100 * (best - base) / (1 + base), rises = rises, bound = "lower" }
  end

  local made = "local function f(x) return (x * x * tensor { 4, 1 }):sum() / 2 end\nlocal theta = tensor { 0, 0 }\n"

  define("probe.sharpness",
    "probe.sharpness(f, theta, {rho = 0.05, norm = \"l2\", adaptive = false, method = \"ascent\", m =, restarts = 4, "
    .. "steps = 100, seed = 0, only =, directions =, journal =}) -> record",
    "How far can the loss rise within reach? The largest f(theta + d) - f(theta) that was found with |d| <= rho "
    .. "(r.value), by projected ascent from the gradient, from random directions and from those you name. It is a "
    .. "lower bound: "
    .. "nobody can say that there is no higher place.\n"
    .. "  f: net:loss(data), or a function that grad can differentiate\n"
    .. "  norm: \"l2\", or \"linf\": every entry by at most rho\n"
    .. "  adaptive: |d / theta| <= rho instead, so that rescaling a ReLU network's weights without changing its "
    .. "outputs "
    .. "changes nothing (Kwon et al. 2021, arXiv:2102.11600; Andriushchenko et al. 2023, arXiv:2302.07011); "
    .. "weights that are zero stay so\n"
    .. "  m: the mean over parts of m rows, each with a worst place of its own (m-sharpness; Foret et al. 2020, "
    .. "arXiv:2010.01412); larger than that of all data at once\n"
    .. "  method: \"ascent\": steps that gain are doubled, others halved and taken back; \"apgd\": auto-PGD with "
    .. "momentum (Croce, Hein 2020, arXiv:2003.01690), as Andriushchenko et al. have it with 20 steps for parts of "
    .. "m = 128 rows\n"
    .. "  restarts: random starts; steps: of each, a gradient over the data; directions: models to start along, "
    .. "both ways, "
    .. "such as eigenvectors\n"
    .. "  only: what may move, as in m:only; journal: a file that keeps what is done, so that a stopped run goes on\n"
    .. "Reading it: r.rises has what each start reached, r.direction the best d; agreement of the starts is the "
    .. "only sign that it is the top. At a minimum it is about rho² / 2 times the top eigenvalue. Cost: a gradient "
    .. "for each step of each start. Where it misleads: sharpness in any form correlates poorly with generalisation "
    .. "between modern networks (Andriushchenko et al. 2023): it describes, it does not rank.",
    made .. "print((\"%.4f\"):format(probe.sharpness(f, theta, { rho = 0.1 }).value))\n-- > 0.0200",
    told(sharpness))

  define("probe.sam", "probe.sam(f, theta, {rho =, adaptive = false, eta = 0, m =, only =}) -> record",
    "What does sharpness-aware training see? The rise of the loss after one step of length rho along the gradient, "
    .. "d = rho g / |g|; adaptive: d = rho T² g / |T g| with T = |theta| + eta (ASAM). Cost: one gradient and one "
    .. "value.\n"
    .. "  rho: 0.05, adaptive 0.5\n"
    .. "  f, m, only: as in probe.sharpness\n"
    .. "Foret et al. 2020, arXiv:2010.01412; Kwon et al. 2021, arXiv:2102.11600. Reading it: near rho |g| the loss "
    .. "is straight within rho, above it bends. Where it misleads: without adaptive it can be made as large as you "
    .. "like by rescaling layers; at a point with no gradient it says nothing.",
    made .. "print((\"%.4f\"):format(probe.sam(f, tensor { 1, 0 }, { rho = 0.1 }).value))\n-- > 0.4200",
    told(sam))

  define("probe.average_sharpness",
    "probe.average_sharpness(f, theta, {rho = 0.05, norm = \"l2\", adaptive = false, samples = 100, seed = 0, only "
    .. "=, journal =}) "
    .. "-> record",
    "How far does the loss rise under noise? The mean of f(theta + d) - f(theta) over d of independent entries, "
    .. "Gaussian of standard deviation rho (norm = \"l2\") or uniform within rho (\"linf\"); adaptive: times "
    .. "|theta| of the entry. r.value with its standard error r.error, r.draws with each draw. For small rho the "
    .. "Gaussian one is rho² / 2 times the trace of the Hessian. Andriushchenko et al. 2023, arXiv:2302.07011.\n"
    .. "Reading it: read differences against r.error; below it they say nothing. Cost: one value of f for each of "
    .. "the samples. Where it misleads: nearly all noise lies in flat directions, so a few sharp ones hardly show; "
    .. "without adaptive it changes under rescalings that change no output.",
    made .. "local r = probe.average_sharpness(f, theta, { rho = 0.1, samples = 200 })\n"
    .. "print(math.abs(r.value - 0.025) < 4 * r.error)\n-- > true", told(average))

  define("probe.epsilon_sharpness",
    "probe.epsilon_sharpness(f, theta, {epsilon = 1e-3, basis =, restarts = 4, steps = 100, seed = 0, only =, "
    .. "journal =}) -> record",
    "How far does the loss rise within a small box, relative to the loss? Keskar's sharpness: 100 (max f - "
    .. "f(theta)) / (1 + f(theta)) over the box |d_i| <= epsilon (|theta_i| + 1), in percent (r.value; Keskar et "
    .. "al. 2016, arXiv:1609.04836), by projected ascent, so a lower bound.\n"
    .. "  basis: so many random directions instead of all, d = A z with |z_i| <= epsilon (|(A+ theta)_i| + 1)\n"
    .. "Reading it: compare runs of one network, as large batches against small ones. Cost: a gradient for each "
    .. "step of each start. Where it misleads: the + 1 makes it depend on the scale of the weights (Dinh et al. "
    .. "2017, arXiv:1703.04933).",
    made .. "print((\"%.6f\"):format(probe.epsilon_sharpness(f, theta, { epsilon = 0.1 }).value))\n-- > 2.500000",
    told(keskar))
end
