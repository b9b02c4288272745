-- SPDX-License-Identifier: Apache-2.0
-- probe.path, probe.barrier, probe.interpolation: reference lines in f64, every definition on sequences done by hand,
-- identities, curves, running statistics, journals, files, what is refused.
local check = dofile "tests/stdlib/bind/check.lua"
local lines = dofile "tests/stdlib/probe/lines.lua"
local near, point = lines.near, lines.point

-- ---- reference lines ----

for _, act in ipairs { "relu", "tanh" } do
  local c = lines.tiny(act)
  local w = c.want.line_to_other
  local b = probe.barrier(c.f, c.theta, c.other, { points = #w.t })
  near(b.path.t, w.t, 1e-15, "t")
  near(b.path.loss, w.loss, 1e-10, act .. " loss")
  near(b.path.error, w.error, 1e-12, act .. " error")
  for _, name in ipairs { "barrier_loss", "barrier_error", "instability_error", "mid_loss_excess", "argmax_t",
    "convexity_gap", "largest_rise" } do
    near(b[name], w[name], 1e-10, act .. " " .. name)
  end
  check.equal(b.bn, "none")
  check.equal(b.path.n, 48)
  -- the ends are the models, to the bit, and so is the whole for data in a set of tensors that is cut into chunks
  check.equal(b.path.loss[1], c.f(c.theta))
  check.equal(b.path.loss[#w.t], c.f(c.other))
  local cut = probe.path(c.net:loss({ x = c.f.data.x, y = c.f.data.y }, { batch = 7 }), c.theta, c.other, { points = 5 })
  near(cut.loss[3], w.loss[11], 1e-10, "in chunks")
end

-- ---- sequences by hand ----

-- A function whose values at x = 0, 1, 2, … are given.
local function through(values)
  return function(x) return values[math.floor(x + 0.5) + 1] end
end
local function path(values, o)
  o = o or {}
  o.points = #values
  return probe.path(through(values), 0, #values - 1, o)
end

do
  local b = path({ 1, 2, 4, 0, 3 }):barrier()
  -- chord 1, 1.5, 2, 2.5, 3: heights 0, .5, 2, -2.5, 0; hull 1, 0 (at 3), 3: chord at 2 is 1/3
  check.equal(b.barrier_loss, 2.0)
  check.equal(b.argmax_t, 0.5)
  check.equal({ b.max_loss, b.saddle, b.mid_loss_excess }, { 4, 1, 2.0 })
  check.equal({ b.mode_connectivity, b.argmax_mode_connectivity }, { -2.0, 0.5 })
  check.equal({ b.instability_loss, b.argmax_max_loss, b.saddle_error == nil }, { 2.0, 0.5, true })
  near(b.area, ((1 + 2) / 2 + (2 + 4) / 2 + 2 + 1.5) / 4 - 2, 1e-15, "area")
  near(b.convexity_gap, 4 - 1 / 3, 1e-15, "convexity gap")
  check.equal(b.largest_rise, 3)
  check.equal({ b < 3, b > 1, 2 <= b, b + 1, 10 - b, b * 2, 1 / b, -b }, { true, true, true, 3.0, 8.0, 4.0, 0.5, -2.0 })
  check.equal(tostring(b), "barrier 2 at t = 0.5 (middle +2)")
  check.equal(tostring(probe.barrier(b.path)), tostring(b))
end
do -- the deepest deviation counts with its sign; rises in order
  local b = path({ 2, 0, 1, 0.5, 3, 2 }):barrier()
  check.equal({ b.mode_connectivity, b.argmax_mode_connectivity }, { 2.0, 0.2 })
  local list, largest = path({ 2, 0, 1, 0.5, 0, 3, 2 }):rises()
  check.equal(#list, 2)
  near({ list[1].from, list[1].top, list[1].to, list[1].height }, { 1 / 6, 2 / 6, 4 / 6, 1 }, 1e-15, "first rise")
  near({ list[2].from, list[2].top, list[2].to, list[2].height, list[2].width }, { 4 / 6, 5 / 6, 1, 3, 2 / 6 }, 1e-15, "second")
  check.equal(largest, 3)
  check.equal(select(2, path({ 3, 2, 1 }):rises()), -1)
end
do -- convexity gap against all triples
  for seed = 1, 20 do
    local v = tensor.rand({ 12 }, seed, { dtype = "f64" }):totable()
    local p, worst = path(v), 0
    for i = 1, 12 do for j = i + 1, 12 do for k = j + 1, 12 do
      worst = math.max(worst, v[j] - ((k - j) * v[i] + (j - i) * v[k]) / (k - i))
    end end end
    local gap, at = p:convexity_gap()
    near(gap, worst, 1e-12, "gap of " .. seed)
    assert(at > 0 and at < 1 and gap >= p:barrier().barrier_loss - 1e-12)
  end
end
do -- errors by two definitions: unequal ends
  local b = probe.barrier(function(x) return { loss = x, error = 0.1 + 0.3 * x } end, 0, 1, { points = 4 })
  near({ b.barrier_error, b.instability_error, b.mid_error_excess, b.barrier_loss }, { 0, 0.15, 0, 0 }, 1e-15, "errors")
  near({ b.max_error, b.saddle_error, b.instability_loss, b.saddle }, { 0.4, 0, 0.5, 0 }, 1e-15, "by all definitions")
  local c = probe.barrier(function(x) return { loss = 0, error = x < 0.5 and 0.25 or 0.75 } end, 0, 1, { points = 3 })
  check.equal({ c.mode_connectivity_error, c.argmax_mode_connectivity_error, c.saddle_error }, { 0.25, 0.0, 0.0 })
  check.equal(b.path.middle.loss, 0.5) -- 4 points have no middle: it is evaluated beside them
  check.equal(#b.path.loss, 4)
end
do -- somewhere no number
  local b = path({ 1, 0 / 0, 1 }):barrier()
  check.equal({ b.barrier_loss, b.max_loss }, { math.huge, math.huge })
end

-- ---- identities ----

do
  local a = point(1, -2, 3)
  local function bowl(m) return (m["w"] ^ 2):sum() end
  local same = probe.barrier(bowl, a, a)
  for _, name in ipairs { "barrier_loss", "saddle", "mid_loss_excess", "area", "convexity_gap" } do near(same[name], 0, 1e-12, name) end
  local apart = probe.barrier(bowl, a, point(-4, 0, 1)) -- convex: no barrier by this definition
  check.equal({ apart.barrier_loss, apart.argmax_t }, { 0.0, 0.0 })
  near(apart.convexity_gap, 0, 1e-12, "convex")
  assert(apart.mid_loss_excess < 0)
  -- a curve in the place of the line, with ends of its own, and points that are given
  local p = probe.path(bowl, { curve = function(t) return point(t, t * t, 0) end, t = { -1, 0, 2 } })
  check.equal(p.loss, { 2.0, 0.0, 20.0 })
  p = probe.path(bowl, a, point(0, 0, 0), { t = { -0.5, 0.5, 1.5 } })
  near(p.loss, { 14 * 2.25, 14 * 0.25, 14 * 0.25 }, 1e-12, "beyond the ends")
end
do -- saddle heights of surfaces
  local s = lines.surfaces()
  local k, a = s.double_well_curved.k, s.double_well_curved.a
  local function well(m)
    local w = m["w"]:totable()
    local x, y = w[1], w[2]
    return (x * x - 1) ^ 2 + k * (y - a * (1 - x * x)) ^ 2
  end
  local b = probe.barrier(well, point(-1, 0), point(1, 0), { points = 41 })
  near({ b.max_loss, b.barrier_loss }, { s.double_well_curved.straight_line_max, s.double_well_curved.straight_line_max }, 1e-12, "line")
  local along = probe.barrier(well, { curve = function(t) return point(2 * t - 1, 4 * t * (1 - t) * a) end, points = 41 })
  near(along.max_loss, s.double_well_curved.saddle_value, 1e-12, "valley")
end

-- ---- running statistics ----

do
  local net = nn.mlp { 3, 4, 2, norm = "batch" }
  local d = { x = tensor.randn({ 20, 3 }, 1), y = tensor.randint(0, 1, { 20 }, 2) }
  local function other(seed)
    local m = net:init { seed = seed }
    local list = {}
    for _, name in ipairs(m:names()) do
      list[#list + 1] = { name, name:find "running" and m:tensor(name) + 0.3 * seed or m:tensor(name) }
    end
    return model.new(list)
  end
  local a, b = other(1), other(2)
  local f = net:loss(d)
  local half = 0.5 * a + 0.5 * b
  local kept = model.new((function()
    local list = {}
    for _, name in ipairs(half:names()) do list[#list + 1] = { name, (name:find "running" and a or half):tensor(name) } end
    return list
  end)())
  local p = probe.path(f, a, b, { points = 3 })
  check.equal({ p.bn, p.loss[2] }, { "interpolate", f(half) })
  p = probe.path(f, a, b, { points = 3, bn = "keep" })
  check.equal({ p.bn, p.loss[2] }, { "keep", f(kept) })
  assert(p.loss[3] ~= f(b))
  local g = net:loss(d, { bn = d })
  p = probe.path(f, a, b, { points = 3, bn = d })
  check.equal({ p.bn, p.loss[2], p.loss[3] }, { "recompute", g(half), g(b) })
  p = probe.path(g, a, b, { points = 3 })
  check.equal({ p.bn, p.loss[2] }, { "recompute", g(half) })
  check.raises("bn = \"kept\"; expected", probe.path, f, a, b, { bn = "kept" })
  check.raises("bn = \"keep\", but the loss makes", probe.path, g, a, b, { bn = "keep" })
  check.raises("only a loss of a network has running statistics", probe.path, function(x) return x end, 1, 2, { bn = "keep" })
end

-- ---- monotone interpolation ----

do
  local r = probe.interpolation(function(x) return (x - 2) ^ 2 end, 0, 2)
  check.equal({ r.monotone, #r.bumps, #r.path.t, r.distance }, { true, 0, 50, 2.0 })
  r = probe.interpolation(function(x) return math.cos(3 * math.pi * x) end, 0, 1, { points = 31 })
  check.equal({ r.monotone, #r.bumps }, { false, 1 })
  near({ r.largest_rise, r.bumps[1].height }, { 2, 2 }, 1e-12, "bump")
  -- Logits of one linear map go straight; of two they turn by what the closed form says: the path of y(t) = x W(t) V(t)
  -- with 2-dimensional logits, v = y', Gauss length = total turn of the angle of v (it does not turn back here).
  local one = nn.mlp { 3, 2 }
  local x, y = tensor.randn({ 5, 3 }, 1, { dtype = "f64" }), tensor.zeros({ 5 }, { dtype = "i64" })
  local function f64(m) return m:cast "f64" end
  local f = one:loss { x = x, y = y }
  near(probe.interpolation(f, f64(one:init { seed = 1 }), f64(one:init { seed = 2 }), { points = 5, gauss = 5 }).gauss_length, 0, 1e-7, "straight")
  local two = nn.sequential { nn.linear(1, 1, { bias = false }), nn.linear(1, 2, { bias = false }) }
  local function at(w, v1, v2)
    return model.new { { "0.weight", tensor({ { w } }, { dtype = "f64" }) }, { "1.weight", tensor({ { v1 }, { v2 } }, { dtype = "f64" }) } }
  end
  -- w(t) = 1 + t, v(t) = (1, t): y = (1 + t)(1, t), v = (1, 1 + 2t): from 45 degrees to atan(3)
  local g = two:loss { x = tensor({ { 1 } }, { dtype = "f64" }), y = tensor({ 0 }, { dtype = "i64" }) }
  r = probe.interpolation(g, at(1, 1, 0), at(2, 1, 1), { points = 201, gauss = 1 })
  near(r.gauss_length, math.atan(3) - math.atan(1), 1e-4, "Gauss length")
end

-- ---- journals and files ----

do
  local name = os.tmpname()
  local calls = 0
  local function f(m)
    calls = calls + 1
    if calls == 4 then error "stop" end
    return (m["w"] ^ 2):sum()
  end
  local a, b = point(0), point(4)
  os.remove(name)
  assert(not pcall(probe.path, f, a, b, { points = 5, journal = name }))
  local p = probe.path(f, a, b, { points = 5, journal = name })
  near(p.loss, { 0, 1, 4, 9, 16 }, 0, "resumed")
  check.equal(calls, 6) -- three before the stop, the one that failed, and two more
  near(probe.path(f, a, b, { points = 5, journal = name }).loss, p.loss, 0, "again")
  check.equal(calls, 6)
  check.raises("is the journal of another run", probe.path, f, a, b, { points = 3, journal = name })
  check.raises("is the journal of another run", probe.path, f, a, point(5), { points = 5, journal = name })
  os.remove(name)
  local decode = require "json.decode".decode
  p:save(name .. ".json"):save(name .. ".csv")
  local file <close> = io.open(name .. ".json")
  local back = decode(file:read "a")
  check.equal({ back.probe, back.loss[4] == 9, back.t[2] }, { "path", true, 0.25 })
  local rows = {}
  for line in io.lines(name .. ".csv") do rows[#rows + 1] = line end
  check.equal({ #rows, rows[1], rows[3] }, { 6, "t,loss", "0.25,1" })
  os.remove(name .. ".json")
  os.remove(name .. ".csv")
  check.raises("records are saved as .json or .csv", p.save, p, name .. ".txt")
end

-- ---- mistakes ----

local function id(x) return x end
check.raises("expected a loss (net:loss(data)) or a function of a model, got number", probe.path, 3, 1, 2)
check.raises("the second point is a string, not a model", probe.path, id, 1, "x")
check.raises("unknown option 'poitns'; did you mean 'points'?", probe.path, id, 1, 2, { poitns = 3 })
check.raises("points is a whole number, at least 2", probe.path, id, 1, 2, { points = 1 })
check.raises("t is a list of numbers that ascends", probe.path, id, 1, 2, { t = { 0, 1, 0.5 } })
check.raises("gives a string, not a number", probe.path, function() return "a" end, 1, 2)
check.raises("without a number `loss`", probe.path, function() return { error = 1 } end, 1, 2)

-- A journal is of one curve, one loss and one way of statistics; what ignores a way is refused.
do
  local name = os.tmpname()
  os.remove(name)
  local function square(x) return (x * x):sum():item() end
  local function bent(h) return function(t) return tensor { t, h * t * (1 - t) } end end
  local p = probe.path(square, nil, nil, { curve = bent(0), points = 5, journal = name })
  check.equal(p.loss[3], 0.25)
  check.raises("is the journal of another run", probe.path, square, nil, nil, { curve = bent(4), points = 5, journal = name })
  os.remove(name)
  local d = data.two_moons { n = 20, seed = 1 }
  local net = nn.mlp { 2, 3, 2 }
  local a, b = net:init { seed = 1 }, net:init { seed = 2 }
  probe.path(net:loss(d, { label_smoothing = 0.3 }), a, b, { points = 3, journal = name })
  check.raises("is the journal of another run", probe.path, net:loss(d), a, b, { points = 3, journal = name })
  os.remove(name)
  local bnet = nn.sequential { nn.linear(2, 4), nn.batch_norm(4), nn.linear(4, 2) }
  a, b = bnet:init { seed = 1 }, bnet:init { seed = 2 }
  check.raises("the loss makes running statistics anew", probe.path, bnet:loss(d, { bn = d }), a, b,
    { bn = "interpolate" })
  probe.path(bnet:loss(d), a, b, { points = 3, bn = d, journal = name })
  check.raises("is the journal of another run", probe.path, bnet:loss(d), a, b,
    { points = 3, bn = data.two_moons { n = 20, seed = 2 }, journal = name })
  os.remove(name)
end
