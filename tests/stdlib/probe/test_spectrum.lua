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
  check.near(mean, r.trace / 194, 1e-4)
  check.near(sigma, 0.002 * (r.high - r.low), 1e-12)
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
