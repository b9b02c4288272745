-- SPDX-License-Identifier: Apache-2.0
-- grad, value_and_grad, vjp, jvp, hvp: against finite differences in f64, over tables, nested, and
-- every message.
local check = require "check"
local equal, near, raises, same = check.equal, check.near, check.raises, check.tensor

local function f64(t) return tensor(t, { dtype = "f64" }) end

-- ---- numbers, tensors, tables ----
equal(grad(function(x) return x ^ 3 end, 2.0), 12.0)
equal(grad(function(x) return x * x end, 3), 6.0)
same(grad(function(x) return (x * x):sum() end, tensor { 1, 2 }), { 2.0, 4.0 })
equal(grad(function(x) return x:sum() end, tensor({ 1 }, { dtype = "bf16" })).dtype, "f32")
do
  local g = grad(function(p) return (p.w:matmul(p.b[1]) * p.scale):sum() + p.b[2] end,
    { w = tensor { { 1, 2 }, { 3, 4 } }, b = { tensor { 5, 6 }, 7.0 }, scale = 2.0 })
  same(g.w, { { 10.0, 12.0 }, { 10.0, 12.0 } })
  same(g.b[1], { 8.0, 12.0 })
  equal(g.b[2], 1.0)
  equal(g.scale, 56.0)
end
-- what does not depend has derivative zero
equal(grad(function() return 3 end, 1.0), 0.0)
same(grad(function(x) return x[1] * 2 end, tensor { 1, 2 }), { 2.0, 0.0 })
-- further arguments are passed on; captured tensors are constants
same(grad(function(x, a, b) return (x * a):sum() * b end, tensor { 1, 2 }, tensor { 3, 4 }, 10), { 30.0, 40.0 })
-- a result of one element is a number
same(grad(function(x) return (x * x):sum(1, true) end, tensor { 1, 2 }), { 2.0, 4.0 })

-- ---- value and what else is returned ----
do
  local y, g, state, name = value_and_grad(function(x)
    return (x * x):sum(), { double = x * 2, deep = { x:sum() }, n = 3 }, "name"
  end, tensor { 1, 2 })
  equal(y, 5.0)
  same(g, { 2.0, 4.0 })
  same(state.double, { 2.0, 4.0 })
  equal(state.deep[1], 3.0)
  equal(state.n, 3)
  equal(name, "name")
  equal(select("#", value_and_grad(function(x) return x end, 1.0)), 2)
  equal(select("#", grad(function(x) return x, 1, 2 end, 1.0)), 1)
end

-- ---- products ----
do
  local g, y = vjp(function(x) return x * x end, tensor { 1, 2 }, tensor { 1, 10 })
  same(g, { 2.0, 40.0 })
  same(y, { 1.0, 4.0 })
  local d, z = jvp(function(p) return p.a * p.b end, { a = tensor { 1, 2 }, b = 3.0 }, { a = tensor { 1, 1 } })
  same(d, { 3.0, 3.0 })
  same(z, { 3.0, 6.0 })
  equal((jvp(function(x) return x ^ 2 end, 3.0, 1.0)), 6.0)
  local h = hvp(function(p) return (p.a * p.a * p.b):sum() end, { a = tensor { 1, 2 }, b = 3.0 },
    { a = tensor { 1, 0 }, b = 1.0 })
  same(h.a, { 8.0, 4.0 })
  equal(h.b, 2.0)
end

