-- SPDX-License-Identifier: Apache-2.0
-- align.assignment against SciPy's optima, and what it takes and refuses.
local check = dofile "tests/stdlib/bind/check.lua"
local lap = dofile "tests/stdlib/align/lap.lua"

assert(lap.all "tests/golden/align/" == 27)

-- every dtype, planned values, views
local whole = { { 4, 1, 3 }, { 2, 0, 5 }, { 3, 2, 2 } }
for _, dtype in ipairs { "f64", "f32", "f16", "bf16", "i64", "i32", "u8" } do
  local index, value, prices = align.assignment(tensor(whole, { dtype = dtype }))
  check.equal({ index[1], index[2], index[3], value }, { 2, 1, 3, 5.0 })
  check.equal({ index.dtype, prices.dtype }, { "i64", "f64" })
end
local c = tensor.uniform({ 90, 130 }, 3)
local index, value = align.assignment(c, { maximise = true })
local turned, same = align.assignment(c:t(), { maximise = true })
assert(math.abs(value - same) < 1e-9)
for i = 1, 90 do check.equal(turned[index[i]], i) end

-- a planted permutation comes back
local order = tensor.uniform({ 200 }, 7):argsort()
local x = tensor.normal({ 200, 64 }, 8)
local y = x:index_select(1, order) + 0.3 * tensor.normal({ 200, 64 }, 9)
index = align.assignment(y:matmul(x:t()), { maximise = true })
for i = 1, 200 do check.equal(index[i], order[i]) end

check.raises("row 2 and column 1 is NaN", align.assignment, tensor { { 1, 2 }, { 0 / 0, 1 } })
check.raises("forbidden by plus infinity", align.assignment, tensor { { 1, -math.huge }, { 0, 1 } })
check.raises("all pairs of row 2 are forbidden", align.assignment, tensor { { 1, 2 }, { math.huge, math.huge } })
check.raises("expected a matrix of costs, got [2]", align.assignment, tensor { 1, 2 })
check.raises("expected a matrix of costs, got a string", align.assignment, "x")
check.raises("did you mean", align.assignment, c, { maximse = true })
check.raises("expected 130 prices to start from", align.assignment, c, { start = tensor { 1 } })
