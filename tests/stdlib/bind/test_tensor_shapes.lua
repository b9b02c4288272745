-- SPDX-License-Identifier: Apache-2.0
-- Diagonals, triangles, orders, copies and pieces against loops over their elements, and their derivatives, which put a
-- gradient where the element came from. That planned tensors give the same bits is in test_planned.lua.
local check = require "check"
local equal, raises, same = check.equal, check.raises, check.tensor

local function i64(t) return tensor(t, { dtype = "i64" }) end
local function count(...) -- 1, 2, … in that shape
  local shape = { ... }
  local n = 1
  for _, s in ipairs(shape) do n = n * s end
  return tensor.range(n):reshape(shape)
end

-- ---- matrices ----

do
  for _, size in ipairs { { 3, 3 }, { 2, 4 }, { 4, 2 }, { 1, 3 } } do
    local m, n = table.unpack(size)
    local x = count(m, n)
    for offset = -5, 5 do
      local line, low, high = {}, {}, {}
      for i = 1, m do
        low[i], high[i] = {}, {}
        for j = 1, n do
          if j - i == offset then line[#line + 1] = x[{ i, j }] end
          low[i][j] = j - i <= offset and x[{ i, j }] or 0
          high[i][j] = j - i >= offset and x[{ i, j }] or 0
        end
      end
      same(x:diagonal(offset), line, "diagonal " .. offset)
      same(x:diag(offset), line)
      same(x:tril(offset), low, "tril " .. offset)
      same(x:triu(offset), high, "triu " .. offset)
      same(x:t():diagonal(-offset), line, "of a view")
      if #line > 0 then same(i64(line):diag(offset):diagonal(offset), line, "there and back") end
    end
  end
  same(count(2):diag(), { { 1, 0 }, { 0, 2 } })
  same(count(2):diag(1), { { 0, 1, 0 }, { 0, 0, 2 }, { 0, 0, 0 } })
  same(count(1):diag(-1), { { 0, 0 }, { 1, 0 } })
  same(tensor { 1 / 0, 1 }:diag(), { { 1 / 0, 0.0 }, { 0.0, 1.0 } }, "infinities stay where they are")
  local x = count(2, 3, 4)
  equal(x:diagonal().shape, { 4, 2 })
  for k = 1, 4 do same(x:diagonal()[k], { x[{ 1, 1, k }], x[{ 2, 2, k }] }) end
  equal(x:diagonal(1, 3, 1).shape, { 3, 1 })
  for k = 1, 3 do same(x:diagonal(1, 3, 1)[k], { x[{ 2, k, 1 }] }) end
  for k = 1, 2 do same(x:tril()[k], x[k]:tril():totable(), "a batch") end
  equal(tensor({ { true, true }, { true, true } }):triu(1).dtype, "bool")
  same(tensor({ { true, true }, { true, true } }):triu(1), { { false, true }, { false, false } })
  for _, dtype in ipairs { "bf16", "f16", "f32", "f64", "u8", "i32", "i64", "bool" } do
    local one = tensor.ones({ 2, 2 }):to(dtype)
    for name, y in pairs { diag = one[1]:diag(1), tril = one:tril(), triu = one:triu() } do
      equal(y.dtype, dtype, name .. " keeps the dtype")
    end
    same(one:tril():to "i64", { { 1, 0 }, { 1, 1 } }, dtype)
    same(one[1]:diag(-1):to "i64", { { 0, 0, 0 }, { 1, 0, 0 }, { 0, 1, 0 } }, dtype)
  end
  equal(i64 { 1, (1 << 62) + 1 }:diag()[{ 2, 2 }], (1 << 62) + 1, "integers are exact")
  equal(count(2, 2):trace(), 5.0)
  equal(count(2, 3):trace(), 6.0)
  equal(tensor.zeros({ 0, 3 }):diagonal().shape, { 0 })
  raises("tensor:diagonal: expected a tensor of rank 2 or more, got rank 1", function() count(3):diagonal() end)
  raises("tensor:diagonal: dim1 and dim2 are both dimension 2", function() x:diagonal(0, 2, -2) end)
  raises("tensor:diagonal: dimension 4 of a tensor of rank 3", function() x:diagonal(0, 4) end)
  raises("tensor:diagonal: offset is a whole number, not 0.5", function() x:diagonal(0.5) end)
  raises("tensor:diag: expected a tensor of rank 1, got rank 3", function() x:diag() end)
  raises("tensor:trace: expected a tensor of rank 2, got rank 3", function() x:trace() end)
  raises("tensor:tril: expected a tensor of rank 2 or more, got a number", tensor.tril, 5)
  raises("tensor:tril: expected a tensor or a number, got string", tensor.tril, "x")
  same(i64 { 1, 2 }:outer(i64 { 3, 4, 5 }), { { 3, 4, 5 }, { 6, 8, 10 } })
  raises("tensor:outer: expected a tensor of rank 1, got rank 2", function() count(2):outer(count(2, 2)) end)
end

-- ---- orders ----

do
  local x = count(2, 3)
  same(x:flip(), { { 6, 5, 4 }, { 3, 2, 1 } })
  same(x:flip(1), { { 4, 5, 6 }, { 1, 2, 3 } })
  same(x:flip { -1 }, { { 3, 2, 1 }, { 6, 5, 4 } })
  same(x:flip {}, x:totable())
  equal(tensor.zeros({ 0, 2 }):flip().shape, { 0, 2 })
  raises("tensor:flip: several dimensions are a table: t:flip({ 1, 2 })", function() x:flip(1, 2) end)
  raises("tensor:flip: dimension 2 is named twice", function() x:flip { 2, -1 } end)
  for shift = -7, 7 do
    local want = {}
    for k = 1, 5 do want[(k - 1 + shift) % 5 + 1] = k end
    same(count(5):roll(shift), want, "roll " .. shift)
  end
  same(x:roll(1), { { 6, 1, 2 }, { 3, 4, 5 } }, "in row-major order")
  same(x:roll(1, 1), { { 4, 5, 6 }, { 1, 2, 3 } })
  same(x:roll({ 1, -1 }, { 1, 2 }), { { 5, 6, 4 }, { 2, 3, 1 } })
  equal(tensor.zeros({ 0, 2 }):roll(1, 1).shape, { 0, 2 })
  raises("tensor:roll: 2 shifts for 1 dimensions", function() x:roll({ 1, 2 }, 1) end)
  raises("tensor:roll: shift is a whole number, not nil", function() x:roll() end)
  raises("tensor:roll: dimension 3 of a tensor of rank 2", function() x:roll(1, 3) end)
end

-- ---- copies and pieces ----

do
  local x = count(2, 2)
  same(x:tile { 1, 2 }, { { 1, 2, 1, 2 }, { 3, 4, 3, 4 } })
  same(x:tile { 2, 1 }, { { 1, 2 }, { 3, 4 }, { 1, 2 }, { 3, 4 } })
  same(x:tile(2), { { 1, 2, 1, 2 }, { 3, 4, 3, 4 } })
  same(count(2):tile { 2, 1, 2 }, { { { 1, 2, 1, 2 } }, { { 1, 2, 1, 2 } } })
  equal(x:tile({ 0, 3 }).shape, { 0, 6 })
  same(x:t():tile { 2, 1 }, { { 1, 3 }, { 2, 4 }, { 1, 3 }, { 2, 4 } }, "of a view")
  local most = count(2, 1, 1, 1, 1, 1, 1, 3) -- as many dimensions as there are
  same(most:tile(2):flatten(), { 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6 })
  same(most:tile({ 2, 1, 1, 1, 1, 1, 1, 1 }):flatten(), { 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6 })
  equal(most:tile({ 1, 1, 1, 4, 1, 1, 1, 0 }).shape, { 2, 1, 1, 4, 1, 1, 1, 0 })
  raises("tensor:tile: the counts are a table: t:tile({ 2, 3 })", function() x:tile(2, 3) end)
  raises("tensor:tile: the counts are a table", function() x:tile() end)
  raises("tensor:tile: a count is -1", function() x:tile { -1 } end)

  local function sizes(list, dim)
    local out = {}
    for i, p in ipairs(list) do out[i] = p.shape[dim] end
    return out
  end
  local y = count(7, 2)
  equal(sizes(y:split(3), 1), { 3, 3, 1 })
  equal(sizes(y:split({ 2, 0, 5 }), 1), { 2, 0, 5 })
  equal(sizes(y:split(7), 1), { 7 })
  equal(sizes(y:split(1, -1), 2), { 1, 1 })
  equal(sizes(y:chunk(3), 1), { 3, 3, 1 })
  equal(sizes(count(6):chunk(3), 1), { 2, 2, 2 })
  equal(sizes(y:chunk(5), 1), { 2, 2, 2, 1 }, "fewer, as in PyTorch")
  equal(sizes(y:chunk(9), 1), { 1, 1, 1, 1, 1, 1, 1 })
  same(tensor.cat(y:split(3)), y:totable())
  same(tensor.cat(y:t():chunk(4, 2), 2), y:t():totable())
  same(y:split({ 2, 0, 5 })[3], y[{ { 3, 7 } }]:totable())
  raises("tensor:split: the sizes add up to 6; dimension 1 has 7", function() y:split { 2, 4 } end)
  raises("tensor:split: the size is 0; expected 1 or more", function() y:split(0) end)
  raises("tensor:split: a size is -1; expected 0 or more", function() y:split { 8, -1 } end)
  -- what is moved nowhere is a copy all the same; diagonals and pieces are views
  for _, f in ipairs { function(t) return t:flip {} end, function(t) return t:roll(4) end, function(t) return t:roll(0, 1) end,
    function(t) return t:tile { 1, 1 } end } do
    local t = count(2, 2)
    f(t):fill_(9)
    same(t, { { 1, 2 }, { 3, 4 } })
  end
  local t = count(2, 2)
  t:diagonal():fill_(9)
  t:split(1, 2)[2]:add_(10)
  same(t, { { 9, 12 }, { 3, 19 } })
  raises("tensor:chunk: the number of pieces is 0", function() y:chunk(0) end)
  raises("tensor:chunk: expected a tensor of rank 1 or more, got a number", tensor.chunk, 5, 2)
end

-- ---- derivatives: with distinct weights behind a function that moves elements, the gradient is its way back ----

do
  local x = tensor.randn({ 4, 3 }, 1, { dtype = "f64" })
  local ways = {
    diagonal = function(t) return t:diagonal(-1) end, diag = function(t) return t[{ {}, 2 }]:diag(1) end,
    tril = function(t) return t:tril(-1) end, triu = function(t) return t:triu() end,
    flip = function(t) return t:flip() end, roll = function(t) return t:roll(2):roll(1, 1) end,
    tile = function(t) return t:tile { 2, 1, 2 } end, split = function(t) return t:split(3)[1] end,
    chunk = function(t) return t:chunk(2, 2)[2] end,
  }
  for name, f in pairs(ways) do
    local y = f(x)
    local w = tensor.range(y:numel()):reshape(y.shape):to "f64"
    -- linear in t: the value at the unit of each element
    local want = {}
    for i = 1, 4 do
      want[i] = {}
      for j = 1, 3 do
        local unit = tensor.zeros({ 4, 3 }, { dtype = "f64" })
        unit:set_({ i, j }, 1)
        want[i][j] = (f(unit) * w):sum()
      end
    end
    same(grad(function(t) return (f(t) * w):sum() end, x), want, name)
    same((jvp(f, x, x)), y:totable(), name .. " forwards")
  end
  equal(grad(function(t) return t:trace() end, x[{ { 1, 3 } }]):sum(), 3.0)
  local a, b = x[{ {}, 1 }], x[{ {}, 2 }]
  same(grad(function(t) return t:outer(b):sum() end, a), tensor.full({ 4 }, b:sum(), { dtype = "f64" }):totable())
end
print "ok"