-- ---- every composition against central differences, f64 ----
do
  local x = tensor.randn({ 3, 4 }, 5, { dtype = "f64" })
  local functions = {
    mean = function(t) return t:mean() end,
    var = function(t) return t:var() end,
    var_dim = function(t) return (t:var(2) ^ 2):sum() end,
    std = function(t) return t:std(1):sum() end,
    norm = function(t) return t:norm() end,
    norm1 = function(t) return t:norm { p = 1 } end,
    norm3 = function(t) return t:norm { p = 3 } end,
    norminf = function(t) return t:norm { p = math.huge } end,
    logsumexp = function(t) return t:logsumexp() end,
    logsumexp_dim = function(t) return (t:logsumexp(2) ^ 2):sum() end,
    softmax = function(t) return (t:softmax(2) ^ 2):sum() end,
    log_softmax = function(t) return (t:log_softmax(1) ^ 2):sum() end,
    entropy = function(t) return t:entropy():mean() end,
    clamp = function(t) return (t:clamp(-0.5, 0.5) ^ 2):sum() end,
    cosine = function(t) return t[1]:cosine(t[2]) end,
    gram = function(t) return (tensor.gram { t[1], t[2] } ^ 2):sum() end,
    stack = function(t) return (tensor.stack({ t[1], t[2] }, 2) ^ 3):sum() end,
    sort = function(t) return (t:sort(2) * tensor.range(4)):sum() end,
    topk = function(t) return (t:topk(2) ^ 2):sum() end,
    kth = function(t) return t:kth_largest(3) ^ 2 end,
    where = function(t) return tensor.where(t:gt(0), t, t * t):sum() end,
    index = function(t) return (t[{ {}, { 2, 3 } }] ^ 2):sum() * t[{ 1, 1 }] end,
    take = function(t) return (t[tensor({ 2, 2, 1 }, { dtype = "i64" })] ^ 2):sum() end,
    matmul = function(t) return (t:matmul(t:t()) ^ 2):sum() end,
    vector = function(t) return t[1]:matmul(t[2]) ^ 2 end,
    remainder = function(t) return ((t * 3.1) % 1):sum() end,
    pad = function(t) return (t:pad({ { 1, 0 }, { 0, 2 } }) ^ 2):sum() end,
    scalars = function(t) return t:sum():exp():log() * t:max():sqrt() end,
  }
  for name, f in pairs(functions) do
    local g, h = grad(f, x):totable(), 1e-5
    for i = 1, 3 do
      for j = 1, 4 do
        local up = f(x:clone():set_({ i, j }, x[{ i, j }] + h))
        local down = f(x:clone():set_({ i, j }, x[{ i, j }] - h))
        near(g[i][j], (up - down) / (2 * h), 1e-6 * (1 + math.abs(g[i][j])), name)
      end
    end
    local v = tensor.randn({ 3, 4 }, 6, { dtype = "f64" })
    near((jvp(f, x, v)), (grad(f, x) * v):sum(), 1e-9 * (1 + math.abs((grad(f, x) * v):sum())), name .. ": jvp")
  end
end

-- ---- a dense Hessian by central differences of gradients ----
do
  local x = f64 { 0.3, -0.7, 1.1 }
  local function f(t) return (t:softmax() * t):sum() + (t ^ 3):sum() * t[1] end
  for j = 1, 3 do
    local e, h = tensor.zeros(3, { dtype = "f64" }):set_(j, 1), 1e-5
    local up, down = grad(f, x + e * h), grad(f, x - e * h)
    local column = hvp(f, x, e)
    for i = 1, 3 do near(column[i], (up[i] - down[i]) / (2 * h), 1e-7) end
  end
end

-- ---- nesting ----
equal(grad(function(x) return grad(function(y) return y ^ 4 end, x) end, 2.0), 48.0)
equal(grad(function(x) return grad(function(y) return grad(function(z) return z ^ 4 end, y) end, x) end, 2.0), 48.0)
-- the inner argument is not the outer one, though it has its value
equal(grad(function(x) return x * grad(function(y) return x + y end, 1.0) end, 1.0), 1.0)
equal(grad(function(x) return grad(function(y) return x * y end, x) end, 3.0), 1.0)
equal(grad(function(x) return hvp(function(y) return y ^ 4 end, x, x) end, 2.0), 144.0)
same(grad(function(x) return (grad(function(y) return (y ^ 3):sum() end, x) * x):sum() end, tensor { 1, 2 }),
  { 9.0, 36.0 })
