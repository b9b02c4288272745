-- SPDX-License-Identifier: Apache-2.0
-- probe.neb and probe.saddles: passes of surfaces whose saddles are known, and the tree over their minima.
local check = dofile "tests/stdlib/bind/check.lua"
local lines = dofile "tests/stdlib/probe/lines.lua"
local near = lines.near
local function vec(...) return tensor({ ... }, { dtype = "f64" }) end
local s = lines.surfaces()

local q = s.muller_brown.parameters
local function muller(x)
  local sum
  for k = 1, 4 do
    local u, v = x[1] - q.x0[k], x[2] - q.y0[k]
    local part = q.A[k] * (q.a[k] * u ^ 2 + q.b[k] * (u * v) + q.c[k] * v ^ 2):exp()
    sum = sum and sum + part or part
  end
  return sum
end
local minima, saddles = {}, {}
for _, p in ipairs(s.muller_brown.critical) do
  local list = p.kind == "minimum" and minima or saddles
  list[#list + 1] = p
end
check.equal({ #minima, #saddles }, { 3, 2 })
local plain = train.sgd { lr = 1 }

do -- between neighbouring minima, each pass to the digits: place and height
  local m = {}
  for k, p in ipairs(minima) do m[k] = vec(p.x, p.y) end
  local cycles = { { steps = 60, lr = 2e-4 }, { steps = 30, lr = 2e-4 } }
  local r = probe.saddles(muller, m, { pivots = 4, cycles = cycles, climb = { steps = 120, lr = 1e-3 }, optimiser = plain })
  check.equal({ #r.tree, r.lowest }, { 2, 1 })
  local found = {}
  for k, e in ipairs(r.tree) do found[k] = e.saddle end
  table.sort(found)
  local want = { saddles[1].value, saddles[2].value }
  table.sort(want)
  near(found, want, 1e-6, "heights")
  for _, e in ipairs(r.tree) do
    local top, best = e.curve(e.curve.saddle_t):totable(), math.huge
    for _, p in ipairs(saddles) do best = math.min(best, math.max(math.abs(p.x - top[1]), math.abs(p.y - top[2]))) end
    near(best, 0, 1e-5, "place")
  end
  -- the way from the first minimum to the second ends is as high as the highest pass on it
  near(r.heights[1][2], s.muller_brown.critical[4].value, 1e-6, "over the third")
  local t = r:topology()
  check.equal(t.minima, 3)
  near(t.pairs[1].saddle, s.muller_brown.critical[4].value, 1e-6, "tree")
  check.equal(r:plot().kind, plot.tree(t).kind)
end
do -- without climbing, and with springs: to 1e-2 of the range; more pivots come in where they are needed
  local function well(x)
    local w = s.double_well_curved
    return (x[1] ^ 2 - 1) ^ 2 + w.k * (x[2] - w.a * (1 - x[1] ^ 2)) ^ 2
  end
  local a, b = vec(-1, 0), vec(1, 0)
  local cycles = { { steps = 80, lr = 0.03 }, { steps = 40, lr = 0.03 } }
  local c = probe.neb(well, a, b, { cycles = cycles })
  near(c.saddle, 1, 1e-2, "redistributed")
  assert(c(0):equal(a) and c(1):equal(b))
  check.equal(#c.knots, #c.points)
  for _, tangent in ipairs { "higher", "lower" } do
    c = probe.neb(well, a, b, { cycles = cycles, spring = 1, tangent = tangent })
    near(c.saddle, 1, 1e-2, "springs, " .. tangent)
  end
  c = probe.neb(well, a, b, { cycles = { { steps = 60, lr = 0.03 } }, climb = 120 })
  near(c.saddle, 1, 1e-9, "climbing")
  near(c(c.saddle_t):totable(), { 0, s.double_well_curved.a }, 1e-4, "climbing, place")
  local p = c:path(well, { points = 41 })
  near(p.statistics.loss.max, 1, 1e-6, "along the curve")
  check.equal(c:plot().kind, "panels")
  -- knots are shares of the length
  local d, sum = {}, 0
  for k = 2, #c.points do
    d[k] = (c.points[k] - c.points[k - 1]):norm()
    sum = sum + d[k]
  end
  local at = 0
  for k = 2, #c.points do
    at = at + d[k] / sum
    near(c.knots[k], at, 1e-12, "knot " .. k)
  end
end
do -- insertion: a narrow wall between two pivots is found, and gets one
  local function wall(x) return (-200 * (x[1] - 0.3) ^ 2):exp() + 0 * x[2] end
  local o = { pivots = 1, cycles = { { steps = 1, lr = 1e-9 }, { steps = 1, lr = 1e-9 } } }
  local c = probe.neb(wall, vec(0, 0), vec(1, 0), o)
  check.equal(#c.points, 4)
  near(c.points[2]:totable(), { 0.3, 0 }, 1e-6, "where the wall is")
  o.insert = 0
  check.equal(#probe.neb(wall, vec(0, 0), vec(1, 0), o).points, 3)
end
do -- the egg carton: around the hill over the third minimum, not across
  local function carton(x) return 2 - x[1]:cos() * x[2]:cos() - (x[1]:cos() + x[2]:cos()) / 2 end
  local e, pi = s.egg_carton, math.pi
  local o = { cycles = { { steps = 40, lr = 0.2 } }, climb = 60, optimiser = plain }
  local r = probe.saddles(carton, { vec(0, 0), vec(2 * pi, 0), vec(pi, pi) }, o)
  check.equal(#r.edges, 3)
  near(r.heights[1][2], e.saddle_value, 1e-6, "best path")
  near(probe.neb(carton, vec(0, 0), vec(2 * pi, 0), o).saddle, e.straight_line_0_to_2pi_max, 1e-6, "by symmetry")
  o.pairs = 1
  local few = probe.saddles(carton, { vec(0, 0), vec(2 * pi, 0), vec(pi, pi) }, o)
  check.equal({ #few.tree, few.heights[1][3] }, { 1, math.huge })
  local name = os.tmpname() .. ".csv"
  r:save(name)
  check.equal(io.lines(name)(), "a,b,saddle,in_tree")
  os.remove(name)
end
do -- networks: one batch a step for all pivots; lower than the straight line
  local net, d = nn.mlp { 2, 16, 16, 2 }, data.two_moons { n = 100, seed = 1 }
  local a = train.fit(net, d, { seed = 1, epochs = 50, batch = 20, lr = 0.01 })
  local b = train.fit(net, d, { seed = 2, epochs = 50, batch = 20, lr = 0.01 })
  local f = net:loss(d)
  local o = { cycles = { { steps = 60, lr = 0.1 }, { steps = 60, lr = 0.05 } }, batch = 50 }
  local c = probe.neb(f, a, b, o)
  local straight = probe.barrier(f, a, b).max_loss
  assert(c.saddle - math.max(f(a), f(b)) < 0.3 * (straight - math.max(f(a), f(b))), ("%g, straight %g"):format(c.saddle, straight))
  check.equal(probe.neb(f, a, b, o).saddle, c.saddle)
end
local function id(x) return x:sum() end
check.raises("the ends are the same", probe.neb, id, vec(1), vec(1))
check.raises("cycles[1] is {steps", probe.neb, id, vec(0), vec(1), { cycles = { {} } })
check.raises("lr: steps and rates are in cycles", probe.neb, id, vec(0), vec(1), { lr = 1 })
check.raises("tangent = \"upper\"", probe.neb, id, vec(0), vec(1), { tangent = "upper" })
check.raises("at least two minima", probe.saddles, id, { vec(1) })
