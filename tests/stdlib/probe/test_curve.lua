-- SPDX-License-Identifier: Apache-2.0
-- probe.curve: ends, forms of curves and arc length by hand; a surface whose best bends are known; two moons; batch norm.
local check = dofile "tests/stdlib/bind/check.lua"
local lines = dofile "tests/stdlib/probe/lines.lua"
local near, point = lines.near, lines.point
local function vec(...) return tensor({ ... }, { dtype = "f64" }) end

local s = lines.surfaces().double_well_curved
local function well(x)
  local u, v = x[1], x[2]
  return (u ^ 2 - 1) ^ 2 + s.k * (v - s.a * (1 - u ^ 2)) ^ 2
end

local function well_of_model(m) return well(m["w"]) end

do -- forms
  local a, m, b = vec(-1, 0), vec(0, 2 * s.a), vec(1, 0)
  local c = probe.curve(well, a, b, { start = { m }, steps = 0 })
  for _, t in ipairs { 0.1, 0.25, 0.5, 0.9 } do -- (2t - 1, 4 a t (1 - t)): the floor of the valley
    near(c(t):totable(), { 2 * t - 1, 4 * s.a * t * (1 - t) }, 1e-14, "bezier")
  end
  local p = c:path(well, { points = 401 })
  near(p.statistics.loss.max, s.saddle_value, 1e-12, "valley")
  near(p.statistics.loss.mean, 8 / 15, 2e-3, "mean of (u^2 - 1)^2")
  -- the length of y = a (1 - x^2) over [-1, 1]
  local q = 2 * s.a
  near(probe.path(well, { curve = c, points = 5 }).loss[3], s.saddle_value, 1e-12, "probe.path takes a curve")
  near(p.length, math.sqrt(1 + q * q) + math.log(q + math.sqrt(1 + q * q)) / q, 1e-5, "length")
  near({ p.arc[1], p.arc[401], p.straight }, { 0, p.length, 2 }, 1e-12, "arc")
  local chain = probe.curve(well, a, b, { kind = "polychain", start = { m }, steps = 0 })
  near(chain(0.25):totable(), { -0.5, s.a }, 1e-15, "polychain")
  near(chain:path(well, { points = 3 }).length, 2 * math.sqrt(1 + q * q), 1e-12, "length of a chain")
  local parabola = probe.curve(well, a, b, { kind = "quadratic", start = { vec(0, s.a) }, steps = 0 })
  for _, t in ipairs { 0.2, 0.5, 0.7 } do near(parabola(t):totable(), c(t):totable(), 1e-14, "quadratic") end
  -- weighted by length: two pieces of lengths 3 and 1 with values 0, 3, 4 at their ends
  local long = probe.curve(well, vec(0, 0), vec(3, 1), { kind = "polychain", start = { vec(3, 0) }, steps = 0 })
  near(long:path(function(x) return x:sum() end, { points = 3 }).statistics.loss.by_length, 2, 1e-12, "by length")
