-- SPDX-License-Identifier: Apache-2.0
-- The same function of a tensor in memory and of one that lies in a file gives the same bits; what
-- forces values, what refuses to.
local check = require "check"
local equal, raises = check.equal, check.raises

local inputs = {
  x = tensor.randn({ 6, 10 }, 1) * 3,
  y = tensor.randn({ 6, 10 }, 2),
  w = tensor.randn({ 10, 4 }, 3),
  d = tensor.randn({ 6, 10 }, 4, { dtype = "f64" }),
  h = tensor.randn({ 6, 10 }, 5, { dtype = "bf16" }),
  i = tensor.randint(1, 7, { 6, 10 }, 6),
  big = tensor.randn({ 10000 }, 7),
}
local list = {}
for name, t in pairs(inputs) do list[#list + 1] = { name, t } end
local folder = os.getenv "TMPDIR" or "/tmp"
local path = string.format("%s/tarn-test-planned-%d-%d.safetensors", folder, os.time(), math.floor(os.clock() * 1e6))
model.new(list):save(path, { overwrite = true })
local m <close> = model.open(path)
os.remove(path)  -- it stays open

local function same(name, a, b)
  if type(a) == "userdata" then
    assert(a.dtype == b.dtype and a.shape == b.shape,
      name .. ": " .. a.dtype .. tostring(a.shape) .. " in memory, " .. b.dtype .. tostring(b.shape) .. " planned")
  end
  local u, v = tensor.totable(a), tensor.totable(b)
  check.equal(u, v, name)
end

local functions = {}
local unary = { "neg", "abs", "sign", "sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "acos",
  "relu", "floor", "round", "isfinite", "logical_not", "mean", "var", "std", "norm", "sum", "max", "min", "argmax",
  "argmin", "softmax", "log_softmax", "logsumexp", "entropy", "flatten", "t", "any", "all" }
for _, name in ipairs(unary) do
  functions[name] = function(p) return p.x[name](p.x) end
  functions[name .. " of bf16"] = function(p) return p.h[name](p.h) end
  functions[name .. " of f64"] = function(p) return p.d[name](p.d) end
  functions[name .. " of i64"] = function(p) return p.i[name](p.i) end
  functions[name .. " of many"] = function(p) return p.big[name](p.big) end
end
for _, name in ipairs { "mean", "var", "std", "sum", "max", "min", "argmax", "argmin", "softmax", "log_softmax",
  "logsumexp", "entropy" } do
  functions[name .. " along 1"] = function(p) return p.x[name](p.x, 1) end
  functions[name .. " along -1"] = function(p) return p.h[name](p.h, -1) end
end
for _, name in ipairs { "add", "sub", "mul", "div", "pow", "minimum", "maximum", "atan2", "eq", "ne", "lt", "le", "gt",
  "ge", "logical_and", "logical_or", "dot", "cosine" } do
  functions[name] = function(p) return p.x[name](p.x, p.y) end
  functions[name .. " bf16"] = function(p) return p.h[name](p.h, p.x) end
  functions[name .. " f64"] = function(p) return p.x[name](p.x, p.d) end
  functions[name .. " i64"] = function(p) return p.i[name](p.i, p.x) end
  if name ~= "dot" and name ~= "cosine" then
    functions[name .. " 0.1"] = function(p) return p.x[name](p.x, 0.1) end
    functions["i64 " .. name .. " 2"] = function(p) return p.i[name](p.i, 2) end
    functions["i64 " .. name .. " 0.5"] = function(p) return p.i[name](p.i, 0.5) end
    functions["3 " .. name] = function(p) return tensor[name](3, p.x) end
  end
end
local more = {
  operators = function(p) return (2 * p.x - p.y / 3) ^ 2 + -p.h end,
  remainder = function(p) return p.x % 0.3 + p.x // 0.7 end,
  ["remainder of i64"] = function(p) return p.i % 3 + p.i // 2 end,
  clamp = function(p) return p.x:clamp(-1, 0.5) end,
  where = function(p) return tensor.where(p.x:gt(p.y), p.x, p.y) end,
  ["where of numbers"] = function(p) return tensor.where(p.x:gt(0), 1, 0) end,
  ["where of floats"] = function(p) return tensor.where(p.x:gt(0), 1.5, 0) end,
  ["where of a scalar"] = function(p) return tensor.where(p.x:gt(0), p.x:mean(), 0) end,
  cast = function(p) return (p.x * 100):to("i8") end,
  ["to bf16"] = function(p) return (p.x / 3):to("bf16") end,
  reshape = function(p) return p.x:reshape({ 4, -1 }) * 2 end,
  permute = function(p) return p.x:permute({ 2, 1 }) + 1 end,
  expand = function(p) return p.x[1]:expand({ 3, 10 }) * 2 end,
  squeeze = function(p) return p.x[{ { 1, 1 } }]:squeeze() + p.x[2]:unsqueeze(1) end,
  element = function(p) return p.x[{ 2, 3 }] end,
  ["elements"] = function(p) return p.x[{ 2, 3 }] * p.y[{ 1, 1 }] + p.h[{ 3, -1 }] / 7 end,
  ["element of i64"] = function(p) return p.i[{ 2, 3 }] * p.x end,
  ["range"] = function(p) return p.x[{ { 2, 5, 2 }, { -3 } }] * 3 end,
  ["row"] = function(p) return p.x[-1] * p.x[{ {}, 3 }]:mean() end,
  take = function(p) return p.x[tensor({ 6, 1, 1 }, { dtype = "i64" })] end,
  ["take by planned"] = function(p) return p.w[p.i[1]] end,
  gather = function(p) return p.x:gather(1, p.i) end,
  index_select = function(p) return p.x:index_select(2, tensor({ 10, 1 }, { dtype = "i64" })) end,
  scatter_add = function(p) return tensor.zeros({ 6, 10 }):scatter_add(1, p.i, p.x) end,
  masked_select = function(p) return p.x:masked_select(p.x:gt(0)) end,
  cat = function(p) return tensor.cat({ p.x, p.y }, 2) end,
  ["cat with memory"] = function(p) return tensor.cat { p.x, tensor.ones({ 1, 10 }) } end,
  stack = function(p) return tensor.stack({ p.x, p.y }, -1) end,
  gram = function(p) return tensor.gram { p.x, p.y, p.h } end,
  ["gram with memory"] = function(p) return tensor.gram { p.x, inputs.y } end,
  sort = function(p) return (p.x:sort()) end,
  ["sort indices"] = function(p) return select(2, p.x:sort(1, { descending = true })) end,
  topk = function(p) return (p.x:topk(3)) end,
  kth = function(p) return p.x:kth_largest(7) end,
  top_mask = function(p) return p.x:abs():top_mask { density = 0.25 } end,
  trim = function(p) return tensor.where(p.big:abs():top_mask { k = 100 }, p.big, 0) end,
  pad = function(p) return p.x:pad({ { 1, 0 }, { 0, 2 } }) end,
  matmul = function(p) return p.x:matmul(p.w) end,
  ["matrix times vector"] = function(p) return p.x:matmul(p.w[{ {}, 1 }]) end,
  ["vector times vector"] = function(p) return p.x[1]:matmul(p.w[{ {}, 1 }]) * 0.1 end,
  mlp = function(p) return (p.x:matmul(p.w) + 0.5):relu():softmax(2):mean(1) end,
  scalars = function(p) return (p.x:sum() / 3 + p.x:max()):exp():log() * p.y end,
  ["scalar to f32"] = function(p) return p.x:norm() * p.x + p.x * 0.1 end,
  norms = function(p) return p.x:norm { p = 1 } + p.x:norm { p = math.huge } * p.x:norm { p = 3 } end,
  ["norms along"] = function(p) return p.x:norm { p = 2, dim = 1 } + p.x:norm { p = 1, dim = 1 } end,
  normalised = function(p) return (p.x - p.x:mean(2, true)) / p.x:std(2, { keepdim = true }) end,
  keepdim = function(p) return p.x:sum { keepdim = true } * p.x end,
  median = function(p) return p.x:median() end,
  ["median of many bf16"] = function(p) return (p.big:to("bf16") * 3):median() end,
  ["median of NaN"] = function(p) return p.x:sqrt():median() end,
  ["median of i64"] = function(p) return p.i:median() end,
  ["median along"] = function(p) return (p.h:median(2)) + p.d:median { dim = -1 } end,
  ["median indices"] = function(p) return select(2, p.x:median(1, { keepdim = true })) end,
  ["median along of NaN"] = function(p) return select(2, p.x:sqrt():median(2)) end,
  quantile = function(p) return p.x:quantile(0.3) end,
  quantiles = function(p) return p.big:quantile { 0, 0.1, 0.5, 0.9, 1 } end,
  ["quantiles along"] = function(p) return p.x:quantile({ 0.2, 0.7 }, 2) + p.d:quantile({ 0.5, 0.6 }, 2, { interpolation = "lower" }) end,
  ["quantile of i64"] = function(p) return p.i:quantile(0.4, 1, true) end,
  ["quantile of NaN"] = function(p) return p.x:log():quantile(0.9, 1) end,
  prod = function(p) return p.x:prod() end,
  ["prod along"] = function(p) return p.h:prod(1) * p.i:prod { dim = 2, keepdim = true } end,
  ["prod times"] = function(p) return p.x[1]:prod() * p.x end,
  isnan = function(p) return p.x:sqrt():isnan() end,
  isinf = function(p) return (p.x / 0):isinf() end,
  nonzero = function(p) return p.x:gt(0):nonzero() end,
  diagonal = function(p) return p.x:diagonal(-1):sum() + p.x:diagonal(4) end,
  diag = function(p) return p.x[1]:diag(1) + p.x:diag(2):diag(5) end,
  trace = function(p) return p.x:trace() end,
  triangles = function(p) return p.x:tril() * p.y:triu(-1) end,
  outer = function(p) return p.x[1]:outer(p.y[2]) end,
  flip = function(p) return p.x:flip() + p.y:flip(1) end,
  roll = function(p) return p.x:roll(7) + p.y:roll({ 1, -3 }, { 1, 2 }) end,
  tile = function(p) return p.w:tile { 2, 1, 3 } end,
  split = function(p) return p.x:split(4, 2)[3] * p.x:chunk(4, 2)[4] end,
  pinv = function(p) return p.w:pinv() end,
  lstsq = function(p) return p.w:lstsq(p.x[1]) end,
  matrix_rank = function(p) return p.x:matmul(p.w):matrix_rank { rtol = 1e-4 } end,
  det = function(p) return p.d[{ {}, { 1, 6 } }]:det() end,
  slogdet = function(p) return select(2, p.d[{ {}, { 1, 6 } }]:slogdet()) end,
  all_named = function(p) return p.x:sum { 1, 2 } * 0.1 end,
}
for name, f in pairs(more) do functions[name] = f end

local planned = {}
for name in pairs(inputs) do
  planned[name] = m[name]
  equal(planned[name].planned, true)
end
local names = {}
for name in pairs(functions) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
  local ok, a = pcall(functions[name], inputs)
  local ok2, b = pcall(functions[name], planned)
  if ok ~= ok2 then error(name .. ": only one of both is an error: " .. tostring(ok and b or a)) end
  if ok then
    same(name, a, b)
  else
    -- The same message, but for the place.
    equal(tostring(a):gsub("^.-:%d+: ", ""), tostring(b):gsub("^.-:%d+: ", ""), name)
  end
end

-- ---- what planned tensors say and refuse ----
local x = planned.x
equal(tostring(x), "f32[6, 10] planned: 1 pass, 240 B to read")
equal(tostring(x:std()), "f64[] planned: 2 passes, 240 B to read")
equal(#x, 6)
equal(x:numel(), 60)
assert(rawequal(x:clone(), x))
equal(x:load().planned, false)
raises(":load()", function() x:add_(1) end)
raises(":load()", function() x[1]:fill_(0) end)
raises("a:item()", function() return x:sum() < 1 end)
raises("a:item()", function() return x:sum() <= x:max() end)
raises("use tensor.equal(a, b)", function() return x:sum() == x:max() end)
assert(x:sum():item() < math.huge)
raises("a planned tensor (of a file) meets a recorded one: load it first", grad,
  function(t) return (t * x):sum() end, inputs.x)
raises("does not depend on its argument", grad, function() return x:sum() end, 1.0)
check.tensor(grad(function(t) return (t * t):sum() / 2 end, x), inputs.x:totable())
assert(tensor.equal(x, inputs.x) and not x:equal(planned.y) and x:allclose(inputs.x))
raises("index 7 is outside axis 1, which has 6 elements", function() return x[7] end)
-- what is kept of tiles beside what an operation made, or a file of one element: of one dtype, as they say
do
  local top = function(t) return t:mean(1, true):to "bf16" end
  local joined = tensor.cat { top(planned.h), planned.h }
  equal(joined.dtype, "bf16")
  assert(tensor.equal(joined, tensor.cat { top(inputs.h), inputs.h }))
end
-- a tensor changed after it entered a plan is an error
local late = tensor.ones({ 6, 10 })
local sum = x + late
late:add_(1)
raises("changed", function() return sum:load() end)
print "ok"
