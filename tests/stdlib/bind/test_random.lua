-- SPDX-License-Identifier: Apache-2.0
-- Random expressions, four ways to the same bits: one operation after the other in memory, compiled, compiled for
-- several arguments side by side (compile.map), and planned over a file. Shapes with no and with one element, any
-- dtype, views. TARN_TEST_FIRST=n begins at another one, TARN_TEST_COUNT=n takes so many.
local folder <close> = require "folder" ()
local first, count = tonumber(os.getenv "TARN_TEST_FIRST" or 1), tonumber(os.getenv "TARN_TEST_COUNT" or 60)
local shapes = { { 1, 1 }, { 3, 5 }, { 0, 4 }, { 7, 0 }, { 1, 40 }, { 33, 70 }, { 5, 1 }, { 130, 33 } }
local dtypes = { "f32", "f32", "bf16", "f16", "f64", "i64", "u8", "bool" }

local function floating(t) return t.dtype:find "f" and t or t:to "f32" end
-- Each takes three tensors of the shape (rows, columns) and gives one of that shape again.
local ops = {
  function(a, b) return a + b end,
  function(a, b) return a * b end,
  function(a, b) return a - b * 0.5 end,
  function(a, b) return floating(a) / (floating(b):abs() + 1) end,
  function(a, b, c) return tensor.where(a:gt(b), c, a) end,
  function(a) return floating(a):exp():clamp(-2, 2) end,
  function(a) return floating(a):to "bf16" end,
  function(a) return a:to "f64" end,
  function(a) return floating(a):clamp(0, 9):to "u8" end,
  function(a, b) return a + b:sum(1, true) end,
  function(a, b) return a + b:sum(2, true) end,
  function(a, b) return floating(a) * floating(b):mean(2, true) end,
  function(a, b) return a - b:sum() end,
  function(a, b) return floating(a) * floating(b):dot(floating(b)):sqrt() end,
  function(a) return floating(a):softmax(-1) end,
  function(a) return floating(a):sort() end,
  function(a) return a:t():reshape { a.shape[1], a.shape[2] } end,
  function(a, b) return (a:t() + b:t() * 2):t() end,
  function(a, b) local n = a.shape[1]; return tensor.cat { a:to "f32", b:to "f32" }:reshape { 2, n, a.shape[2] }:sum(1) end,
  function(a, b) return floating(a):matmul(floating(b):t()):matmul(floating(a) * 0.01) end,
  function(a, b) return a:gt(b) end,
  function(a, b) return a:sum(1):reshape { 1, a.shape[2] } * b end,
  function(a, b) return tensor.cat({ b:sum(1, true):to "bf16", a:to "bf16" }, 1)[{ { 2, a.shape[1] + 1 } }] end,
  function(a) return floating(a):cumsum(2) end,
}

-- A program is a list of choices, so that every way runs the same one.
local function program(g)
  local steps = {}
  local function below(n) return tensor.randint(1, n + 1, { 1 }, g):item() end
  for k = 1, 3 + below(7) do
    local function back() return below(4) > 1 and math.max(1, 3 + k - below(3)) or below(2 + k) end
    steps[k] = { ops[below(#ops)], back(), back(), back() }
  end
  return function(x, y, z)
    local v = { x, y, z }
    for _, s in ipairs(steps) do v[#v + 1] = s[1](v[s[2]], v[s[3]], v[s[4]]) end
    return v[#v], v[#v - 1], floating(v[#v]):sum()
  end
end

local function same(a, b)
  if type(a) == "number" or type(b) == "number" then
    a, b = tensor.item(a), tensor.item(b)
    return a == b or (a ~= a and b ~= b)
  end
  if a.dtype ~= b.dtype or a.shape ~= b.shape then return false end
  local nan = a:ne(a)
  return tensor.equal(nan, b:ne(b)) and tensor.equal(tensor.where(nan, 0, a), tensor.where(nan, 0, b))
end

for seed = first, first + count - 1 do
  local g, shape = tensor.generator(seed), shapes[seed % #shapes + 1]
  local function drawn(dtype)
    return (tensor.randn(shape, g) * 3):to(dtype or dtypes[tensor.randint(1, #dtypes + 1, { 1 }, g):item()])
  end
  local x, y, z = drawn(), drawn(), drawn()
  local sets, want = { { x, y, z }, { drawn(x.dtype), y, z }, { drawn(x.dtype), y, drawn(z.dtype) } }, {}
  local f = program(g)
  for k, set in ipairs(sets) do want[k] = { f(table.unpack(set)) } end
  local function check(way, k, got)
    for r, a in ipairs(want[k]) do
      if not same(a, got[r]) then
        error(("seed %d, result %d: %s is not one operation after the other:\n%s\n%s"):format(seed, r, way,
          tostring(a), tostring(tensor.load(got[r]))))
      end
    end
  end
  local compiled = compile(f)
  local lists = { compile.map(compiled, sets) }
  for k, set in ipairs(sets) do
    check("compiled", k, { compiled(table.unpack(set)) })
    check("compile.map", k, { lists[1][k], lists[2][k], lists[3][k] })
  end
  local path = folder "random.safetensors"
  model.new({ x = x, y = y, z = z }):save(path, { overwrite = true })
  local m <close> = model.open(path)
  check("planned", 1, { f(m:tensor "x", m:tensor "y", m:tensor "z") })
end
print "ok"
