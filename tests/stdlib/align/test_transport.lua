-- SPDX-License-Identifier: Apache-2.0
-- Transport with and without entropy against the reference of tests/golden/align: plans, potentials, values, the
-- gradient of a soft permutation.
local check = dofile "tests/stdlib/bind/check.lua"
local decode = require "json.decode".decode
local file = model.load "tests/golden/align/ot.safetensors"
local cases = decode(io.open("tests/golden/align/ot.json"):read "a")
local function get(name) return file:tensor(name) end
local function far(x, y) return (x - y):abs():max() end

-- ---- with entropy ----

-- Two at eps 0.01 are all but permutations with close rivals: the iteration gets there like 1 / rounds.
local slow, count = { square5 = 1e-5, negative_8 = 1e-5 }, 0
for name, c in pairs(cases) do
  for eps, value in pairs(c.value or {}) do
    local cost, a, b = get(name .. ".C"), get(name .. ".a"), get(name .. ".b")
    local o = { reg = tonumber(eps), a = a, b = b, tolerance = 1e-15, iterations = 40000 }
    local plan, f, g = tensor.sinkhorn(cost, o)
    local near = eps == "0.01" and slow[name] or 1e-9
    local label = name .. " at eps " .. eps
    check.near(far(plan, get(name .. ".plan_eps" .. eps)), 0, near, label)
    check.near((plan * cost):sum(), value, 10 * near, label)
    check.near(far(plan:sum(1), b), 0, 1e-12, label)
    -- Potentials of a plan that has all but come apart are hardly determined.
    if eps ~= "0.01" then
      check.near(far(f, get(name .. ".f_eps" .. eps)), 0, 1e-7, label)
      check.near(far(g, get(name .. ".g_eps" .. eps)), 0, 1e-7, label)
    end
    count = count + 1
  end
end
check.equal(count, 26)

-- A fixed number of rounds, rows then columns; the gradient of the limit.
local soft = tensor.sinkhorn(-get "soft_perm_20.M", { iterations = 20, tolerance = 0 })
check.near(far(soft, get "soft_perm_20.P"), 0, 1e-12)
local G = get "soft_perm_grad.G"
local function score(m) return (tensor.sinkhorn(-m, { iterations = 5000, tolerance = 1e-15 }) * G):sum() end
check.near(far(grad(score, get "soft_perm_grad.M"), get "soft_perm_grad.dM"), 0, 1e-10)

-- Batches, dtypes, one column, hard plans whose gradient is zero and not NaN.
local c = tensor.uniform({ 3, 4, 5 }, 1)
local all = tensor.sinkhorn(c, { reg = 0.2 })
for k = 1, 3 do check.near(far(all[k], tensor.sinkhorn(c[k], { reg = 0.2 })), 0, 0) end
check.equal(all.dtype, "f32")
check.near(far(tensor.sinkhorn(tensor { { 3 }, { 1 } }), tensor { { 1 }, { 1 } }), 0, 1e-6)
local function hard(m) return (tensor.sinkhorn(m, { reg = 1e-3 }) * tensor { { 1, 2 }, { 3, 5 } }):sum() end
check.near(grad(hard, tensor { { 0, 1 }, { 1, 0 } }):abs():max(), 0, 1e-6)

check.raises("sums of 3 rows", tensor.sinkhorn, tensor.zeros { 3, 2 }, { a = tensor { 1, 2 } })
check.raises("column 2 is 0", tensor.sinkhorn, tensor.zeros { 2, 2 }, { b = tensor { 2, 0 } })
check.raises("add up to 2", tensor.sinkhorn, tensor.zeros { 2, 2 }, { b = tensor { 2, 3 } })
check.raises("reg has to be a number above 0", tensor.sinkhorn, tensor.zeros { 2, 2 }, { reg = 0 })
check.raises("did you mean", tensor.sinkhorn, tensor.zeros { 2, 2 }, { rg = 1 })

-- ---- without entropy ----

for name, case in pairs(cases) do
  if case.exact_value then
    local cost, a, b = get(name .. ".C"), get(name .. ".a"), get(name .. ".b")
    local plan, value = align.transport(cost, a, b)
    check.near(value, case.exact_value, 1e-9, name)
    check.near((plan * cost):sum(), value, 1e-12, name)
    check.near(far(plan:sum(2), a), 0, 1e-14, name)
    check.near(far(plan:sum(1), b), 0, 1e-14, name)
    assert(plan:min() >= 0)
  end
end

-- Masses of any dtype, or left out; nothing where there is no mass; with entropy the same as the row.
local x = tensor.uniform({ 6, 4 }, 5)
local plan, value = align.transport(x, tensor { 1, 0, 2, 1, 0, 4 }, tensor { 3, 5, 0, 0 })
check.near(plan[2]:sum() + plan[5]:sum() + plan:sum(1)[3] + plan:sum(1)[4], 0, 0)
check.near(plan:sum(), 8, 1e-12)
check.near(value, (plan * x):sum(), 1e-12)
check.near(far(align.transport(x):sum(1), tensor.full({ 4 }, 0.25, { dtype = "f64" })), 0, 1e-15)
local smooth, near = align.transport(x, nil, nil, { reg = 0.05 })
check.near(smooth:sum(), 1, 1e-5)
assert(near >= select(2, align.transport(x)) and near < x:mean())
check.raises("add up to 2, those of the columns to 3", align.transport, tensor.zeros { 2, 2 }, tensor { 1, 1 }, tensor { 1, 2 })
check.raises("mass of row 1 is -1", align.transport, tensor.zeros { 2, 2 }, tensor { -1, 3 }, tensor { 1, 1 })
check.raises("2 masses of rows", align.transport, tensor.zeros { 2, 2 }, tensor { 1 }, tensor { 1, 1 })
check.raises("without a place", align.transport, tensor { { 1, 1 / 0 }, { 1, 1 / 0 } }, tensor { 1, 2 }, tensor { 2, 1 })
check.raises("did you mean", align.transport, x, nil, nil, { rg = 1 })

-- Gaussian transport: the map is linear and symmetric, by square roots of matrices.
local function root(s)
  local w, v = s:eigh()
  return (v * w:sqrt()):matmul(v:t())
end
local s1, s2 = get "gauss.S1", get "gauss.S2"
local r1 = root(s1)
local map = r1:solve(root(r1:matmul(s2):matmul(r1))):matmul(r1:solve(tensor.eye(4, { dtype = "f64" })))
check.near(far(map, get "gauss.map"), 0, 1e-9)
