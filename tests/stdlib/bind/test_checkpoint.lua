-- SPDX-License-Identifier: Apache-2.0
-- checkpoint(f, …): values and gradients to the bit as without, for tensors, models, tables, what f reads from
-- outside, segments in segments, dropout, compiled functions and networks; and the memory that it saves.
local check = dofile "tests/stdlib/bind/check.lua"

local function plain(f, ...) return f(...) end

local function same(a, b)
  if type(a) == "table" then
    for k in pairs(a) do same(a[k], b[k]) end
  elseif type(a) == "number" then
    check.equal(b, a)
  else
    assert(tensor.equal(a, b), "the bits differ")
  end
end

-- Outside a recorded function it only calls.
check.equal(table.pack(checkpoint(function(a, b) return b, a, nil end, 1, "x")), { "x", 1, nil, n = 3 })
check.raises("checkpoint: expected a function, got number", checkpoint, 3)

local n, width = 6, 24
local w = {}
for i = 1, n do w[i] = tensor.normal({ width, width }, i) * 0.2 end
local x = tensor.normal({ 50, width }, 99)

local function block(y, v) return (y * y:sigmoid()):matmul(v):tanh() + y end
local function chain(call)
  return function(v, y)
    for i = 1, n do y = call(block, y, v[i]) end
    return (y * y):mean()
  end
end

for _, dtype in ipairs { "f32", "f64" } do
  local v, y = {}, x:to(dtype)
  for i = 1, n do v[i] = w[i]:to(dtype) end
  local a, b = table.pack(value_and_grad(chain(plain), v, y)), table.pack(value_and_grad(chain(checkpoint), v, y))
  same(a, b)
  local f = compile(function(u, z) return grad(chain(checkpoint), u, z) end)
  same(a[2], f(v, y))
  same(a[2], f(v, y))
end

-- Second order: the same up to the order of sums.
local v64, x64, along = {}, x:to "f64", {}
for i = 1, n do v64[i], along[i] = w[i]:to "f64", tensor.normal({ width, width }, 50 + i, { dtype = "f64" }) end
local h, hc = hvp(chain(plain), v64, along, x64), hvp(chain(checkpoint), v64, along, x64)
for i = 1, n do assert(tensor.allclose(h[i], hc[i], { rtol = 1e-12, atol = 1e-13 })) end
local j, jc = jvp(chain(plain), v64, along, x64), jvp(chain(checkpoint), v64, along, x64)
same(j, jc)

-- What f reads from outside counts too; segments in segments; results in tables and several of them.
local function outside(call)
  return function(v)
    local y = call(function()
      local z = call(block, x, v[1])
      return { z = call(block, z, v[2]), other = 7 }
    end)
    assert(y.other == 7)
    local a, b = call(function(z) return z * 2, z:sum() end, y.z)
    return (a * a):mean() + b
  end
end
same(grad(outside(plain), w), grad(outside(checkpoint), w))

-- Models go in and come out.
local m = model.new { a = w[1], b = w[2] }
local function by_model(call)
  return function(theta)
    local moved = call(function(t) return t + 0.5 * m end, theta)
    return call(function(t) return block(block(x, t.a), t.b):sum() end, moved)
  end
end
local gm, gc = grad(by_model(plain), m), grad(by_model(checkpoint), m)
same(gm.a, gc.a)
same(gm.b, gc.b)
check.equal(gc:mass(), 0.0)

-- Random numbers are the same again.
local function dropped(call)
  return function(v) return call(function(y) return block(y, v[1]):dropout(0.5, 3) end, x):sum() end
end
same(grad(dropped(plain), w), grad(dropped(checkpoint), w))

-- ---- networks ----

local function net_of(wrap)
  local layers = {}
  for i = 1, 4 do
    layers[i] = wrap(nn.sequential { nn.linear(width, width), nn.batch_norm(width), "gelu", nn.dropout(0.1) })
  end
  layers[5] = nn.linear(width, 2)
  return nn.sequential(layers)
end
local with, without = net_of(nn.checkpoint), net_of(function(l) return l end)
local theta = without:init { seed = 1 }
check.equal(with:init { seed = 1 }:names(), theta:names())
check.equal({ with.depth }, { without.depth })
local function loss(net)
  return function(t)
    local y, state = net(t, x, { mode = "train", key = 5 })
    return y:sum(), state
  end
end
local g1, s1 = select(2, value_and_grad(loss(without), theta))
local g2, s2 = select(2, value_and_grad(loss(with), theta))
for _, name in ipairs(g1:names()) do same(g1[name], g2[name]) end
for name, t in pairs(s1) do assert(tensor.allclose(t, s2[name])) end

-- ---- memory ----

-- A gradient that is refused because of what it keeps fits with checkpoints.
local wide = tensor.normal({ 40000, 64 }, 1)
local v = {}
for i = 1, 12 do v[i] = tensor.normal({ 64, 64 }, i) * 0.1 end
local function long(call)
  return function(u)
    local y = wide
    for i = 1, #u do y = call(block, y, u[i]) end
    return y:mean()
  end
end
check.raises("checkpoint(f, …) around parts", grad, long(plain), v) -- under the 400M of the tests
local g = grad(long(checkpoint), v)
assert(g[1]:norm() > 0)
