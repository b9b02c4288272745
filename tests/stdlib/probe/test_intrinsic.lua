-- SPDX-License-Identifier: Apache-2.0
-- Random subspaces: projections as matrices, the jump at the number of active directions, all dimensions.
local check = dofile "tests/stdlib/bind/check.lua"
local near = check.near
local f64 = { dtype = "f64" }

-- The matrix of a projection, column by column, through a network that is one tensor of D numbers.
local function matrix_of(total, d, o)
  local net = nn.linear(total, 1, { bias = false })
  local zero = model.new { { "weight", tensor.zeros({ 1, total }, f64) } }
  local _, start, back = probe.subspace(net, zero, d, o)
  local columns = {}
  for k = 1, d do
    local z = tensor.zeros({ d }, f64)
    z:set_({ k }, 1)
    local m = start:map(function(t) return t * 0 + z end)
    columns[k] = back(m):tensor("weight"):reshape { total, 1 }
  end
  return tensor.cat(columns, 2), net, zero
end

for _, kind in ipairs { "fastfood", "sparse", "dense" } do
  local p, net, zero = matrix_of(64, 8, { kind = kind, seed = 3 })
  local norms = (p * p):sum(1)
  for k = 1, 8 do near(norms[k], 1, 1e-10, kind) end
  -- Linear, and the gradient by z is the transpose.
  local f, start = probe.subspace(net, zero, 8, { kind = kind, seed = 3 })
  local z, g = tensor.normal({ 8 }, 1, f64), tensor.normal({ 1, 64 }, 2, f64)
  local y = f({ ["subspace.z"] = z }, g)
  near(y[{ 1, 1 }], g:reshape { 64 }:dot(p:matmul(z:reshape { 8, 1 }):reshape { 64 }), 1e-10)
  local slope = grad(function(v) return f({ ["subspace.z"] = v }, g):sum() end, z)
  assert((slope - g:matmul(p):reshape { 8 }):abs():max() < 1e-10, kind)
  local q = matrix_of(64, 8, { kind = kind, seed = 4 })
  assert((p - q):abs():max() > 0.01, "the seed does not matter")
  assert((p - matrix_of(64, 8, { kind = kind, seed = 3 })):abs():max() == 0)
  -- Columns are in general position.
  local values = select(2, p:svd()):totable()
  assert(values[8] > 0.1 * values[1], kind)
  assert(start:tensor("subspace.z"):norm() == 0)
end

-- One entry in each stretch of sqrt(D) rows, the last of which is shorter; signs of one size.
do
  local p = matrix_of(70, 9, { kind = "sparse", seed = 2 }):abs()
  for first = 1, 70, 8 do
    local part = p[{ { first, math.min(first + 7, 70) } }]:gt(0):to "i64":sum(1):totable()
    check.equal(part, { 1, 1, 1, 1, 1, 1, 1, 1, 1 })
  end
  near(p:max(), 1 / 3, 1e-15)
end

-- Cut blocks: norms up to the share of the last block; odd sizes.
do
  local p = matrix_of(1000, 5, {})
  for k = 1, 5 do near((p * p):sum(1)[k], 1, 0.02) end
  check.equal(tostring(matrix_of(7, 1, {}).shape), "[7, 1]")
  check.equal(tostring(matrix_of(7, 7, {}).shape), "[7, 7]")
end

-- A quadratic with k = 6 active directions: below six dimensions something is left, from there on nothing.
do
  local x, w = (tensor.normal({ 40, 6 }, 1, f64):qr()):t() * math.sqrt(6), tensor.normal({ 1, 40 }, 2, f64)
  local d = { x = x, y = x:matmul(w:t()) }
  local net = nn.linear(40, 1, { bias = false })
  local r = probe.intrinsic_dimension(net, d, { dims = { 3, 5, 12, 40 }, kind = "dense", target = 0.99999,
    start = net:init { seed = 1, dtype = "f64" },
    train = { loss = "mse", steps = 1500, batch = 6, optimiser = train.sgd { lr = 0.2, momentum = 0.9 } } })
  local loss = {}
  for _, row in ipairs(r.rows) do loss[row.d] = row.loss end
  assert(loss[3] > 0.1 and loss[5] > 1e-2 and loss[12] < 1e-10 and loss[40] < 1e-10,
    ("%g %g %g %g"):format(loss[3], loss[5], loss[12], loss[40]))
  check.equal(r.dimension.data, 12)
  check.equal(r.numel, 40)
end

-- Layer scales; buffers go on; a journal.
do
  local d = data.two_moons { n = 100, seed = 1 }
  local net = nn.mlp { 2, 8, 2, norm = "batch" }
  local path = os.tmpname()
  os.remove(path)
  local o = { dims = { 12 }, layerwise = true, train = { epochs = 4, batch = 20, lr = 0.1 }, journal = path, seeds = 2 }
  local r = probe.intrinsic_dimension(net, d, o)
  local m = r.models[12][1]
  check.equal(#r.rows, 2)
  assert(m:tensor(m:names("running_mean")[1]):abs():max() > 0)
  assert((r.models[12][1] - r.models[12][2]):norm() > 0)
  local again = probe.intrinsic_dimension(net, d, o)
  check.near(again.rows[1].loss, r.rows[1].loss, 0)
  assert((again.models[12][1] - m):norm() == 0 and tostring(r):find "intrinsic dimension")
  os.remove(path)
  for k = 2, 8 do os.remove(("%s.%d.safetensors"):format(path, k)) end
  check.raises("layerwise takes", probe.subspace, net, net:init {}, 4, { layerwise = true })
end

-- P of 3000 columns over 10^5 parameters would have 1.2 GB; the cap of this test is a third of that.
do
  local net = nn.linear(1000, 100, { bias = false })
  local f, start, back = probe.subspace(net, net:init { seed = 1 }, 3000)
  local x = tensor.normal({ 2, 1000 }, 1)
  assert((f(start, x) - net(back(start), x)):abs():max() == 0)
end

check.raises("has 42 parameters", probe.subspace, nn.mlp { 2, 8, 2 }, nn.mlp { 2, 8, 2 }:init {}, 43)
check.raises("kind", probe.subspace, nn.mlp { 2, 8, 2 }, nn.mlp { 2, 8, 2 }:init {}, 3, { kind = "spars" })
