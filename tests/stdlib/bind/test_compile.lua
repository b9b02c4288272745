-- SPDX-License-Identifier: Apache-2.0
-- compile: equal to the function itself to the bit, signatures, donation, constants, nesting, messages.
local check = require "check"
local equal, raises, same = check.equal, check.raises, check.tensor

local function bits(a, b, what)
  assert(a.dtype == b.dtype and tensor.equal(a, b), what or "the tensors differ")
end
local function models(a, b)
  equal(#a, #b)
  equal(a:mass(), b:mass())
  for n, t in pairs(a) do bits(t, b[n], n) end
end

local theta = model.new { w1 = tensor.normal({ 6, 8 }, 1), b1 = tensor.normal({ 8 }, 2), w2 = tensor.normal({ 8, 3 }, 3),
  steps = tensor({ 7 }, { dtype = "i64" }) }
local x = tensor.normal({ 10, 6 }, 4)
local calls = 0
local function loss(m, batch, scale)
  calls = calls + 1
  local h = (batch:matmul(m.w1) + m.b1):relu()
  return ((h:matmul(m.w2):sin() * scale) ^ 2):mean()
end

-- ---- a training step ----
local function step(m, batch, rate)
  local value, g = value_and_grad(loss, m, batch, 1.5)
  return m - rate * g, value, { norm = g:norm(), rate = rate }
end
do
  local fast = compile(step)
  local p, q = theta, theta
  for i = 1, 5 do
    local a, va, xa = step(p, x, 0.1 * i)
    local b, vb, xb = fast(q, x, 0.1 * i)
    models(a, b)
    equal(vb, va)
    equal(xb.norm, xa.norm)
    equal(xb.rate, 0.1 * i)
    p, q = a, b
  end
  equal(calls, 6) -- once when it was recorded
  same(q.steps, { 7 })
  -- other shapes, dtypes and names are other signatures; the old ones stay
  fast(theta, tensor.normal({ 3, 6 }, 5), 0.1)
  equal(calls, 7)
  fast(theta, x, 0.3)
  fast(theta, tensor.normal({ 3, 6 }, 6), 0.1)
  equal(calls, 7)
  fast(theta, x:to "f64", 0.3)
  equal(calls, 8)
  -- views are the same signature and the same values
  local wide = tensor.normal({ 6, 10 }, 7)
  models((fast(theta, wide:transpose(1, 2), 0.1)), (step(theta, wide:transpose(1, 2), 0.1)))
  equal(calls, 9)
end

-- ---- structure ----
do
  local n = 0
  local f = compile(function(t, how, flag, nothing, list)
    n = n + 1
    equal(nothing, nil)
    if how == "sum" then return t.a:sum() + (flag and t.b.c:sum() or 0), how, nil, { list[1], list[2], "text", k = 5 } end
    return t.a * 2
  end)
  local t = { a = tensor { 1, 2 }, b = { c = tensor { 10 } } }
  local s, how, none, list = f(t, "sum", true, nil, { 1, 2 })
  equal(s, 13.0)
  equal(how, "sum")
  equal(none, nil)
  equal(list[1], 1.0)
  equal(list[3], "text")
  equal(list.k, 5)
  equal((f(t, "sum", false, nil, { 1, 2 })), 3.0)
  equal(n, 2)
  equal((f({ b = { c = tensor { 20 } }, a = tensor { 3, 4 } }, "sum", true, nil, { 5, 6 })), 27.0)
  equal(n, 2)
  same(f(t, "twice", true, nil, { 1, 2 }), { 2.0, 4.0 })
  f({ a = t.a, b = t.b, more = 1 }, "sum", true, nil, { 1, 2 })
  equal(n, 4)
  f(t, "sum", true, nil, { 1, 2, 3 })
  equal(n, 5)
  equal(select("#", compile(function() return nil, nil end)()), 2)
  equal(select("#", compile(function() end)()), 0)
end
-- a number is not part of the signature and may come out; integers stay integers as tensors
do
  local n = 0
  local f = compile(function(v, i) n = n + 1; return v, v * v, i + 1 end)
  local a, b, c = f(3, tensor({ 2 }, { dtype = "i64" }))
  equal(a, 3.0)
  equal(b, 9.0)
  same(c, { 3 })
  equal((f(4.5, tensor({ 9 }, { dtype = "i64" }))), 4.5)
  equal(n, 1)
  -- a result that is the argument itself keeps its value
  local keep = compile(function(v) return { v:reshape { 1 } } end)
  local first = keep(1)[1]
  keep(2)
  same(first, { 1.0 })
end

-- ---- donation ----
do
  local fast = compile(step, { donate = { 1 } })
  local want = step(theta, x, 0.25)
  local mine = 1 * theta
  local got = fast(mine, x, 0.25)
  models(got, want)
  raises("closed", function() return mine.w1 end)
  -- what else holds the memory keeps its values
  mine = 1 * theta
  local held = mine.w1
  models((fast(mine, x, 0.25)), want)
  bits(held, theta.w1)
  -- the same memory twice
  local add = compile(function(a, b) return a * 2 + b, a - b end, { donate = { 1 } })
  local t = tensor { 1, 2 }
  local u = t[{ { 1, 2 } }]
  local s, d = add(t, u)
  same(s, { 3.0, 6.0 })
  same(d, { 0.0, 0.0 })
  same(u, { 1.0, 2.0 })
  raises("closed", function() return t:sum() end)
  -- tables; a tensor out of a donated model may be written to
  local state = { m = tensor { 1, 2 }, list = { tensor { 3 } }, theta = model.new { w = tensor { 1, 2 }:clone() } }
  local out = compile(function(q) return { m = q.m + 1, w = q.theta.w * 3 } end, { donate = { 1 } })(state)
  same(out.m, { 2.0, 3.0 })
  out.w:fill_(1)
  raises("closed", function() return state.list[1]:sum() end)
  -- many steps in the same memory
  local p, q = 1 * theta, theta
  for _ = 1, 20 do p, q = fast(p, x, 0.05), (step(q, x, 0.05)) end
  models(p, q)
end

-- ---- constants ----
do
  local n = 0
  local H = compile(function(v) n = n + 1; return hvp(loss, theta, v, x, 1) end)
  local v = grad(loss, theta, x, 1)
  models(H(v), hvp(loss, theta, v, x, 1))
  models(H(2 * v), hvp(loss, theta, 2 * v, x, 1))
  equal(n, 1)
  local f = compile(function(a) return a + 1, tensor { 5, 6 } * 2, (theta.w1 * theta.w1):sum() * a:sum() end)
  local _, c = f(x)
  same(c, { 10.0, 12.0 })
  -- what depends on no argument is kept: a call cannot spoil the next
  local g = compile(function(a) return grad(function(z) return (z * z):sum() end, tensor { 1, 2 }) + 0 * a:sum(), a end)
  same(g(x), { 2.0, 4.0 })
  same(g(x), { 2.0, 4.0 })
end

-- ---- nesting ----
do
  local inner = compile(function(m, b) return loss(m, b, 2) end)
  models(grad(inner, theta, x), grad(function(m, b) return loss(m, b, 2) end, theta, x))
  local outer = compile(function(m, b) local v, g = value_and_grad(inner, m, b); return v + g:norm() end)
  local v, g = value_and_grad(inner, theta, x)
  equal(outer(theta, x), v + g:norm())
  -- second order inside
  local function second(m, d, b) return grad(function(t) return grad(loss, t, b, 1):dot(d) end, m) end
  local d = grad(loss, theta, x, 1)
  models(compile(second)(theta, d, x), second(theta, d, x))
end
-- algebra and merges of models
do
  local a, b = theta:only "^w", 0.5 * theta:only "^w"
  local function mix(m, o, t) return merge.slerp({ m, o + 1e-3 * m * m, t = 0.3 }) + t * (m - 2 * o) end
  local fast = compile(mix)
  for k = 1, 3 do models(fast(a, b, 0.1 * k) - 0 * a, mix(a, b, 0.1 * k) - 0 * a) end
end

-- ---- messages ----
raises("expected a function", compile, 3)
raises("did you mean 'donate'", compile, step, { donat = { 1 } })
raises("compile: expected a table of options, got data set", compile, step, setmetatable({ x = 1 }, { __name = "data set" }))
raises("an argument is a function", compile(function(v) return v end), print)
raises("compile: base is a plan over files; :load() it first", compile(function(m) return m end),
  model.open "examples/data/base.safetensors")
raises("not known yet", compile(function(v) return v:item() end), tensor { 1 })
raises("matmul", compile(function(v) return v:matmul(v) end), tensor.zeros { 2, 3 })
do
  local f = compile(function(v) error "mine" end)
  raises("mine", f, 1)
  raises("mine", f, 1) -- recorded anew: nothing half is left
end
