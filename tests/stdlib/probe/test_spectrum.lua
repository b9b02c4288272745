-- SPDX-License-Identifier: Apache-2.0
-- Densities of eigenvalues: quadrature is exact where it has to be, moments within their errors, outliers one by one, and
-- the picture.
local check = dofile "tests/stdlib/bind/check.lua"
local curved = dofile "tests/stdlib/probe/curved.lua"

local function sum(list)
  local s = 0
  for _, v in ipairs(list) do s = s + v end
  return s
end

-- With as many steps as dimensions the nodes are the spectrum, whatever the start.
do
  local h, _, _, want = curved.quadratic "quadratic_indefinite"
  local r = probe.spectrum(h, { steps = 30, starts = 2 })
  for s = 1, 2 do
    local nodes = {}
    for i = 1, 30 do nodes[i] = r.nodes[s][31 - i] end
    assert(curved.off(nodes, want.spectrum) < 1e-12)
    check.near(sum(r.weights[s]), 1, 1e-13)
  end
  check.equal(#r.outliers, 30)
  check.near(r.low, -2, 1e-12)
end

-- m steps integrate polynomials of degree 2 m - 1 of the start's own measure exactly: v' H^k v / n.
do
  local h = curved.quadratic "quadratic_outliers"
  local r = probe.spectrum(h, { steps = 4, starts = 1, seed = 7 })
  local v = tensor.bernoulli({ 60 }, 0.5, 7 + 1000003):to "f64" * 2 - 1
  local u = v
  for k = 0, 7 do
    local got = 0
    for i, node in ipairs(r.nodes[1]) do got = got + r.weights[1][i] * node ^ k end
    check.near(got, v:dot(u) / 60, 1e-12 * 50.0 ^ k)
    u = h:matmul(u)
  end
end

-- An invariant space ends a start.
do
  local r = probe.spectrum(tensor.eye(6):to "f64" * tensor({ 3, 3, 3, 1, 1, 1 }, { dtype = "f64" }), { steps = 6, starts = 3 })
  check.equal(r.products, 6)
  for s = 1, 3 do assert(curved.off(r.nodes[s], { 1, 3 }) < 1e-13 and curved.off(r.weights[s], { 0.5, 0.5 }) < 1e-13) end
  check.equal(#r.outliers, 2)
end

for _, act in ipairs { "relu", "tanh" } do
  local f, theta, _, _, want = curved.tiny(act)
  local H <close> = f:linearize(theta)
  local r = probe.spectrum(H, { steps = 40, starts = 20, seed = 1 })
  assert(math.abs(r.trace - want.trace_H) < 4 * r.trace_error, act)
  assert(math.abs(r.square - want.moments["tr_H^2"]) < 4 * r.square_error, act)
  check.near(r.high, want.top20[1], 1e-10)
  check.near(r.low, want.bottom5[1], 1e-4)
  for i = 1, 8 do check.near(r.outliers[i], want.top20[i], 1e-3 * want.top20[1]) end
  assert(r.negative > 0.02 and r.negative < 0.6 and r.flat < 1)
  local positive = probe.spectrum(H, { steps = 20, starts = 2, kind = "ggn" })
  assert(positive.low > -1e-12 and positive.negative == 0)
  -- the same bytes again, other ones with another seed
  check.equal(probe.spectrum(H, { steps = 10, starts = 2, seed = 1 }).trace, probe.spectrum(H, { steps = 10, starts = 2, seed = 1 }).trace)
  assert(probe.spectrum(H, { steps = 10, starts = 2, seed = 2 }).trace ~= probe.spectrum(H, { steps = 10, starts = 2, seed = 1 }).trace)

  -- the density: its integral, its mean
  local x, y, sigma = r:density { points = 4000 }
  local step, mass, mean = x[2] - x[1], 0, 0
  for i, v in ipairs(y) do mass, mean = mass + v * step, mean + v * x[i] * step end
  check.near(mass, 1, 1e-4)
  check.near(mean, r.trace_plain / 194, 1e-4)
  check.near(sigma, 0.002 * (r.high - r.low), 1e-12)
end

-- The trace with the sharp directions taken out. Where nothing else is left it is exact, however equal they are; else it
-- is what the projected matrix gives by hand; the plain one varies as the formula for random signs says.
do
  local n = 60
  local q = tensor.randn({ n, n }, 3, { dtype = "f64" }):qr()
  local function of(list)
    local d = {}
    for i = 1, n do d[i] = (list[i] or 0) + 0.0 end
    return (q * tensor(d, { dtype = "f64" })):matmul(q:t())
  end
  local few = probe.spectrum(of { 9, 7, -5, 3 }, { steps = 20, starts = 3 })
  check.near(few.trace, 14, 1e-10)
  check.equal(few.sharp, 4)
  assert(math.abs(few.trace_plain - 14) > 1e-2)

  local bulk = { 9, 7, 5, 5, 5 } -- one direction of the three equal ones is found; no multiplicity is guessed
  for i = 6, n do bulk[i] = 0.02 * math.sin(i) end
  local h, exact = of(bulk), 0
  for _, v in ipairs(bulk) do exact = exact + v end
  local r = probe.spectrum(h, { steps = 24, starts = 40, seed = 5 })
  assert(math.abs(r.trace - exact) < 4 * r.trace_error, (r.trace - exact) / r.trace_error)
  assert(r.trace_error < 0.7 * r.trace_plain_error)
  local frobenius, diagonal = 0, 0
  for i = 1, n do frobenius, diagonal = frobenius + bulk[i] ^ 2, diagonal + h[{ i, i }] ^ 2 end
  local sigma = math.sqrt(2 * (frobenius - diagonal) / 40)
  assert(r.trace_plain_error > 0.6 * sigma and r.trace_plain_error < 1.6 * sigma)

  -- Of two starts too the error is what it says, in each of many seeds (their own spread is near 0 now and then).
  local spread = 0
  for seed = 1, 30 do
    local two = probe.spectrum(h, { steps = 24, starts = 3, seed = seed })
    local z = (two.trace - exact) / two.trace_error
    assert(math.abs(z) < 4, z)
    spread = spread + z * z / 30
  end
  assert(spread > 0.2 and spread < 1.5, spread)

  -- By hand: P H P with the eigenvectors of what has converged (9, 7 and some vector of the fives' space).
  local simple = of { 9, 7, 5, 0.1, 0.1, 0.1, -0.2, -0.2 }
  local s = probe.spectrum(simple, { steps = 24, starts = 4, seed = 2 })
  check.equal(s.sharp, 5) -- with one vector of each of the equal ones
  local values, vectors = simple:eigh()
  values = values:totable()
  local sum, p = 21, tensor.eye(n, n, { dtype = "f64" })
  for _, i in ipairs { n, n - 1, n - 2 } do
    local v = vectors[{ {}, i }]:reshape { n, 1 }
    p = p - v:matmul(v:t())
  end
  -- Of 0.1 and -0.2 the first start's own parts are taken, which is what its signs see of those spaces.
  local signs = {}
  for k = 1, 4 do signs[k] = tensor.bernoulli({ n }, 0.5, 2 + 1000003 * k):to "f64" * 2 - 1 end
  for _, where in ipairs { { 0.1 }, { -0.2 } } do
    local part
    for i, v in ipairs(values) do
      if math.abs(v - where[1]) < 1e-9 then
        local u = vectors[{ {}, i }]
        part = part and part + u * u:dot(signs[1]) or u * u:dot(signs[1])
      end
    end
    part = (part / part:norm()):reshape { n, 1 }
    p, sum = p - part:matmul(part:t()), sum + where[1]
  end
  for k = 2, 4 do
    local v = p:matmul(signs[k])
    sum = sum + v:dot(simple:matmul(v)) / 3
  end
  check.near(s.trace, sum, 1e-9)
end

-- ---- the picture ----

do
  local h = curved.quadratic "quadratic_outliers"
  local r = probe.spectrum(h, { steps = 30, starts = 3 })
  local fig = plot.spectrum(r)
  local stems = fig.series[1].stems
  check.near(stems[1][1], 50, 1e-9)
  check.near(stems[3][1], 20, 1e-9)
  assert(stems[1][2] > 0 and stems[1][2] < 3)
  local svg = fig:svg()
  assert(svg:find("spectrum of the matrix", 1, true) and svg:find("eigenvalue", 1, true))
  check.equal(select(2, svg:gsub("<circle", "")), #stems)
  check.equal(svg, plot.spectrum(r):svg())
  assert(not plot.spectrum(r, { stems = false }):svg():find "<circle")
  local two = plot.spectrum(r, r, { labels = { "one", "two" }, xlim = { -5, 60 }, theme = "dark" })
  assert(two:svg():find(">two<", 1, true) and two:text { ascii = true }:find "eigenvalue")
  check.equal(r:plot().series[1].stems[2][1], stems[2][1])
  check.raises("expected what probe.spectrum returns", plot.spectrum)
  check.raises("argument 1 is a number", plot.spectrum, 3)
  local path = os.tmpname()
  r:save(path .. ".csv")
  local lines = 0
  for _ in io.lines(path .. ".csv") do lines = lines + 1 end
  check.equal(lines, 91)
  os.remove(path)
  os.remove(path .. ".csv")
end

-- ---- what is refused ----

local big = { like = tensor.zeros(4000000), apply = function(v) return v end }
check.raises("steps = ", probe.spectrum, big)
check.raises("steps is a whole number, at least 2", probe.spectrum, tensor.eye(3), { steps = 1 })