-- what does not depend on the outer argument has its value at once
equal(grad(function(x)
  local g = grad(function(y) return y ^ 2 end, 5.0)
  assert(g:item() == 10.0)
  return x * g
end, 1.0), 10.0)
equal(grad(function(x)
  local y, g = value_and_grad(function(z) return z * x end, 2.0)
  return y * g
end, 3.0), 12.0)

-- ---- training: logistic regression finds the separating direction ----
do
  local x = tensor.randn({ 200, 2 }, 1)
  local target = x:matmul(tensor { 2, -1 }):gt(0):to("f32")
  local function loss(w)
    local p = x:matmul(w):sigmoid()
    return -((target * (p + 1e-7):log()) + (1 - target) * (1 - p + 1e-7):log()):mean()
  end
  local w = tensor.zeros(2)
  local first = loss(w)
  for _ = 1, 200 do w = w - 2 * grad(loss, w) end
  assert(loss(w) < first / 4)
  near(w[2] / w[1], -0.5, 0.1)
end

-- ---- messages ----
raises("grad: expected a function and what it is differentiated by, got nothing", grad)
raises("grad: expected a function", grad, 3, 3)
raises("grad: there is nothing to differentiate by", grad, function() return 1 end, {})
raises("grad: what is differentiated by holds a string", grad, function() return 1 end, { a = "x" })
raises("grad: what is differentiated by holds a nil", grad, function() return 1 end)
raises("derivatives by i64 values do not exist; convert with :to(\"f32\")", grad,
  function(x) return x:sum() end, tensor({ 1 }, { dtype = "i64" }))
raises("grad: the function must yield one number, not a tensor of shape [2]", grad,
  function(x) return x * 2 end, tensor { 1, 2 })
raises("grad: the function returned nothing", grad, function() end, 1.0)
raises("grad: the function returned string; expected a number or a tensor", grad, function() return "x" end, 1.0)
raises("a value inside a recorded function is not known yet", grad, function(x) return x:item() end, 1.0)
raises("cannot choose what is done: tensor.where", grad, function(x) return x > 0 and x or -x end, 1.0)
raises("cannot be changed", grad, function(x) return x:add_(1):sum() end, tensor { 1 })
raises("vjp: the third argument is missing", vjp, function(x) return x end, 1.0)
raises("hvp: the third argument is missing", hvp, function(x) return x end, 1.0)
raises("vjp: the direction has the shape [1]; expected [2]", vjp, function(x) return x end, tensor { 1, 2 },
  tensor { 1 })
raises("jvp: the direction has the shape []; expected [2]", jvp, function(x) return x end, tensor { 1, 2 }, 1.0)
raises("jvp: the direction holds a string", jvp, function(x) return x end, tensor { 1, 2 }, "x")
raises("the direction holds a number where a table is expected", jvp, function(x) return x.a end, { a = 1.0 },
  1.0)
raises("tables more than 64 deep", grad, function() return 1 end, (function()
  local t = {}
  t.t = t
  return t
end)())
do
  local kept
  grad(function(x)
    kept = x
    return x
  end, 1.0)
  raises("recording that has ended", grad, function(x) return x * kept end, 1.0)
  raises("recording that has ended", grad, function() return kept end, 1.0)
end
-- an error inside leaves nothing behind
for _ = 1, 3 do
  raises("inside", grad, function(x)
    grad(function() error "inside" end, x)
  end, 1.0)
end
equal(grad(function(x) return x end, 1.0), 1.0)
equal(coroutine.wrap(function() return grad(function(x) return x * x end, 4.0) end)(), 8.0)
raises("yield", coroutine.wrap(function() grad(function(x) coroutine.yield(1) return x end, 4.0) end))

-- Steps with large tensors stay within the memory cap.
do
  local w = tensor.ones(1 << 18)
  for _ = 1, 300 do w = w - 0.001 * grad(function(t) return (t * t):sum() end, w) end
  near(w[1], 0.998 ^ 300, 1e-4)
end
print "ok"
