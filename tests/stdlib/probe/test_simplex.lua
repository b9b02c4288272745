-- SPDX-License-Identifier: Apache-2.0
-- Simplexes: volumes by formula, growth on surfaces whose low sets are known; subspaces; star models; shortest paths in
-- the space of predictions.
local check = dofile "tests/stdlib/bind/check.lua"
local lines = dofile "tests/stdlib/probe/lines.lua"
local near, point = lines.near, lines.point
local function vec(...) return tensor({ ... }, { dtype = "f64" }) end

-- ---- volumes ----

do -- regular simplexes of edge 1: sqrt(n + 1) / (n! sqrt(2^n))
  local factorial = 1
  for n = 1, 6 do
    factorial = factorial * n
    local corners = {}
    for k = 1, n + 1 do
      local row = {}
      for j = 1, n + 1 do row[j] = j == k and math.sqrt(0.5) or 0.0 end
      corners[k] = vec(table.unpack(row))
    end
    near(probe.volume(corners), math.sqrt(n + 1) / (factorial * math.sqrt(2 ^ n)), 1e-12, "regular " .. n)
  end
  near(probe.volume { vec(0, 0), vec(3e150, 0), vec(0, 4e150) }, 6e300, 1e287, "large")
  check.equal({ probe.volume { vec(1, 2) }, probe.volume { vec(1, 2), vec(1, 2) } }, { 1.0, 0.0 })
  near(probe.volume { vec(0, 0), vec(1, 1), vec(2, 2) }, 0, 1e-7, "flat")
  near(probe.volume { point(0, 0, 1), point(0, 2, 1), point(5, 0, 1) }, 5, 1e-12, "models")
end

-- ---- simplexes ----

