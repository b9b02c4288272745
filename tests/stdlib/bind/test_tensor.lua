-- SPDX-License-Identifier: Apache-2.0
-- Tensors in memory, as scripts see them: making, indexing, arithmetic, shapes, in-place methods, and
-- every message.
local check = require "check"
local equal, near, raises, same = check.equal, check.near, check.raises, check.tensor
local inf, nan = math.huge, 0 / 0

local function i64(t) return tensor(t, { dtype = "i64" }) end
local function f64(t) return tensor(t, { dtype = "f64" }) end

-- ---- nested tables ----
do
  local t = tensor { { 1, 2, 3 }, { 4, 5, 6 } }
  equal(t.dtype, "f32")
  equal(t.rank, 2)
  equal(#t, 2)
  equal(t:numel(), 6)
  equal(tostring(t.shape), "[2, 3]")
  assert(t.shape == tensor.zeros({ 2, 3 }).shape and t.shape ~= t:t().shape)
  equal(t.planned, false)
  same(t, { { 1.0, 2.0, 3.0 }, { 4.0, 5.0, 6.0 } })
  equal(tensor({ 1, 0.1 }, { dtype = "f64" })[2], 0.1)
  equal(tensor { 0.1 }[1], 0.10000000149011612)  -- f32, rounded once
  equal(tensor({ 1, 2.00390625 }, { dtype = "bf16" })[2], 2.0)  -- to even
  equal(tensor { true, false }.dtype, "bool")
  same(tensor { true, false }, { true, false })
  same(i64 { 9007199254740993 }, { 9007199254740993 })
  same(tensor({ 300, -1 }, { dtype = "i16" }), { 300, -1 })
  same(tensor { {}, {} }, { {}, {} })
  equal(tostring(tensor { {}, {} }.shape), "[2, 0]")
  equal(tensor(5), 5.0)
  equal(tensor(t, { dtype = "bf16" }).dtype, "bf16")
  raises("row [2] has 1 elements, the first one 2", tensor, { { 1, 2 }, { 3 } })
  raises("row [2][1] has 2 elements, the first one 1", tensor, { { { 1 } }, { { 2, 3 } } })
  raises("element [1][2] is a string; expected a number", tensor, { { 1, "x" } })
  raises("element [2] is a number; expected a table of 1", tensor, { { 1 }, 2 })
  raises("element [2] is a nil", tensor, { 1, nil, 3 })
  raises("element [1] is a tensor; expected a number (tensor.stack joins tensors)", tensor, { t })
  raises("unknown option 'dtyp'; did you mean 'dtype'?", tensor, { 1 }, { dtyp = "f32" })
  raises("options go into a table of their own, after it", tensor, { 1, dtype = "f64" })
  raises("unknown dtype 'f33'; did you mean 'f32'?", tensor, { 1 }, { dtype = "f33" })
  raises("unknown dtype 'complicated'; expected f32", tensor, { 1 }, { dtype = "complicated" })
  raises("must be a string", tensor, { 1 }, { dtype = 3 })
  raises("expected a table of numbers, got nothing", tensor)
  raises("expected a table of numbers, got string", tensor, "x")
  raises("can be stored and copied, not made", tensor, { 1 }, { dtype = "c64" })
  local deep = { { { { { { { { { 1 } } } } } } } } }
  raises("tables more than 8 deep", tensor, deep)
  local loop = {}
  loop[1] = loop
  raises("tables more than 8 deep", tensor, loop)
end

-- ---- filled ----
do
  same(tensor.zeros(2), { 0.0, 0.0 })
  same(tensor.ones({ 1, 2 }), { { 1.0, 1.0 } })
  same(tensor.full({ 2 }, 0.1, { dtype = "f64" }), { 0.1, 0.1 })
  same(tensor.full(3, true), { true, true, true })
  equal(tensor.full({}, 7), 7.0)
  equal(tensor.zeros({ 2, 0 }):numel(), 0)
  equal(tensor.zeros_like(i64 { 1, 2 }).dtype, "i64")
  same(tensor.ones_like(tensor { 5, 6 }, { dtype = "i8" }), { 1, 1 })
  same(tensor.eye(2), { { 1.0, 0.0 }, { 0.0, 1.0 } })
  same(tensor.eye(2, 3, { dtype = "i32" }), { { 1, 0, 0 }, { 0, 1, 0 } })
  equal(tensor.full(1000, 3, { dtype = "i16" }):sum(), 3000.0)
  raises("a shape of several dimensions is a table: {2, 3}", tensor.zeros, 2, 3)
  raises("dimension 2 of the shape is negative (-3)", tensor.zeros, { 2, -3 })
  raises("a dimension must be a whole number, got 2.5", tensor.zeros, { 2.5 })
  raises("a dimension must be a whole number, got string", tensor.zeros, { "2" })
  raises("tensor.zeros: a shape is a table such as {2, 3} or one integer, got nothing", tensor.zeros)
  raises("at most 8 dimensions", tensor.zeros, { 1, 1, 1, 1, 1, 1, 1, 1, 1 })
  raises("more than 2^63 elements", tensor.zeros, { 1 << 40, 1 << 40 })
  raises("tensor.full: the value must be a number, got nothing", tensor.full, 2)
  raises("unknown option 'dtypes'; did you mean 'dtype'?", tensor.full, 2, 1, { dtypes = "f32" })
  raises("tensor.eye: the size must be a whole number, got nothing", tensor.eye)
  raises("memory", tensor.zeros, { 1 << 40 })
end

-- ---- steps ----
do
  same(tensor.arange(3), { 0, 1, 2 })
  equal(tensor.arange(3).dtype, "i64")
  same(tensor.arange(1, 2, 0.5), { 1.0, 1.5 })
  same(tensor.arange(3, 0, -1), { 3, 2, 1 })
  same(tensor.range(3), { 1, 2, 3 })
  same(tensor.range(1, 2, 0.5), { 1.0, 1.5, 2.0 })
  same(tensor.range(3, 1, -2), { 3, 1 })
  same(tensor.range(0), {})
  same(tensor.arange(2, { dtype = "f64" }), { 0.0, 1.0 })
  same(tensor.linspace(0, 1, 5), { 0.0, 0.25, 0.5, 0.75, 1.0 })
  equal(tensor.linspace(0.1, 0.7, 4, { dtype = "f64" })[4], 0.7)
  equal(tensor.linspace(3, 9, 1)[1], 3.0)
  raises("has no end", tensor.arange, 0, 1, 0)
  raises("has no end", tensor.arange, 0, inf)
  raises("the end must be a number, got nothing", tensor.arange)
  raises("the number of points must be a whole number", tensor.linspace, 0, 1)
  raises("the number of points is negative (-1)", tensor.linspace, 0, 1, -1)
end

-- ---- random numbers ----
do
  assert(tensor.equal(tensor.rand({ 2, 3 }, 1), tensor.rand({ 2, 3 }, 1)))
  assert(not tensor.equal(tensor.rand({ 2, 3 }, 1), tensor.rand({ 2, 3 }, 2)))
  assert(not tensor.equal(tensor.rand({ 6 }, 1), tensor.randn({ 6 }, 1)))
  local u = tensor.uniform({ 10000 }, 7, { low = 2, high = 3 })
  assert(u:min() >= 2 and u:max() < 3)
  near(u:mean(), 2.5, 0.02)
  local n = tensor.normal({ 10000 }, 7, { mean = 10, std = 0.5 })
  near(n:mean(), 10, 0.02)
  near(n:std(), 0.5, 0.02)
  for _, name in ipairs { "rand", "randn", "uniform", "normal" } do -- PyTorch's randn(2, 3) has two dimensions
    raises("tensor." .. name .. ": a shape of several dimensions is a table: {2, 3}; a seed goes with a table: tensor." .. name
      .. "({2}, 3)", tensor[name], 2, 3)
    equal(tensor[name](2, tensor.generator(3)).shape, { 2 })
  end
  equal(tensor.randn({ 4 }, 1, { dtype = "bf16" }).dtype, "bf16")
  equal(tensor.randn({ 4 }, 1, { dtype = "f64" }).dtype, "f64")
  near(tensor.bernoulli(10000, 0.3, 7):mean(), 0.3, 0.02)
  equal(tensor.bernoulli(10, 1, 7):sum(), 10.0)
  equal(tensor.bernoulli(10, 0, 7, { dtype = "f32" }):sum(), 0.0)
  local d = tensor.randint(1, 7, 6000, 7)
  assert(d:min() == 1 and d:max() == 6)
  near(d:to("f64"):mean(), 3.5, 0.1)
  same((tensor.randperm(50, 7):sort()), tensor.range(50):totable())
  assert(not tensor.equal(tensor.randperm(50, 7), tensor.range(50)))
  local g, h = tensor.generator(5), tensor.generator(5)
  local a, b = tensor.rand(4, g), tensor.rand(4, g)
  assert(not tensor.equal(a, b))
  assert(tensor.equal(a, tensor.rand(4, h)) and tensor.equal(b, tensor.rand(4, h)))
  equal(tostring(g), "generator (seed 5, 2 drawn)")
  raises("tensor.rand: a seed or generator is needed after the shape", tensor.rand, { 2, 3 })
  raises("tensor.randn: a seed or generator is needed", tensor.randn, 2, { dtype = "f64" })
  raises("tensor.rand: the seed must be a whole number, got 1.5", tensor.rand, { 2 }, 1.5)
  raises("dtype i64 is not a floating one", tensor.rand, { 2 }, 1, { dtype = "i64" })
  raises("unknown option 'hi'", tensor.uniform, { 2 }, 1, { hi = 1 })
  raises("the probability is 2; expected 0 to 1", tensor.bernoulli, 2, 2, 1)
  raises("no whole number is at least 3 and below 3", tensor.randint, 3, 3, 2, 1)
  raises("the size is negative (-1)", tensor.randperm, -1, 1)
end

-- ---- indexing ----
do
  local t = tensor.arange(24):reshape({ 2, 3, 4 })
  equal(t[{ 1, 1, 1 }], 0)
  equal(t[{ -1, -1, -1 }], 23)
  same(t[2][1], { 12, 13, 14, 15 })
  equal(t[2][1][3], 14)
  same(t[{ 1, { 2, 3 }, 1 }], { 4, 8 })
  same(t[{ 1, { 2 }, 1 }], { 4, 8 })
  same(t[{ 1, {}, 1 }], { 0, 4, 8 })
  same(t[{ 1, 1, { 1, -1, 2 } }], { 0, 2 })
  same(t[{ 1, 1, { -2, -1 } }], { 2, 3 })
  same(t[{ {}, 3 }], { { 8, 9, 10, 11 }, { 20, 21, 22, 23 } })
  equal(tostring(t[{ { 2, 1 } }].shape), "[0, 3, 4]")
  equal(tostring(t[{ { 3, 2 } }].shape), "[0, 3, 4]")
  equal(tostring(tensor.zeros({ 0, 2 })[{ {} }].shape), "[0, 2]")
  equal(#t[{}], 2)
  equal(tensor { 5, 6 }[2.0], 6.0)
  raises("index 3 is outside axis 1, which has 2 elements (1 to 2, or -2 to -1)", function() return t[3] end)
  raises("index 0 is outside axis 1", function() return t[0] end)
  raises("index -3 is outside axis 1", function() return t[-3] end)
  raises("index 4 is outside axis 2, which has 3", function() return t[{ 1, 4 }] end)
  raises("index 9 is outside axis 3, which has 4", function() return t[{ 1, 1, { 2, 9 } }] end)
  raises("index 5 is outside axis 3", function() return t[{ 1, 1, { 5, 5 } }] end)
  raises("4 indices for a tensor of rank 3", function() return t[{ 1, 1, 1, 1 }] end)
  raises("axis 2: an index is a whole number, a range {first, last} or {} for all, not 1.5",
    function() return t[{ 1, 1.5 }] end)
  raises("not string", function() return t[{ "x" }] end)
  raises("axis 1: a range is {first, last, step}, got 4 numbers", function() return t[{ { 1, 2, 3, 4 } }] end)
  raises("the step of a range is at least 1, not -1", function() return t[{ { 1, 2, -1 } }] end)
  raises("unknown option 'dim'", function() return t[{ dim = 1 }] end)
  raises("not by a boolean", function() return t[true] end)
  raises("no such method; did you mean tensor:softmax?", function() return t:sotfmax() end)
  raises("no such method (help", function() return t.quite_unlike_anything end)
  raises("tensor:view: no such method; here it is t:reshape({2, 3})", function() return t:view(2, 3) end)
  raises("tensor:dim: no such method; here it is t.rank", function() return t:dim() end)
  raises("tensor:expand: the shape is a table", function() return t:expand(4, 3) end)
  raises("shape is a field: t.shape[1], not t:shape()", function() return t:shape() end)
  raises("a tensor is indexed with brackets", function() return t(1) end)
  raises("a tensor is not assigned into: t:set_({1, 2}, v)", function() t[1] = 3 end)
  raises("a tensor of rank 0 has no length",
    function() return grad(function(x) return #x end, 1.0) end)
  -- by tensors
  same(tensor { 10, 20, 30 }[i64 { 3, 1, 1 }], { 30.0, 10.0, 10.0 })
  same(tensor { { 1, 2 }, { 3, 4 } }[i64 { 2, 2 }], { { 3.0, 4.0 }, { 3.0, 4.0 } })
  same(tensor { { 1, 2 }, { 3, 4 } }[i64 { { 2 }, { 1 } }], { { { 3.0, 4.0 } }, { { 1.0, 2.0 } } })
  raises("index 4 is outside 1 to 3", function() return tensor { 1, 2, 3 }[i64 { 4 }] end)
  raises("index 0 is outside 1 to 3", function() return tensor { 1, 2, 3 }[i64 { 0 }] end)
  raises("the index is f32; expected an integer tensor (t:to(\"i64\"))",
    function() return tensor { 1 }[tensor { 1 }] end)
  raises("t:masked_select(mask) picks", function() return tensor { 1 }[tensor { true }] end)
end

-- ---- views and writing ----
do
  local t = tensor.zeros({ 2, 3 })
  t[1]:fill_(5)
  t[{ {}, 3 }]:copy_(tensor { 7, 8 })
  same(t, { { 5.0, 5.0, 7.0 }, { 0.0, 0.0, 8.0 } })
  t:t()[1]:add_(1)
  same(t, { { 6.0, 5.0, 7.0 }, { 1.0, 0.0, 8.0 } })
  t:set_({ 2, 2 }, 9):set_({ 1 }, 0):set_({ { 1, 2 }, -1 }, tensor { { 1 }, { 2 } })
  same(t, { { 0.0, 0.0, 1.0 }, { 1.0, 9.0, 2.0 } })
  tensor { 1, 2 }:set_(1, 3)
  local u = tensor { 1, 2, 3, 4 }
  u[{ { 2, 4 } }]:copy_(u[{ { 1, 3 } }])  -- overlapping
  same(u, { 1.0, 1.0, 2.0, 3.0 })
  same(u:mul_(2):sub_(1):div_(2), { 0.5, 0.5, 1.5, 2.5 })
  same(i64 { 1, 2 }:add_(0.7), { 2, 3 })  -- stored with one rounding to the tensor's dtype
  same(u:zero_(), { 0.0, 0.0, 0.0, 0.0 })
  same(tensor.zeros({ 2, 2 }):add_(tensor { 1, 2 }), { { 1.0, 2.0 }, { 1.0, 2.0 } })
  same(tensor({ 1 }, { dtype = "bf16" }):add_(0.001), { 1.0 })
  local c = t:clone()
  c:fill_(0)
  assert(t:sum() ~= 0)
  raises("elements of an expanded tensor share memory", function() tensor { 1 }:expand({ 3 }):add_(1) end)
  raises("tensor:fill_: expected a number (tensor:copy_ takes tensors)",
    function() t:fill_(tensor { 1, 2, 3 }) end)
  raises("does not stretch", function() tensor { 1, 2 }:add_(tensor { { 1, 2 }, { 3, 4 } }) end)
  raises("do not broadcast", function() tensor { 1, 2 }:add_(tensor { 1, 2, 3 }) end)
  raises("expected a tensor or a number, got string", function() t:add_("x") end)
  raises("tensor:set_: expected an index", function() t:set_("x", 1) end)
  raises("tensor expected", function() t.add_(1, 2) end)
end

-- ---- arithmetic, dtypes ----
do
  local a, b = tensor { 1, 2 }, tensor { 3, 5 }
  same(a + b, { 4.0, 7.0 })
  same(2 - a, { 1.0, 0.0 })
  same(a * b - a / b, { 2.6666667461395264, 9.600000381469727 })
  same(b ^ 2, { 9.0, 25.0 })
  same(-a, { -1.0, -2.0 })
  same(tensor { 7, -7 } // 2, { 3.0, -4.0 })
  same(tensor { 7, -7 } % 4, { 3.0, 1.0 })
  same(7 // tensor { 2, -2 }, { 3.0, -4.0 })
  same(i64 { 7, -7 } // 2, { 3, -4 })
  same(i64 { 7, -7 } % i64 { 4, -4 }, { 3, -3 })
  same(i64 { 9007199254740991 } // 10, { 900719925474099 })
  same(a + true, { 2.0, 3.0 })
  same(tensor { { 1 }, { 2 } } + tensor { 10, 20 }, { { 11.0, 21.0 }, { 12.0, 22.0 } })
  -- numbers give way to tensors; integers stay integers where all are
  same(i64 { 1, 2 } + 1, { 2, 3 })
  equal((i64 { 1 } * 1.5).dtype, "f32")
  equal((i64 { 1 } + tensor { 0.5 }).dtype, "f32")
  equal((i64 { 1 } / 2).dtype, "f32")
  equal((tensor { true } + 1).dtype, "i64")
  equal((a + f64 { 1, 2 }).dtype, "f64")
  equal((a * 0.1).dtype, "f32")
  equal(tensor.where(tensor { true }, 1, 0).dtype, "i64")
  equal(tensor.where(tensor { true }, 1.5, 0).dtype, "f32")
  equal((tensor({ 1 }, { dtype = "bf16" }) + 1).dtype, "f32")
  equal((tensor({ 1 }, { dtype = "i8" }) + 1).dtype, "i64")
  equal((a * 0.1)[1], 0.10000000149011612)  -- the number is rounded once to f32
  same(tensor { 300.7, -2.5 }:to("i64"), { 301, -2 })
  same(tensor { 1.5 }:cast("f16"), { 1.5 })
  assert(rawequal(a:to("f32"), a))
  raises("shapes [2] and [3] do not broadcast", function() return a + tensor { 1, 2, 3 } end)
  raises("expected a tensor or a number, got string", function() return a + "1" end)
  raises("expected a tensor or a number, got nil", function() return a + nil end)
  raises("expected a tensor or a number, got table", function() return a * {} end)
  raises("unknown dtype 'f23'; did you mean 'f32'?", function() return a:to("f23") end)
  raises("a dtype is a name such as \"f32\", not a number", function() return a:to(32) end)
  raises("tensors are compared element by element: a:lt(b)", function() return a < b end)
  raises("a:item()", function() return a <= 1 end)
  raises("use tensor.equal(a, b)", function() return a == b end)
  assert(rawequal(a, a) and a == a and a ~= 1 and a ~= nil)
  raises("exp takes 1 argument, got 2", function() return a:exp(1) end)
  raises("minimum: expected a tensor or a number, got nil", function() return a:minimum() end)
  equal("t: " .. tensor { 1 }, "t: f32[1]\n[1.]")
  -- comparisons
  same(a:lt(b), { true, true })
  same(a:ge(2), { false, true })
  same(a:eq(1), { true, false })
  same(tensor { nan }:ne(tensor { nan }), { true })
  same(tensor { true, false }:logical_or(tensor { false, false }), { true, false })
  same(tensor { 0, 2 }:logical_not(), { true, false })
  -- numbers answer as tensors of rank 0
  equal((4.0):sqrt(), 2.0)
  equal(tensor.exp(0), 1.0)
  equal((3):maximum(5.0), 5.0)
  equal((2):lt(3), true)
  equal((a * b):sum():sqrt(), math.sqrt(13))
  equal((7.0):mean(), 7.0)
  equal((5):item(), 5)
end

-- ---- values ----
do
  equal(tensor { { 5 } }:item(), 5.0)
  equal(i64 { 5 }:item(), 5)
  equal(tensor { true }:item(), true)
  raises("one element is wanted, the shape is [2]", function() return tensor { 1, 2 }:item() end)
  local t = tensor { 1 }
  assert(rawequal(t:load(), t))
  equal(tensor.load(3), 3)
  do
    local u <close> = tensor { 1, 2 }
    t = u
  end
  raises("the tensor is closed", function() return t + 1 end)
  raises("the tensor is closed", function() return t:load() end)
  raises("the tensor is closed", function() return t.shape end)
  equal(tostring(t), "closed tensor")
  raises("expected a tensor or a number", function() return tensor.numel("x") end)
  raises("tensor.nonsense: no such function", function() return tensor.nonsense() end)
  raises("did you mean tensor.zeros?", function() return tensor.zeroes(3) end)
  raises("read-only", function() tensor.zeros = 1 end)  -- luacheck: ignore
end

-- ---- printing ----
equal(tostring(tensor { { 1, 2.5 }, { -3, 4 } }), "f32[2, 2]\n[[ 1.0000,  2.5000],\n [-3.0000,  4.0000]]")
equal(tostring(i64 { 1, 20 }), "i64[2]\n[ 1, 20]")
equal(tostring(tensor { true, false }), "bool[2]\n[ true, false]")
assert(tostring(tensor.zeros(5000)):find("..., ", 1, true))

-- ---- reductions ----
do
  local t = tensor { { 1, 2, 3 }, { 4, 5, 6 } }
  equal(t:sum(), 21.0)
  same(t:sum(1), { 5.0, 7.0, 9.0 })
  same(t:sum(-1), { 6.0, 15.0 })
  same(t:sum(2, true), { { 6.0 }, { 15.0 } })
  same(t:sum(2, { keepdim = true }), { { 6.0 }, { 15.0 } })
  same(t:sum { dim = 2, keepdim = true }, { { 6.0 }, { 15.0 } })
  same(t:sum { 2, keepdim = true }, { { 6.0 }, { 15.0 } })
  equal(t:sum { 1, 2 }, 21.0)
  equal(t:sum({ dim = { 1, 2 } }), 21.0)
  same(t:sum { keepdim = true }, { { 21.0 } })
  equal(t:max(), 6.0)
  same(t:min(1), { 1.0, 2.0, 3.0 })
  equal(t:argmax(), 6)
  equal(t:argmin(), 1)
  same(t:argmax(1), { 2, 2, 2 })
  same(t:argmin(2, true), { { 1 }, { 1 } })
  equal(t:dot(t), 91.0)
  equal(tensor { true, true, false }:sum(), 2.0)
  equal(i64 { 1, 2 }:max(), 2.0)
  equal(tensor { nan, 1 }:max(), nan)
  equal(tensor.zeros(0):sum(), 0.0)
  raises("sum: dimension 3 of a tensor of rank 2", function() return t:sum(3) end)
  raises("sum: dimension 0 of a tensor of rank 2", function() return t:sum(0) end)
  raises("sum: dimension 1 is named twice", function() return t:sum { 1, -2 } end)
  raises("unknown option 'keepdims'; did you mean 'keepdim'?", function() return t:sum(1, { keepdims = true }) end)
  raises("keepdim is true, false or a table of options, not a number", function() return t:sum(1, 2) end)
  raises("a dimension must be a whole number, got string", function() return t:sum("x") end)
  raises("sum takes 3 arguments", function() return t:sum(1, true, 3) end)
  raises("argmax: takes one dimension", function() return t:argmax { 1, 2, keepdim = true } end)
  raises("argmax: the tensor has no elements", function() return tensor.zeros(0):argmax() end)
  raises("expected equal shapes", function() return t:dot(tensor { 1 }) end)
end

-- ---- shapes ----
do
  local t = tensor.arange(6):reshape({ 2, 3 })
  same(t:t(), { { 0, 3 }, { 1, 4 }, { 2, 5 } })
  same(t:reshape({ 3, -1 }), { { 0, 1 }, { 2, 3 }, { 4, 5 } })
  same(t:reshape(-1), { 0, 1, 2, 3, 4, 5 })
  same(t:t():reshape(6), { 0, 3, 1, 4, 2, 5 })
  same(t:flatten(), { 0, 1, 2, 3, 4, 5 })
  equal(tostring(tensor.zeros({ 2, 3, 4, 5 }):flatten(2, 3).shape), "[2, 12, 5]")
  equal(tostring(tensor.flatten(3).shape), "[1]")
  equal(tostring(tensor.zeros({ 1, 2, 1 }):squeeze().shape), "[2]")
  equal(tostring(tensor.zeros({ 1, 2, 1 }):squeeze(1).shape), "[2, 1]")
  equal(tostring(tensor.zeros({ 1, 2, 1 }):squeeze({ 1, 2 }).shape), "[2, 1]")
  equal(tensor { { 7 } }:squeeze(), 7.0)
  equal(tostring(t:unsqueeze(1).shape), "[1, 2, 3]")
  equal(tostring(t:unsqueeze(-1).shape), "[2, 3, 1]")
  same(tensor { 1, 2 }:expand({ 2, 2 }), { { 1.0, 2.0 }, { 1.0, 2.0 } })
  equal(tostring(tensor.zeros({ 2, 3, 4 }):permute({ 3, 1, 2 }).shape), "[4, 2, 3]")
  equal(tostring(tensor.zeros({ 2, 3, 4 }):permute(2, -1, 1).shape), "[3, 4, 2]")
  equal(tostring(tensor.zeros({ 2, 3, 4 }):transpose(1, 3).shape), "[4, 3, 2]")
  equal(tostring(tensor { 1, 2 }:t().shape), "[2]")
  same(tensor.cat { tensor { 1 }, tensor { 2, 3 } }, { 1.0, 2.0, 3.0 })
  same(tensor.cat({ t, t }, 2), { { 0, 1, 2, 0, 1, 2 }, { 3, 4, 5, 3, 4, 5 } })
  same(tensor.stack { tensor { 1, 2 }, tensor { 3, 4 } }, { { 1.0, 2.0 }, { 3.0, 4.0 } })
  same(tensor.stack({ tensor { 1, 2 }, tensor { 3, 4 } }, 2), { { 1.0, 3.0 }, { 2.0, 4.0 } })
  same(tensor.stack({ tensor { 1, 2 }, tensor { 3, 4 } }, -1), { { 1.0, 3.0 }, { 2.0, 4.0 } })
  same(tensor.stack { 1, 2 }, { 1.0, 2.0 })
  same(tensor { 1, 2 }:pad({ { 1, 2 } }), { 0.0, 1.0, 2.0, 0.0, 0.0 })
  raises("6 elements do not divide into the shape asked for", function() return t:reshape({ 4, -1 }) end)
  raises("6 elements cannot take a shape of 8", function() return t:reshape({ 4, 2 }) end)
  raises("one may be -1 (what is left)", function() return t:reshape({ -1, -1 }) end)
  raises("the shape is a table: t:reshape({2, 3})", function() return t:reshape(2, 3) end)
  raises("tensor:flatten: dimension 2 comes after 1", function() return t:flatten(2, 1) end)
  raises("tensor:unsqueeze: dimension 4", function() return t:unsqueeze(4) end)
  raises("1 dimensions named for a tensor of rank 2", function() return t:permute({ 1 }) end)
  raises("tensor:permute: dimension 1 is named twice", function() return t:permute({ 1, 1 }) end)
  raises("tensor:transpose: dimension 3 of a tensor of rank 2", function() return t:transpose(1, 3) end)
  raises("expected a matrix", function() return tensor.zeros({ 1, 2, 3 }):t() end)
  raises("does not stretch", function() return t:expand({ 2, 2 }) end)
  raises("tensor.cat: expected a list of tensors", tensor.cat, {})
  raises("tensor.cat: element 2 is a number; expected a tensor", tensor.cat, { t, 1 })
  raises("differs from the first outside dimension 1", tensor.cat, { t, tensor.arange(4):reshape({ 2, 2 }) })
  raises("tensor.stack: expected a list of tensors", tensor.stack, t)
  raises("one pair {before, after} for each of 2 dimensions", function() return t:pad({ { 1, 1 } }) end)
  raises("dimension 1: expected a pair", function() return tensor { 1 }:pad({ 1 }) end)
  raises("dimension 1: -1 and 0 zeros", function() return tensor { 1 }:pad({ { -1, 0 } }) end)
end

-- ---- picking, order ----
do
  local t = tensor { { 3, 1, 2 }, { 5, 6, 4 } }
  same(t:gather(2, i64 { { 1, 3 }, { 2, 2 } }), { { 3.0, 2.0 }, { 6.0, 6.0 } })
  same(t:gather(1, i64 { { 2, 1, 2 } }), { { 5.0, 1.0, 4.0 } })
  same(t:index_select(2, i64 { 3, 1 }), { { 2.0, 3.0 }, { 4.0, 5.0 } })
  same(tensor.zeros(3):scatter_add(1, i64 { 1, 3, 1 }, tensor { 1, 2, 3 }), { 4.0, 0.0, 2.0 })
  same(t:masked_select(t:gt(2)), { 3.0, 5.0, 6.0, 4.0 })
  local v, i = t:sort()
  same(v, { { 1.0, 2.0, 3.0 }, { 4.0, 5.0, 6.0 } })
  same(i, { { 2, 3, 1 }, { 3, 1, 2 } })
  same((t:sort(1, { descending = true })), { { 5.0, 6.0, 4.0 }, { 3.0, 1.0, 2.0 } })
  same((t:sort { dim = 1, descending = true }), { { 5.0, 6.0, 4.0 }, { 3.0, 1.0, 2.0 } })
  same((tensor { 1, nan, -1 }:sort())[{ { 1, 2 } }], { -1.0, 1.0 })
  same(tensor { 2, 1, 2 }:argsort(), { 2, 1, 3 })
  same(tensor { 2, 1, 2 }:argsort(1, true), { 1, 3, 2 })
  v, i = t:topk(2)
  same(v, { { 3.0, 2.0 }, { 6.0, 5.0 } })
  same(i, { { 1, 3 }, { 2, 1 } })
  same((t:topk(1, 1, { largest = false })), { { 3.0, 1.0, 2.0 } })
  same((t:topk(1, { dim = 2, largest = false })), { { 1.0 }, { 4.0 } })
  equal(t:kth_largest(2), 5.0)
  equal(t:kth_largest(6), 1.0)
  same(tensor { 3, 1, 3, 3 }:top_mask { k = 2 }, { true, false, true, false })
  same(tensor { 3, 1, 3, 3 }:top_mask { density = 0.5 }, { true, false, true, false })
  same(tensor { 3, 1 }:top_mask { density = 0.1 }, { true, false })
  raises("tensor:gather: the index is f32", function() return t:gather(1, t) end)
  raises("gather: index 4 is outside 1 to 3", function() return t:gather(2, i64 { { 4 }, { 1 } }) end)
  raises("the mask must be a bool tensor of the same shape", function() return t:masked_select(t) end)
  raises("unknown option 'desc'", function() return t:sort(1, { desc = true }) end)
  raises("dimension -1 of a tensor of rank 0", function() return tensor.sort(3) end)
  raises("tensor:topk: k is 4; the dimension has 3 elements", function() return t:topk(4) end)
  raises("tensor:kth_largest: k is 7; the tensor has 6 elements", function() return t:kth_largest(7) end)
  raises("give k (1 to 6) or density", function() return t:top_mask() end)
  raises("give k (1 to 6) or density", function() return t:top_mask { k = 1, density = 0.5 } end)
end

-- ---- products ----
do
  local a = tensor { { 1, 2 }, { 3, 4 } }
  same(a:matmul(a), { { 7.0, 10.0 }, { 15.0, 22.0 } })
  same(a:matmul(tensor { 1, 1 }), { 3.0, 7.0 })
  same(tensor.matmul(tensor { 1, 1 }, a), { 4.0, 6.0 })
  equal(tensor { 1, 2 }:matmul(tensor { 3, 4 }), 11.0)
  equal(tostring(tensor.zeros({ 5, 2, 3 }):matmul(tensor.zeros({ 3, 4 })).shape), "[5, 2, 4]")
  equal(tostring(tensor.zeros({ 5, 2, 3 }):matmul(tensor.zeros(3)).shape), "[5, 2]")
  equal(tostring(tensor.zeros(2):matmul(tensor.zeros({ 5, 2, 3 })).shape), "[5, 3]")
  same(a:t():matmul(a), { { 10.0, 14.0 }, { 14.0, 20.0 } })
  raises("2 columns on the left meet 3 rows on the right", function() return a:matmul(tensor.zeros({ 3, 2 })) end)
  raises("both need at least 1", function() return a:matmul(2) end)
end

-- ---- compositions against plain Lua, in f64 ----
do
  local x = tensor.randn({ 4, 5 }, 3, { dtype = "f64" }) * 3
  local rows = x:totable()
  local function flat()
    local all = {}
    for _, r in ipairs(rows) do for _, v in ipairs(r) do all[#all + 1] = v end end
    return all
  end
  local all = flat()
  local function sum(list, f)
    local s = 0.0
    for _, v in ipairs(list) do s = s + (f and f(v) or v) end
    return s
  end
  local mean = sum(all) / #all
  local var = sum(all, function(v) return (v - mean) ^ 2 end)
  near(x:mean(), mean, 1e-12)
  near(x:var(), var / 19, 1e-12)
  near(x:var { correction = 0 }, var / 20, 1e-12)
  near(x:std(), math.sqrt(var / 19), 1e-12)
  near(x:norm(), math.sqrt(sum(all, function(v) return v * v end)), 1e-12)
  near(x:norm { p = 1 }, sum(all, math.abs), 1e-12)
  near(x:norm { p = 3 }, sum(all, function(v) return math.abs(v) ^ 3 end) ^ (1 / 3), 1e-11)
  local most = 0
  for _, v in ipairs(all) do most = math.max(most, math.abs(v)) end
  equal(x:norm { p = inf }, most)
  equal(x:norm { p = "inf" }, most)
  near(x:logsumexp(), math.log(sum(all, math.exp)), 1e-12)
  for i, r in ipairs(rows) do
    local m = sum(r) / 5
    local e = sum(r, math.exp)
    near(x:mean(2)[i], m, 1e-12)
    near(x:mean { 2, keepdim = true }[{ i, 1 }], m, 1e-12)
    near(x:var(2)[i], sum(r, function(v) return (v - m) ^ 2 end) / 4, 1e-12)
    near(x:std(-1, { correction = 0 })[i], math.sqrt(sum(r, function(v) return (v - m) ^ 2 end) / 5), 1e-12)
    near(x:norm { dim = 2 }[i], math.sqrt(sum(r, function(v) return v * v end)), 1e-12)
    near(x:norm { p = 1, dim = 2, keepdim = true }[{ i, 1 }], sum(r, math.abs), 1e-12)
    near(x:logsumexp(2)[i], math.log(e), 1e-12)
    near(x:logsumexp(2, true)[{ i, 1 }], math.log(e), 1e-12)
    local h = 0
    for j, v in ipairs(r) do
      local p = math.exp(v) / e
      near(x:softmax(2)[{ i, j }], p, 1e-12)
      near(x:log_softmax()[{ i, j }], math.log(p), 1e-12)
      h = h - p * math.log(p)
    end
    near(x:entropy()[i], h, 1e-12)
  end
  near(x:t():softmax(1)[{ 2, 3 }], x:softmax(2)[{ 3, 2 }], 1e-15)
  local a, b = x[1], x[2]
  near(a:cosine(b), sum({ 1, 2, 3, 4, 5 }, function(k) return rows[1][k] * rows[2][k] end)
    / (a:norm() * b:norm()), 1e-12)
  equal(a:cosine(a * 0), 0.0)
  local g = tensor.gram { a, b, x[3] }
  equal(g.dtype, "f64")
  for i = 1, 3 do for j = 1, 3 do equal(g[{ i, j }], x[i]:dot(x[j])) end end
  -- without overflow, at the edges
  near(tensor({ 1000, 1000.5 }, { dtype = "f64" }):softmax()[1], 1 / (1 + math.exp(0.5)), 1e-12)
  equal(tensor { -inf, -inf }:logsumexp(), -inf)
  equal(tensor { inf, 0 }:logsumexp(), inf)
  equal(tensor { nan, 0 }:logsumexp(), nan)
  same(tensor { { -inf, 0 }, { -inf, -inf } }:logsumexp(2), { 0.0, -inf })
  equal(tensor { -inf, 0 }:entropy(), 0.0)
  same(tensor { -2, nan, 2 }:clamp(-1, 1):isfinite(), { true, false, true })
  same(tensor { -2, 0, 2 }:clamp(-1, 1), { -1.0, 0.0, 1.0 })
  same(tensor { -2, 0, 2 }:clamp { min = -1 }, { -1.0, 0.0, 2.0 })
  same(tensor { -2, 0, 2 }:clamp(nil, 1), { -2.0, 0.0, 1.0 })
  same(tensor { -2, 2 }:clamp(tensor { 0, 0 }, tensor { 1, 1 }), { 0.0, 1.0 })
  equal((5):clamp(0, 1), 1.0)
  equal(tensor { 1, 2 }:all(), true)
  same(tensor { { 1, 0 }, { 1, 1 } }:all(2), { false, true })
  same(tensor { { 1, 0 }, { 0, 0 } }:any(2, true), { { true }, { false } })
  equal(tensor { 0, 0 }:any(), false)
  assert(tensor.equal(tensor { 1, 2 }, i64 { 1, 2 }) and not tensor.equal(tensor { 1 }, tensor { { 1 } }))
  assert(not tensor.equal(tensor { nan }, tensor { nan }) and tensor.equal(2, 2.0))
  assert(tensor { 1, inf }:allclose(tensor { 1.000001, inf }))
  assert(not tensor { 1, inf }:allclose(tensor { 1, -inf }) and not tensor { 1 }:allclose(tensor { 1.1 }))
  assert(not tensor { nan }:allclose(tensor { nan }) and tensor.allclose(1, 1.0000001))
  equal((0):any(), false)
  assert(tensor { nan }:allclose(tensor { nan }, { equal_nan = true }))
  assert(tensor { 1 }:allclose(tensor { 1.1 }, { atol = 0.2 }))
  raises("tensor:mean: unknown option 'keepdims'", function() return x:mean { keepdims = true } end)
  raises("tensor:mean: expected a table of options, got string", function() return x:mean(1, "x") end)
  raises("tensor:std: unknown option 'corection'; did you mean 'correction'?",
    function() return x:std { corection = 0 } end)
  raises("options are given by name: t:norm { p = 2, dim = 1 }", function() return x:norm(1) end)
  raises("p must be a number above 0, or \"inf\", not 0", function() return x:norm { p = 0 } end)
  raises("tensor.gram: expected a list of tensors", tensor.gram, x)
  raises("give min, max or both", function() return x:clamp() end)
  raises("unknown option 'mim'; did you mean 'min'?", function() return x:clamp { mim = 0 } end)
end

-- Many dead tensors do not pass the memory cap of these tests (400 MB): 1600 of 1 MB each.
for i = 1, 800 do
  local t = tensor.full({ 1 << 18 }, i) + 1
  if i % 200 == 0 then equal(t[1], i + 1.0) end
end
print "ok"
