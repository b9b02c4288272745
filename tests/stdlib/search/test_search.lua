-- SPDX-License-Identifier: Apache-2.0
-- Grids, random points, journals; golden section and Brent; CMA-ES on the usual functions, with bounds.
local check = dofile "tests/stdlib/bind/check.lua"

-- ---- grids and random points ----

local seen = {}
for p in search.grid { b = { "x", "y" }, a = { 1, 2 }, c = true } do seen[#seen + 1] = ("%s%s%s"):format(p.a, p.b, p.c) end
check.equal(table.concat(seen, " "), "1xtrue 1ytrue 2xtrue 2ytrue")
check.equal(#search.grid { a = { 1, 2 }, b = { 1, 2, 3 } }, 6)
check.raises("has no values", search.grid, { a = {} })
check.raises("is a method of a point", search.grid, { record = { 1 } })
check.raises("there is no parameter", search.grid, {})

local space = { x = { -1, 1 }, rate = { 1e-4, 1, log = true }, n = { 1, 3, whole = true }, act = { one_of = { "relu", "tanh" } } }
local first, small = {}, 0
for p in search.random(space, { n = 400, seed = 3 }) do
  assert(p.x >= -1 and p.x < 1 and p.rate >= 1e-4 and p.rate <= 1 and (p.n == 1 or p.n == 2 or p.n == 3))
  assert(p.act == "relu" or p.act == "tanh")
  first[#first + 1] = p
  if p.rate < 1e-2 then small = small + 1 end
end
check.near(small / 400, 0.5, 0.1, "half of the logarithms lie below 1e-2")
local again = search.random(space, { n = 5, seed = 3 })
for i = 1, 5 do check.equal(again:next().x, first[i].x, "a shorter list is the beginning of a longer one") end
assert(search.random(space, { n = 1, seed = 4 }):next().x ~= first[1].x)
check.raises("rate is {low, high}", search.random, { rate = { 1, 0 } })
check.raises("unknown option 'lgo'", search.random, { rate = { 1, 2, lgo = true } })

-- ---- journals ----

local path = os.tmpname()
local grid = { density = { 0.1, 0.2, 0.4 }, lambda = { 0.5, 1 } }
local calls = 0
local function sweep(stop_after)
  local s = search.grid(grid):journal(path)
  for p in s do
    if calls == stop_after then break end
    calls = calls + 1
    p:record { loss = p.density * p.lambda, text = "ü\n" }
  end
  return s
end
sweep(2)
check.equal(calls, 2)
local file = io.open(path, "ab") -- a run that was killed while it wrote
file:write '{"point":{"dens'
file:close()
local s = sweep(math.huge)
check.equal(calls, 6)
check.equal(#sweep(math.huge):results(), 6)
check.equal(calls, 6, "nothing is computed twice")
check.equal(s:results()[6].value.text, "ü\n")
local best, value = s:best "loss"
check.near(best.density * best.lambda, 0.05, 1e-15)
check.equal(value.loss, 0.05)
check.equal(s:best(function(v) return -v.loss end).density, 0.4)
check.raises("say which number counts", s.best, s)
local wider = search.grid { density = { 0.1, 0.9 }, lambda = { 0.5, 1 } }:journal(path)
check.equal(#wider:results(), 2, "only points of this grid count")
file = io.open(path, "wb")
file:write "{}\nnonsense\n{}\n"
file:close()
check.raises("line 2: not a line of a journal", function() search.grid(grid):journal(path) end)
check.raises("the journal examples cannot be read", function() search.grid(grid):journal "examples" end)
os.remove(path)
local nan = search.grid { x = { 1, 2 } }
for p in nan do p:record(p.x == 1 and 0 / 0 or 7) end
check.equal(nan:best().x, 2)

-- ---- one dimension ----

for _, method in ipairs { search.golden, search.brent } do
  local x, v, n = method(function(t) return math.cos(t) end, 2, 5, { tol = 1e-7 })
  check.near(x, math.pi, 1e-6)
  check.near(v, -1, 1e-12)
  assert(n < 50)
  x = method(function(t) return t end, 0, 1, { tol = 1e-4 })
  check.near(x, 0, 1e-3, "a minimum at the end")
  x = method(function(t) return t < 0.3 and 0 / 0 or (t - 0.4) ^ 2 end, 0, 1)
  check.near(x, 0.4, 1e-5, "NaN is avoided")
  check.raises("a < b", method, math.cos, 1, 1)
  check.raises("not a number", method, function() return "x" end, 0, 1)
end
local _, _, parabola = search.brent(function(t) return (t - 0.2) ^ 2 end, -3, 5)
assert(parabola <= 12, "a parabola takes few steps, got " .. parabola)
local _, _, limited = search.golden(math.cos, 2, 5, { evals = 6 })
check.equal(limited, 6)

-- ---- CMA-ES ----

local function sphere(x) local sum = 0.0 for _, v in ipairs(x) do sum = sum + v * v end return sum end
local function rosenbrock(x)
  local sum = 0.0
  for i = 1, #x - 1 do sum = sum + 100 * (x[i + 1] - x[i] ^ 2) ^ 2 + (1 - x[i]) ^ 2 end
  return sum
end
local function rastrigin(x)
  local sum = 10.0 * #x
  for _, v in ipairs(x) do sum = sum + v * v - 10 * math.cos(2 * math.pi * v) end
  return sum
end
local function ellipsoid(x)
  local sum = 0.0
  for i, v in ipairs(x) do sum = sum + 10 ^ (6 * (i - 1) / (#x - 1)) * v * v end
  return sum
end

local es = search.cmaes { start = { 3, 2, 1, -1, 2 }, sigma = 1, seed = 1, target = 1e-10 }
local x, v, why = es:minimise(sphere)
check.equal(why, "target")
assert(v <= 1e-10 and sphere(x) == v)
assert(es.evaluations < 1200, "sphere in 5 dimensions: " .. es.evaluations)
es = search.cmaes { start = { 1, 1, 1, 1, 1, 1 }, sigma = 0.5, seed = 2, target = 1e-9 }
_, v, why = es:minimise(ellipsoid)
check.equal(why, "target")
assert(es.evaluations < 6000, "an ellipsoid of condition 1e6: " .. es.evaluations) -- hopeless without the covariance
es = search.cmaes { start = { -1, 2, 0, 0 }, sigma = 0.3, seed = 1, target = 1e-9, evals = 20000 }
x, v, why = es:minimise(rosenbrock)
check.equal(why, "target")
for i = 1, 4 do check.near(x[i], 1, 1e-3, "rosenbrock") end
-- One long axis, which the path finds: without the rank-one update it takes twice as long.
es = search.cmaes { start = { 3, 2, 1, -1, 2, 1, 1, 1, 2, -2 }, sigma = 1, seed = 1, target = 1e-9 }
_, v, why = es:minimise(function(p) return 1e6 * sphere(p) - (1e6 - 1) * p[1] ^ 2 end)
check.equal(why, "target")
assert(es.evaluations < 6500, "a cigar in 10 dimensions: " .. es.evaluations)

-- Many valleys: a large population finds the lowest in the box, and no point leaves it.
local asked = 0
es = search.cmaes { start = { 2, -3, 1 }, sigma = 2, low = -5, high = 5, seed = 3, popsize = 60, target = 1e-8 }
x, v, why = es:minimise(function(p)
  asked = asked + 1
  for i = 1, 3 do assert(p[i] >= -5 and p[i] <= 5, "outside of the bounds") end
  return rastrigin(p)
end)
check.equal(why, "target")
check.equal(asked, es.evaluations)
for i = 1, 3 do check.near(x[i], 0, 1e-3, "rastrigin") end

-- A minimum on the wall.
x, v = search.cmaes({ start = { a = 0.5, b = 0.5 }, sigma = 0.3, low = { a = 0.25, b = 0 }, high = 1, seed = 1 })
  :minimise(function(p) return p.a + (p.b - 0.75) ^ 2 end)
check.near(x.a, 0.25, 1e-6)
check.near(x.b, 0.75, 1e-3)
check.near(v, 0.25, 1e-6)

-- One number; a tensor; NaN; ask and tell by hand; the same seed asks the same.
x = search.cmaes({ start = { 4 }, sigma = 1, seed = 1 }):minimise(function(p) return (p[1] - 1) ^ 2 end)
check.near(x[1], 1, 1e-4)
x = search.cmaes({ start = tensor.zeros { 2, 2 }, sigma = 1, seed = 1, target = 1e-8 })
  :minimise(function(t) return ((t - 1) * (t - 1)):sum() end)
check.equal(x.shape[2], 2)
check.near((x - 1):abs():max(), 0, 1e-3)
x = search.cmaes({ start = { 1, 1 }, sigma = 1, seed = 1, target = 1e-6 })
  :minimise(function(p) return p[1] < 0 and 0 / 0 or sphere(p) end)
check.near(x[1], 0, 1e-2)
local one, two = search.cmaes { start = { 1, 1 }, sigma = 1, seed = 7 }, search.cmaes { start = { 1, 1 }, sigma = 1, seed = 7 }
for _ = 1, 3 do
  local p, q, values = one:ask(), two:ask(), {}
  for k in ipairs(p) do
    check.equal(p[k], q[k])
    values[k] = sphere(p[k])
  end
  one:tell(values)
  two:tell(values)
end
check.raises("tell without ask", function() one:tell { 1 } end)
one:ask()
check.raises("ask was called twice", function() one:ask() end)
check.raises("values were told for 6 points", function() one:tell { 1 } end)
check.raises("outside of the bounds", search.cmaes, { start = { 2 }, sigma = 1, high = 1 })
check.raises("sigma is missing", search.cmaes, { start = { 2 } })

-- A journal of an interrupted search: what is known is not asked of the function again.
path = os.tmpname()
local n = 0
local function counted(p)
  n = n + 1
  if n == 25 then error "stop" end
  return sphere(p)
end
local function run(f) return search.cmaes({ start = { 1, 2 }, sigma = 1, seed = 4, evals = 60 }):journal(path):minimise(f) end
check.raises("stop", run, counted)
local resumed, best_value = run(counted)
check.equal(n, 61) -- 24 kept, one failed, 36 left
local straight, straight_value = search.cmaes({ start = { 1, 2 }, sigma = 1, seed = 4, evals = 60 }):minimise(sphere)
check.equal(resumed, straight)
check.equal(best_value, straight_value)
os.remove(path)

-- wrong arguments
check.raises("search.brent: expected a function of one number, got model", search.brent, model.new { { "w", tensor { 1 } } },
  0, 1)
check.raises("search.golden: tol is a text, expected a number", search.golden, math.abs, -1, 1, { tol = "x" })
check.raises("search.cmaes: seed is a table, expected a whole number", search.cmaes, { start = { 1 }, sigma = 1, seed = {} })