do -- a valley x = 0 of any extent in y and z: volume grows there, and the loss stays
  local function valley(p) return 10 * p[1] ^ 2 end
  local s = probe.simplex(valley, { vec(0, 0, 0) }, { steps = 60, vertices = 2 })
  check.equal({ #s.vertices, #s.volumes, #s.losses, #s.simplexes, s.simplexes[1] }, { 3, 2, 120, 1, { 1, 2, 3 } })
  near(s.volume, probe.volume(s.vertices), 1e-12, "volume of the record")
  assert(s.volume > 0.005 and s.volumes[1] > 0.3)
  for _, m in ipairs(s:sample(20, 1)) do assert(valley(m) < 1e-3) end
  assert(s.vertices[1]:equal(vec(0, 0, 0)))
  near(s:centre():totable(), ((s.vertices[1] + s.vertices[2] + s.vertices[3]) * (1 / 3)):totable(), 1e-12, "centre")
  near(s { 0.5, 0.25, 0.25 }:totable(), (0.5 * s.vertices[1] + 0.25 * (s.vertices[2] + s.vertices[3])):totable(), 1e-12, "weights")
  assert(s:sample(1, 1)[1]:equal(s:sample(1, 1)[1]) and not s:sample(1, 1)[1]:equal(s:sample(1, 2)[1]))
  check.raises("expected 3 weights", s, { 1 })
end
do -- tables of tensors: the same numbers as tensors, and as tables again
  local function flat(p) return (p[1] - p[2]) ^ 2 + p[3] ^ 2 end
  local function named(p) return (p.u[1] - p.u[2]) ^ 2 + p.v[1] ^ 2 end
  local function split(x) return { u = x[{ { 1, 2 } }], v = x[{ { 3, 3 } }] } end
  local one, two = vec(1, 1, 0), vec(2, 2, 0)
  local s = probe.simplex(flat, { one, two }, { steps = 20, seed = 4 })
  local t = probe.simplex(named, { split(one), split(two) }, { steps = 20, seed = 4 })
  check.equal(t.losses, s.losses)
  check.equal(t.volume, s.volume)
  for k, p in ipairs(t:sample(3, 2)) do
    near({ p.u[1], p.u[2], p.v[1] }, s:sample(3, 2)[k]:totable(), 0, "sample " .. k)
  end
  local c = t:centre()
  near({ c.u[1], c.u[2], c.v[1] }, s:centre():totable(), 0, "centre")
  assert(t.vertices[1].u:equal(one[{ { 1, 2 } }]))
  local star = probe.star(named, { split(one), split(two) }, { steps = 10 })
  near({ star.model.u[1], star.model.v[1] }, { 1.5, 0 }, 1e-12, "star")
  check.raises("no tensor v", probe.simplex, named, { split(one), { u = vec(1, 2) } })
  check.raises("have 3 and 4 numbers", probe.simplex, named, { split(one), { u = vec(1, 2, 3), v = vec(1) } })
end
do -- one step is the gradient of the volume: against differences of probe.volume
  local a, b, c = vec(0, 0, 0, 1), vec(2, 0, 1, 0), vec(0, 3, 0, 0)
  local lambda, lr = 1e-5, 0.01
  -- the loss pushes off the face in the first step, the volume in the second
  local push = vec(0.3, -0.2, 0.5, 0.7)
  local function f(p) return -(p * push):sum() end
  local function steps(n, l)
    return probe.simplex(f, { a, b, c }, { vertices = 1, steps = n, lambda = l, join = "simplex", samples = 1,
      optimiser = train.sgd { lr = 1 }, schedule = function(t) return t == 0 and 1.0 or lr end, seed = 3 }).vertices[4]
  end
  local off, place, after, without = steps(1, 0), steps(1, lambda), steps(2, lambda), steps(2, 0)
  local own = after - place - (without - off) -- the loss's part of the second step is the same in both
  local h, want = 1e-5, {}
  for k = 1, 4 do
    local e = {}
    for j = 1, 4 do e[j] = j == k and h or 0.0 end
    local function log_volume(x) return math.log(probe.volume { a, b, c, x } + 1e-4) end
    want[k] = (log_volume(place + vec(table.unpack(e))) - log_volume(place - vec(table.unpack(e)))) / (2 * h)
  end
  near((own / (lr * lambda)):totable(), want, 1e-5, "slope of the volume")
end
do -- a complex: two wells joined by shared vertices; the line between them is a wall
  local function ring(p) return 4 * (p[1] ^ 2 + p[2] ^ 2 - 1) ^ 2 + 0 * p[3] end
  local a, b = vec(0.8, 0.6, 0), vec(-0.8, 0.6, 0)
  local s = probe.simplex(ring, { a, b }, { vertices = 1, steps = 300, lambda = 1e-4, lr = 0.02 })
  check.equal({ s.simplexes, #s.vertices }, { { { 1, 3 }, { 2, 3 } }, 3 })
  near(s.volume, (s.vertices[3] - a):norm() + (s.vertices[3] - b):norm(), 1e-12, "lengths")
  assert(probe.barrier(ring, a, s.vertices[3]).max_loss < 0.5 * probe.barrier(ring, a, b).max_loss)
end
do -- networks
  local net, d = nn.mlp { 2, 16, 2, norm = "batch" }, data.two_moons { n = 100, seed = 1 }
  local a = train.fit(net, d, { seed = 1, epochs = 30, batch = 20, lr = 0.01 })
  local s = probe.simplex(net:loss(d), { a }, { vertices = 2, epochs = 4, batch = 20 })
  assert(s.volume > 0)
  local f = net:loss(d, { bn = d })
  for _, m in ipairs(s:sample(5, 1)) do assert(f(m) < f(a) + 0.1) end
  assert(f(s { 1, 0, 0 }) == f(a))
end

-- ---- subspaces ----

do
  local net, d = nn.mlp { 2, 16, 2 }, data.two_moons { n = 100, seed = 1 }
  local acc = eval.accuracy(net, d)
  local o = { data = d, epochs = 60, batch = 20, lr = 0.2, seed = 1 }
  local line = probe.learned_subspace(net, o)
  assert(acc(line:centre()) > 0.97 and acc(line { 0.2, 0.8 }) > 0.97)
  assert(math.abs(line.cosine) < 0.2, "nearly at right angles")
  o.beta, o.start = 0, { net:init { seed = 1 }, net:init { seed = 1 } }
  near(probe.learned_subspace(net, o).cosine, 1, 0.1, "nothing keeps equal ends apart")
  -- the slope of the cosine alone: one step from two vectors at 45 degrees
  local u, v = vec(2, 0), vec(1, 1)
  local r = probe.learned_subspace(function(x) return 0 * x:sum() end, { start = { u, v }, steps = 1, beta = 3,
    optimiser = train.sgd { lr = 1 }, schedule = "constant" })
  -- beta cos^2 = 3 v1^2 / |v|^2 for u along an axis: d/dv = 3 (2 v1 / 2 - 2 v v1^2 / 4) = (3/2, -3/2)
  near((v - r.vertices[2]):totable(), { 1.5, -1.5 }, 1e-12, "slope at v")
  near((u - r.vertices[1]):totable(), { 0, 1.5 }, 1e-12, "slope at u")
  near(r.losses[1], 1.5, 1e-12, "its value")
  -- a curve: every point gets its share of the gradient at t, and the cosine is between the ends alone
  local w = vec(5, 5)
  local c = probe.learned_subspace(function(x) return (x * vec(1, 2)):sum() end, { start = { u, w, v }, kind = "bezier",
    steps = 1, beta = 0, optimiser = train.sgd { lr = 1 }, schedule = "constant" })
  local share, sum = {}, 0
  for k, from in ipairs { u, w, v } do
    local moved = (from - c.points[k]):totable()
    near(moved[2], 2 * moved[1], 1e-12, "along the gradient")
    share[k], sum = moved[1], sum + moved[1]
  end
  near(sum, 1, 1e-12, "shares of a Bezier curve")
  near(share[2] ^ 2, 4 * share[1] * share[3], 1e-12, "(2t(1 - t))^2 = 4 (1 - t)^2 t^2")
  assert(c(0):equal(c.points[1]) and c(1):equal(c.points[3]))
  c = probe.learned_subspace(function(x) return 0 * x:sum() end, { start = { u, w, v }, kind = "bezier", steps = 1,
    beta = 3, optimiser = train.sgd { lr = 1 }, schedule = "constant" })
  near((w - c.points[2]):totable(), { 0, 0 }, 0, "the bend is free")
  near((v - c.points[3]):totable(), { 1.5, -1.5 }, 1e-12, "slope at the end")
  o.start, o.beta, o.kind = nil, 1, "polychain"
  local bent = probe.learned_subspace(net, o)
  assert(#bent.points == 3 and math.abs(bent.cosine) < 0.3 and acc(bent(0.25)) > 0.95 and acc(bent(0.7)) > 0.95)
  check.raises("vertices is a whole number, at least 3", probe.learned_subspace, net, { data = d, kind = "bezier",
    vertices = 2 })
end

-- ---- star models ----

do
  local function ring(x) return (x[1] ^ 2 + x[2] ^ 2 - 1) ^ 2 end
  local a, b = vec(1, 0), vec(0.6, 0.8)
  local r = probe.star(ring, { a, b }, { steps = 150, lr = 0.05, mu = 0.1 })
  for _, m in ipairs { a, b } do
    assert(probe.barrier(ring, r.model, m).max_loss < 0.5 * probe.barrier(ring, a, b).max_loss)
  end
  check.equal({ #r.losses, #r.anchors }, { 150, 2 })
  -- one step by hand: (1 - t) times the gradient at the point between
  local function f(x) return (x * x):sum() / 2 end
  local star, anchor = vec(1, 0), vec(0, 4)
  local one = probe.star(f, { anchor }, { start = star, t = 0.25, mu = 0.5, steps = 1, optimiser = train.sgd { lr = 1 },
    schedule = "constant" })
  near((star - one.model):totable(), { 0.75 * 0.75 + 0.5, 0.75 }, 1e-12, "one step")
  -- align is asked before each epoch, with the star as it is
  local calls = {}
  probe.star(f, { anchor }, { start = star, steps = 250, align = function(s, m)
    calls[#calls + 1] = s:norm()
    return m
  end })
  check.equal({ #calls, calls[1], calls[2] > 1 }, { 3, 1.0, true }) -- it goes to the other side of zero
  check.raises("align gives is a nil, not a model", probe.star, f, { anchor }, { steps = 1, align = function() end })
  check.raises("t is \"uniform\", \"beta\" or a number", probe.star, f, { anchor }, { t = "normal" })
  assert(#probe.star(f, { anchor, star }, { steps = 5, t = "beta" }).losses == 5)
end

-- ---- geodesics ----

do -- one distribution over three classes: an arc of a sphere, of length 2 acos(sum sqrt(p q))
  local function logits(x) return x:reshape { 1, 3 } end
  local a, b = vec(0, 0, 3), vec(3, 0, 0)
  local exact = 2 * math.acos((a:softmax(-1) * b:softmax(-1)):sqrt():sum())
  local off = {}
  for i, pivots in ipairs { 3, 7 } do
    local c = probe.geodesic(logits, a, b, { pivots = pivots, steps = 200, lr = 1 })
    off[i] = exact - c.length
    near(math.max(table.unpack(c.steps_length)) - math.min(table.unpack(c.steps_length)), 0, 0.02, "pieces are equal")
    assert(c.length < c.straight_length)
    -- half-way: the middle of the arc, sqrt(p) + sqrt(q) scaled to 1
    local m = a:softmax(-1):sqrt() + b:softmax(-1):sqrt()
    near(c(0.5):softmax(-1):totable(), (m * m / (m * m):sum()):totable(), 3e-3, "middle")
  end
  -- chords that are too short by the square of their length
  near(off[1] / off[2], 4, 0.4, "order")
  near(off[2], 0, 0.01, "length")
end
do -- networks: shorter than the line, in predictions
  local net, d = nn.mlp { 2, 16, 2 }, data.two_moons { n = 100, seed = 1 }
  local a = train.fit(net, d, { seed = 1, epochs = 40, batch = 20, lr = 0.01 })
  local b = train.fit(net, d, { seed = 2, epochs = 40, batch = 20, lr = 0.01 })
  local c = probe.geodesic(net, a, b, { data = d, epochs = 60, batch = 50, lr = 0.5 })
  assert(c.length < 0.8 * c.straight_length)
  local f = net:loss(d)
  assert(c:path(f, { points = 13 }):barrier() < probe.barrier(f, a, b))
  check.equal({ f(c(0)), f(c(1)) }, { f(a), f(b) })
end
-- ---- MC-SGD ----

do -- two valleys that cross at (1, 1); a closed form of one step; networks of two tasks
  local function f(x) return (x[1] - x[2]) ^ 2 end
  local function g(x) return (x[1] + x[2] - 2) ^ 2 end
  local a, b = vec(0, 0), vec(0, 2)
  local r = probe.mc_sgd({ f, g }, { a, b }, { steps = 300, lr = 0.02 })
  near(r.model:totable(), { 1, 1 }, 1e-4, "where they cross")
  near(probe.barrier(f, a, r.model).max_loss + probe.barrier(g, b, r.model).max_loss, 0, 1e-6, "lines")
  local function half(x) return (x * x):sum() / 2 end
  local one = probe.mc_sgd({ half }, { vec(2, 0) }, { start = vec(0, 4), points = 2, steps = 1,
    optimiser = train.sgd { lr = 1 }, schedule = "constant" })
  -- places 1/2 and 1: (1/2) (1/2 (1, 2) + (0, 4))
  near((vec(0, 4) - one.model):totable(), { 0.25, 2.5 }, 1e-12, "one step")
  near(one.losses[1], (2.5 + 8) / 2, 1e-12, "its loss")
  local net, d = nn.mlp { 2, 16, 2 }, data.two_moons { n = 200, seed = 1 }
  local right = tensor { { -1, 0 }, { 0, 1 } }
  local d2 = { x = d.x:matmul(right), y = d.y } -- the mirror image
  local m1 = train.fit(net, d, { seed = 1, epochs = 30, batch = 20, lr = 0.01 })
  local m2 = train.fit(net, d2, { seed = 1, start = m1, epochs = 30, batch = 20, lr = 0.01 })
  local f1, f2 = net:loss(d), net:loss(d2)
  local both = probe.mc_sgd({ f1, f2 }, { m1, m2 }, { steps = 400, batch = 50 })
  local got = f1(both.model) + f2(both.model)
  assert(got < 0.5 * (f1(m2) + f2(m2)) and got < 0.9 * (f1(0.5 * (m1 + m2)) + f2(0.5 * (m1 + m2))), tostring(got))
  check.raises("expected 2 solutions", probe.mc_sgd, { f, g }, { a })
end
check.raises("not logits", probe.geodesic, function(x) return x:sum() end, vec(1), vec(2), { steps = 1 })
check.raises("a function needs start", probe.learned_subspace, function(x) return x:sum() end, {})
check.raises("join = \"line\"", probe.simplex, function(x) return x:sum() end, { vec(1) }, { join = "line" })

do -- 25 dimensions: 25! is beyond whole numbers; a right-angled simplex with edges of 4
  local points, factorial = { tensor.zeros({ 25 }, { dtype = "f64" }) }, 1.0
  for k = 1, 25 do
    local row = {}
    for i = 1, 25 do row[i] = i == k and 4.0 or 0.0 end
    points[k + 1], factorial = tensor(row, { dtype = "f64" }), factorial * k
  end
  check.near(probe.volume(points) / (4.0 ^ 25 / factorial), 1, 1e-9)
end
