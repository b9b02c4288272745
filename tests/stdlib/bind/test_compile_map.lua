-- SPDX-License-Identifier: Apache-2.0
-- compile.map: equal to the calls one after the other to the bit, in order, whatever the arguments are made of;
-- failures, donation, recordings.
local check = require "check"
local equal, raises = check.equal, check.raises

local calls = 0
local f = compile(function(m, batch, scale, how)
  calls = calls + 1
  local h = (batch.x:matmul(m.w) * scale):tanh()
  return h:sum(), { mean = h:mean(), m = m * scale }, how and h or nil, batch.x:max()
end)
local list = {}
for k = 1, 40 do
  local m = model.new { w = tensor.normal({ 6, 30 }, k) }
  list[k] = { m, { x = tensor.normal({ k % 3 + 2, 6 }, 100 + k) }, k / 8, k % 5 == 0 or nil, n = 4 }
end
do -- six signatures, mixed
  local sums, tables, maybe, most = compile.map(f, list)
  equal(calls, 6)
  for k, args in ipairs(list) do
    local s, t, h, top = f(table.unpack(args, 1, 4))
    equal({ sums[k], tables[k].mean, most[k] }, { s, t.mean, top })
    assert(tensor.equal(tables[k].m.w, t.m.w))
    assert((h == nil) == (maybe[k] == nil) and (h == nil or tensor.equal(h, maybe[k])))
  end
  equal(calls, 6)
  equal(#compile.map(f, {}), 0)
end
-- what depends on no argument; results are each call's own
do
  local w = tensor.normal({ 20, 20 }, 1)
  local g = compile(function(x) return x:matmul(w), tensor.zeros_like(x):exp() end)
  local xs = {}
  for k = 1, 9 do xs[k] = { tensor.normal({ 2, 20 }, k) } end
  local y, z = compile.map(g, xs)
  for k = 1, 9 do
    assert(tensor.equal(y[k], (g(xs[k][1]))))
    equal({ z[k]:min(), z[k]:max() }, { 1.0, 1.0 })
    y[k]:fill_(k)
  end
  for k = 1, 9 do equal(y[k]:max(), k + 0.0) end
  w:fill_(1)
  raises("was changed", compile.map, g, xs)
end
-- a number that comes out, an argument that comes out
do
  local g = compile(function(a, t) return a, t, 7 end)
  local t = tensor { 1, 2 }
  local a, b, c = compile.map(g, { { 1, t }, { 2, t }, { 3, t } })
  equal({ a, c }, { { 1.0, 2.0, 3.0 }, { 7, 7, 7 } })
  for k = 1, 3 do assert(tensor.equal(b[k], t)) end
end
-- within a recording the calls are part of it
do
  local g = compile(function(x, s) return (x * s):sum(), x * 2 end)
  local x = tensor { 1, 2, 3 }
  local d = grad(function(v)
    local sums = compile.map(g, { { v, 1 }, { v, 10 } })
    return sums[1] * sums[2]
  end, x)
  equal(d:totable(), { 120.0, 120.0, 120.0 })
end
-- mistakes
raises("expected a compiled function (compile(f)), got function", compile.map, function() end, {})
raises("expected a list of calls, each a list of arguments, got number", compile.map, f, 3)
raises("call 2 is a tensor; expected the list of its arguments", compile.map, f, { list[1], tensor { 1 } })
raises("a function that donates its arguments", compile.map, compile(function(x) return x end, { donate = { 1 } }), {})
raises("2 columns on the left meet 6 rows", compile.map, f, { list[1], { list[1][1], { x = tensor { { 1, 2 } } }, 1 } })
-- memory: as many at once as there is room for, and a clear error where there is none for one
do
  local g = compile(function(x) return x:exp():t() + x:sin() end)
  local xs = {}
  for k = 1, 12 do xs[k] = { tensor.normal({ 1500, 1500 }, k % 2) } end
  local sums = compile.map(g, xs)
  for k = 1, 12 do assert(tensor.equal(sums[k], sums[(k - 1) % 2 + 1])) end
  local big = compile(function(x) return x:reshape { 1500, 1500, 1 } * x:reshape { 1500, 1, 1500 } end)
  raises("this takes up to", compile.map, big, { xs[1], xs[2] })
end
