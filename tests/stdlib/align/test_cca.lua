-- SPDX-License-Identifier: Apache-2.0
-- Linear maps by canonical correlations: the reference's map, linear networks whose maps are exact, and what an
-- activation does to it.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"
local decode = require "json.decode".decode

-- The stored map: two networks that show X and Y as their features.
do
  local m = model.load "tests/golden/similarity/sim.safetensors"
  local file <close> = assert(io.open "tests/golden/similarity/sim.json")
  local about = decode(file:read "a").cca_map
  local x, y, want = m:tensor "cca_map.X", m:tensor "cca_map.Y", m:tensor "cca_map.T"
  local n = x.shape[2]
  local net = nn.mlp { 2 * n, n, 1, act = "identity", bias = false }
  local one, zero = tensor.eye(n):to "f64", tensor.zeros({ n, n }, { dtype = "f64" })
  local out = tensor.ones({ 1, n }, { dtype = "f64" })
  local a = model.new { ["fc1.weight"] = tensor.cat({ one, zero }, 2), ["fc2.weight"] = out }
  local b = model.new { ["fc1.weight"] = tensor.cat({ zero, one }, 2), ["fc2.weight"] = out }
  local p = align.cca(net, a, b, { data = { x = tensor.cat({ x, y }, 2) }, ridge = about.ridge, batch = 17 })
  local _, map = next(p.maps)
  assert((map.forward[1]:t() - want):abs():max() < 1e-8)
  assert((map.forward[1]:matmul(map.back[1]) - one):abs():max() < 1e-10)
  assert((p.correlations.fc1[1] - tensor(about.correlations, { dtype = "f64" })):abs():max() < 1e-10)
end

-- A linear network in another basis comes back, and all correlations are 1.
do
  local net = nn.mlp { 9, 6, 4, 3, act = "identity" }
  local a = copies.model(net, 1, "f64")
  local d = { x = tensor.randn({ 200, 9 }, 7, { dtype = "f64" }) }
  local r, s = tensor.randn({ 6, 6 }, 5, { dtype = "f64" }), tensor.randn({ 4, 4 }, 6, { dtype = "f64" })
  local function over(w, m) return m:t():solve(w:t()):t() end -- w m^-1
  local b = model.new { ["fc1.weight"] = r:matmul(a["fc1.weight"]), ["fc1.bias"] = r:matmul(a["fc1.bias"]),
    ["fc2.weight"] = s:matmul(over(a["fc2.weight"], r)), ["fc2.bias"] = s:matmul(a["fc2.bias"]),
    ["fc3.weight"] = over(a["fc3.weight"], s), ["fc3.bias"] = a["fc3.bias"] }
  local p = align.cca(net, a, b, { data = d, ridge = 0 })
  assert(p:check(net, b, d) < 1e-11 and not p.exact)
  assert(copies.distance(p:apply(b), a) < 1e-11)
  for _, c in pairs(p.correlations) do assert((c - 1):abs():max() < 1e-11) end
end

-- Behind an activation it is no symmetry, and says so; values inside a head are exact whatever the heads' order.
do
  local _, net, x = table.unpack(copies.families[1])
  local a, b = copies.model(net, 1), copies.model(net, 2)
  local p = align.cca(net, a, b, { data = { x = x } })
  assert(p.change > 1e-3 and tostring(p):find "outputs change")
  for _, c in pairs(p.correlations) do assert(c:min() >= 0 and c:max() <= 1) end
  check.raises("ridge", align.cca, net, a, b, { data = { x = x[{ { 1, 8 } }] }, ridge = 0 })
  check.raises("ridge is a number", align.cca, net, a, b, { data = { x = x }, ridge = -1 })
end
do
  local net = nn.gpt { vocab = 48, width = 16, layers = 1, heads = 4, context = 16 }
  local a = copies.model(net, 3)
  local b = copies.moved(net, a, 4)
  local d = { x = tensor.randint(0, 48, { 40, 16 }, 1) }
  local hold = { "transformer.wte", "transformer.h.0.mlp.c_fc" }
  local c = align.weights(net, a, b, { groups = hold, check = false }):apply(b)
  local p = align.cca(net, a, c, { data = d, pin = hold, ridge = 1e-6 })
  assert(p.change < 1e-3, p.change)
  assert(copies.distance(p:apply(c), a) < 1e-2)
end
