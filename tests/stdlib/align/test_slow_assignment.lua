-- SPDX-License-Identifier: Apache-2.0
-- All of the reference assignments, which lie beside the tree and not in it, with the large ones: sizes 500 and
-- 1000, and correlations of 1024 and 2048 features by a counter formula.
local folder = "../shared/oracles/landscape/lap/"
local there = io.open(folder .. "lap.json")
if not there then
  print("skipped: " .. folder .. " is not there")
  return
end
there:close()
local lap = dofile "tests/stdlib/align/lap.lua"
local count, file, cases = lap.all(folder)
assert(count == 41, count)

-- Rows to mean 0 and length 1.
local function unit(x)
  x = x - x:mean(2, true)
  return x / (x * x):sum(2, true):sqrt()
end
local c = cases.instances.corr_500
lap.optimal("corr_500", unit(file:tensor "corr_500.a":to "f64"):matmul(unit(file:tensor "corr_500.b":to "f64"):t()),
  { maximise = true }, c.optimal, 1e-9)

-- u(k) of splitmix64, k = 0, 1 …
local function formula(seed, k)
  local z = seed + (k + 1) * 0x9E3779B97F4A7C15
  z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
  z = (z ~ (z >> 27)) * 0x94D049BB133111EB
  z = z ~ (z >> 31)
  return (z >> 11) * 2.0 ^ -53 - 0.5
end
for _, f in ipairs(cases.formula_correlation) do
  local a, b = {}, {}
  for i = 0, f.n - 1 do
    a[i + 1] = {}
    for d = 0, f.dim - 1 do a[i + 1][d + 1] = formula(f.seed, i * f.dim + d) end
  end
  for i = 0, f.n - 1 do
    b[i + 1] = {}
    local from = a[(5 * i + 1) % f.n + 1]
    for d = 0, f.dim - 1 do b[i + 1][d + 1] = from[d + 1] + f.noise * formula(f.seed, f.n * f.dim + i * f.dim + d) end
  end
  local cost = unit(tensor(a, { dtype = "f64" })):matmul(unit(tensor(b, { dtype = "f64" })):t())
  local _, value = align.assignment(cost, { maximise = true })
  assert(math.abs(value - f.optimal) <= 1e-12 * f.optimal, value)
end