end
do -- bends on the straight line are the straight line; ends are the models themselves
  local a, b = point(-1, 0.3), point(1, 0.7)
  for _, o in ipairs { { kind = "bezier", bends = 1 }, { kind = "bezier", bends = 3 }, { kind = "polychain", bends = 4 },
    { kind = "quadratic" } } do
    o.steps = 0
    local c = probe.curve(well_of_model, a, b, o)
    check.equal(#c.points, (o.bends or 1) + 2)
    for _, t in ipairs { 0.3, 0.5, 0.8 } do
      near(c(t)["w"]:totable(), ((1 - t) * a + t * b)["w"]:totable(), 1e-15, o.kind)
    end
  end
  local c = probe.curve(well_of_model, a, b, { steps = 40, lr = 0.02 })
  assert(c(0)["w"]:equal(a["w"]) and c(1)["w"]:equal(b["w"]))
  check.equal({ c.points[1]["w"]:equal(a["w"]), #c.losses }, { true, 40 })
  check.raises("t is a number from 0 to 1", c, 1.5)
end
do -- training: as good as the best bend, found by search; the same numbers from the same seed
  local a, b = vec(-1, 0), vec(1, 0)
  local function mean(c) return c:path(well, { points = 201 }).statistics.loss.mean end
  local best = math.huge -- of symmetric ones and others
  for x = 0, 6 do
    for y = 8, 17 do
      local c = probe.curve(well, a, b, { start = { vec(x * 0.2, y * 0.1) }, steps = 0 })
      best = math.min(best, c:path(well, { points = 41 }).statistics.loss.mean * 41 / 40)
    end
  end
  local o = { steps = 600, lr = 0.02, seed = 1 }
  local c = probe.curve(well, a, b, o)
  near(mean(c), best, 0.02, "mean along the curve")
  assert(probe.curve(well, a, b, o).points[2]:equal(c.points[2]))
  o.seed = 2
  assert(not probe.curve(well, a, b, o).points[2]:equal(c.points[2]))
  local chain = probe.curve(well, a, b, { kind = "polychain", bends = 3, steps = 600, lr = 0.02 })
  local high = chain:path(well).statistics.loss.max
  assert(high < 1.6 and mean(chain) < best + 0.02, ("chain: %g, mean %g, best bend %g"):format(high, mean(chain), best))
  assert(probe.barrier(well, a, b).max_loss > 2.2)
  -- models and tables of tensors give the bytes that tensors give
  local m = probe.curve(well_of_model, point(-1, 0), point(1, 0), { steps = 600, lr = 0.02, seed = 1 })
  assert(m.points[2]["w"]:equal(c.points[2]))
  local function of_table(x) return (x.u[1] ^ 2 - 1) ^ 2 + s.k * (x.v[1] - s.a * (1 - x.u[1] ^ 2)) ^ 2 end
  local t = probe.curve(of_table, { u = vec(-1), v = vec(0) }, { u = vec(1), v = vec(0) }, { steps = 600, lr = 0.02, seed = 1 })
  near({ t.points[2].u[1], t.points[2].v[1] }, c.points[2]:totable(), 1e-9, "table")
end
do -- one step by hand: coefficient of the bend times the gradient there, with the decay of the point
  local function f(x) return (x * vec(1, 2)):sum() end
  local a, b = vec(2, 0), vec(0, 4)
  local c = probe.curve(f, a, b, { steps = 1, optimiser = train.sgd { lr = 1 }, schedule = "constant", weight_decay = 0.5 })
  local moved = (vec(1, 2) - c.points[2]):totable()
  -- at t: w = 2 t (1 - t); the point is the line's (2 (1 - t), 4 t); moved = w (g + 0.5 point)
  local w = (2 * moved[1] + moved[2]) -- = w (2 + 2 (1 - t) + 2 + 2 t) = 6 w
  local t = (1 - math.sqrt(1 - w / 3)) / 2
  local ok = false
  for _, x in ipairs { t, 1 - t } do
    local size = 2 * x * (1 - x)
    ok = ok or math.abs(moved[1] - size * (1 + (1 - x))) < 1e-12 and math.abs(moved[2] - size * (2 + 2 * x)) < 1e-12
  end
  assert(ok, "one step")
end
do -- two moons: below a tenth of the straight barrier
  local net, d = nn.mlp { 2, 32, 32, 2 }, data.two_moons { n = 200, seed = 1 }
  local a = train.fit(net, d, { seed = 1, epochs = 60, batch = 40, lr = 0.01 })
  local b = train.fit(net, d, { seed = 2, epochs = 60, batch = 40, lr = 0.01 })
  local f = net:loss(d)
  local straight = probe.barrier(f, a, b, { points = 11 })
  local log = os.tmpname() .. ".csv"
  local c = probe.curve(f, a, b, { kind = "polychain", epochs = 60, batch = 40, log = log })
  local p = c:path(f, { points = 21 })
  assert(straight.barrier_loss > 0.1 and p:barrier() < 0.1 * straight.barrier_loss)
  check.equal({ p.loss[1], p.loss[21], #p.error }, { f(a), f(b), 21 })
  local rows = 0
  for _ in io.lines(log) do rows = rows + 1 end
  os.remove(log)
  check.equal(rows, 61)
  -- a network with data is its loss
  local again = probe.curve(net, a, b, { kind = "polychain", epochs = 60, batch = 40, data = d })
  local first = a:names()[1]
  assert(again(0.5):tensor(first):equal(c(0.5):tensor(first)))
  check.equal(#c(0.3):names(), #a:names())
  -- a function of batches
  local function g(m, batch) return net:loss(batch)(m) end
  check.equal(#probe.curve(g, a, b, { data = d, steps = 3, batch = 10 }).losses, 3)
  local file = os.tmpname() .. ".json"
  c:save(file)
  os.remove(file)
  check.equal(c:plot().kind, "line")
end
do -- batch norm: running statistics lie between those of the ends, or are made anew
  local net = nn.mlp { 2, 8, 2, norm = "batch" }
  local d = data.two_moons { n = 100, seed = 1 }
  local a = train.fit(net, d, { seed = 1, epochs = 5, batch = 20, lr = 0.01 })
  local b = train.fit(net, d, { seed = 2, epochs = 5, batch = 20, lr = 0.01 })
  local f = net:loss(d)
  local c = probe.curve(f, a, b, { epochs = 2, batch = 20 })
  local name
  for _, q in ipairs(net:params()) do name = q.buffer and q.name:find "mean" and q.name or name end
  near(c(0.25):tensor(name):totable(), (0.75 * a + 0.25 * b):tensor(name):totable(), 1e-7, "running mean")
  local p = c:path(f, { points = 3, bn = d })
  check.equal(p.bn, "recompute")
  near(p.loss[1], f(eval.bn_reset(net, a, d)), 0, "first end, made anew")
end
local function id(x) return x:sum() end
check.raises("kind = \"spline\"", probe.curve, id, vec(0), vec(1), { kind = "spline" })
check.raises("a quadratic curve has one bend", probe.curve, id, vec(0), vec(1), { kind = "quadratic", bends = 2 })
check.raises("unknown option 'bend'; did you mean 'bends'?", probe.curve, id, vec(0), vec(1), { bend = 2 })
check.raises("a network needs data", probe.curve, nn.mlp { 2, 2 }, vec(0), vec(1))
check.raises("epochs are of data", probe.curve, id, vec(0), vec(1), { epochs = 2 })
check.raises("the points have 1 and 2 numbers", probe.curve, id, vec(0), vec(1, 2))
check.raises("the loss is", probe.curve, function(x) return (x ^ 4):sum() end, vec(-10), vec(10, 0)[{ { 1, 1 } }], { lr = 10 })
