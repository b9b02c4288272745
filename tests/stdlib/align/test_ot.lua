-- SPDX-License-Identifier: Apache-2.0
-- Fusion by transport: permuted copies come back, a network with itself is itself, plans against costs by hand, other
-- widths without a change where features are alike, streams, mistakes.
local check = dofile "tests/stdlib/bind/check.lua"
local drawn, inputs = require "drawn".model, require "drawn".inputs

local function off(y, z) return (y - z):abs():max() / z:abs():max() end

-- ---- permuted copies of every architecture: exact plans between equal widths are permutations ----

local zoo = { nn.mlp { 4, 16, 8, 3, norm = "batch" }, nn.conv { 4, "M", 6, input = { 8, 8, 2 }, hidden = { 7 } },
  nn.resnet { depth = 8, width = 4, input = { 8, 8, 2 } },
  nn.vit { input = { 8, 8, 1 }, patch = 4, width = 16, layers = 2, heads = 2 },
  nn.bert { width = 16, layers = 1, heads = 2, vocab = 32, head = "masked" }, nn.gpt { width = 16, layers = 1, heads = 2, vocab = 32 },
  nn.llama { width = 16, layers = 1, heads = 4, kv_heads = 2, vocab = 32 } }
for _, net in ipairs(zoo) do
  local a = drawn(net, 1)
  local b = align.random(net, { seed = 5 }):apply(a)
  assert((a - b):norm() > 1)
  for _, o in ipairs { {}, { ground = "cosine" }, { ground = "squared", residual = "first" } } do
    local p = align.ot(net, a, b, o)
    assert(p.exact, net.kind)
    check.equal((p:apply(b) - a):norm(), 0.0, net.kind)
  end
end

-- ---- with itself ----

local net = nn.mlp { 4, 16, 8, 3 }
local d = { x = tensor.randn({ 300, 4 }, 3) }
local a, b = drawn(net, 1), drawn(net, 2)
for _, o in ipairs { {}, { mode = "activations", data = d }, { reg = 1e-3, ground = "squared" },
  { marginals = "importance" }, { mode = "activations", data = d, marginals = "importance", site = "post" } } do
  assert(off(align.ot(net, a, a, o):apply(a)["fc2.weight"], a["fc2.weight"]) < 1e-4)
end

-- ---- plans, by hand ----

local function distances(x, y) -- rows
  x, y = x:to "f64", y:to "f64"
  return ((x * x):sum(2):unsqueeze(2) + (y * y):sum(2):unsqueeze(1) - 2 * x:matmul(y:t())):clamp(0, math.huge):sqrt()
end

local function rows(m, layer, input) -- weights and bias of a layer as the features' vectors
  local w = input or m[layer .. ".weight"]
  return tensor.cat({ w, m[layer .. ".bias"]:unsqueeze(2) }, 2)
end

local wide = nn.mlp { 4, 24, 12, 3 }
local large = drawn(wide, 2)

local function maps_of(p)
  local list = {}
  for c, m in pairs(p.maps) do list[#list + 1] = { c, m } end
  table.sort(list, function(x, y) return x[1] < y[1] end)
  return list[1][2], list[2][2]
end

for _, reg in ipairs { false, 0.05 } do
  local p = align.ot(net, a, large, { reg = reg or nil })
  local one, two = maps_of(p)
  local plan = align.transport(distances(rows(a, "fc1"), rows(large, "fc1")), nil, nil, { reg = reg or nil })
  assert(off(one.forward[1]:to "f64", 16 * plan) < 1e-6 and off(one.back[1]:to "f64", 16 * plan:t()) < 1e-6)
  -- the second layer's inputs are carried already
  local carried = large["fc2.weight"]:matmul(one.back[1])
  plan = align.transport(distances(rows(a, "fc2"), rows(large, "fc2", carried)), nil, nil, { reg = reg or nil })
  assert(off(two.forward[1]:to "f64", 8 * plan) < 1e-5)
  for _, m in ipairs { one, two } do
    assert(off(m.forward:sum(3), tensor.ones { 1 }) < 1e-5 and off(m.back:sum(2), tensor.ones { 1 }) < 1e-5)
  end
  local c = p:apply(large)
  assert(off(c["fc2.weight"], two.forward[1]:matmul(carried)) < 1e-5)
  assert(off(c["fc2.bias"], two.forward[1]:matmul(large["fc2.bias"]:unsqueeze(2)):reshape { 8 }) < 1e-5)
  assert(c["fc3.bias"]:equal(large["fc3.bias"]))
  assert(not p.exact and p.change > 0)
end

-- By activations, before the activation: squared distances of values over the data.
do
  local p = align.ot(net, a, b, { mode = "activations", data = d, batch = 70 })
  assert(p.exact)
  local x, y = net:capture(a, d.x, "fc1").fc1:t(), net:capture(b, d.x, "fc1").fc1:t()
  local index = align.assignment(distances(x, y))
  check.equal((maps_of(p)).index[1]:totable(), index:totable())
  assert(p.change < 1e-5)
end

-- Marginals by importance: rows and columns add up to the norms.
do
  local p = align.ot(net, a, large, { marginals = "importance", ground = "squared", readers = "sum" })
  local one = maps_of(p)
  local function norms(m)
    local v = (rows(m, "fc1"):to "f64" ^ 2):sum(2):sqrt()
    return v / v:sum()
  end
  local plan = one.forward[1]:to "f64" * norms(a):unsqueeze(2)
  assert(off(plan:sum(1), norms(large)) < 1e-4 and off(one.back[1]:sum(2), tensor.ones { 24 }) < 1e-5)
end

-- ---- other widths ----

-- Every feature twice, each read by half: the same function, and each carried to the other without a change.
do
  local twice = tensor.cat({ tensor.arange(16) + 1, tensor.arange(16) + 1 }, 1)
  local both = tensor.cat({ tensor.arange(8) + 1, tensor.arange(8) + 1 }, 1)
  local double = model.new { ["fc1.weight"] = a["fc1.weight"]:index_select(1, twice),
    ["fc1.bias"] = a["fc1.bias"]:index_select(1, twice),
    ["fc2.weight"] = (a["fc2.weight"] / 2):index_select(2, twice):index_select(1, both),
    ["fc2.bias"] = a["fc2.bias"]:index_select(1, both),
    ["fc3.weight"] = (a["fc3.weight"] / 2):index_select(2, both), ["fc3.bias"] = a["fc3.bias"] }
  for _, o in ipairs { { readers = "sum" }, { readers = "sum", mode = "activations", data = d } } do
    local p = align.ot(net, a, double, o)
    assert(p.change < 1e-5 and off(p:apply(double)["fc2.weight"], a["fc2.weight"]) < 1e-6)
    p = align.ot(net, double, a, o)
    assert(p.change < 1e-5 and off(p:apply(a)["fc2.weight"], double["fc2.weight"]) < 1e-6)
  end
  -- the paper's readers take the mean: half of what two features gave together
  local p = align.ot(net, a, double)
  assert(off(p:apply(double)["fc3.weight"], a["fc3.weight"] / 2) < 1e-6)
  local m = merge.linear { a, p:apply(double) }
  check.equal(m:load()["fc2.weight"].shape, { 8, 16 })
end

-- ---- streams ----

do
  local small = zoo[3]
  local bigger = nn.resnet { depth = 8, width = 6, input = { 8, 8, 2 } }
  local one, two, images = drawn(small, 1), drawn(bigger, 2), inputs(small, 16)
  for _, residual in ipairs { "joint", "mean", "weighted", "first" } do
    local p = align.ot({ small, bigger }, one, two, { residual = residual, data = images, readers = "sum" })
    check.equal(small(p:apply(two), images.x).shape, { 16, 10 })
    for _, m in pairs(p.maps) do assert(off(m.back:sum(3), tensor.ones { 1 }) < 1e-5, residual) end
  end
  check.raises("features in a and ", align.ot, small, one, two, { residual = "identity" })
  check.raises('residual = "weighted" needs data', align.ot, small, one, two, { residual = "weighted" })
  local other = drawn(small, 2)
  local kept = align.ot(small, one, other, { residual = "identity" })
  assert(kept:apply(other)["conv1.weight"]:equal(other["conv1.weight"]))
  assert(kept.exact and kept.change < 1e-4)
  -- the mean of permutations is none
  assert(not align.ot(small, one, other, { residual = "mean" }).exact)
  local vit = zoo[4]
  local p = align.ot(vit, drawn(vit, 1), drawn(vit, 2), { residual = "identity" })
  assert(p.exact and p.change < 1e-4)
end

-- ---- mistakes ----

check.raises("did you mean 'ground'?", align.ot, net, a, b, { grounds = "cosine" })
check.raises('ground = cos; expected "euclidean", "squared", "cosine"', align.ot, net, a, b, { ground = "cos" })
check.raises('mode = "activations" needs data', align.ot, net, a, b, { mode = "activations" })
check.raises("reg = 0; expected a number above 0", align.ot, net, a, b, { reg = 0 })

-- wrong arguments
check.raises("align.load: expected the path of a file, got a boolean", align.load, true)
check.raises("align.ot: expected a model or a table of tensors, got nil", align.ot, net, a)
check.raises("align.weights: log is a text, expected a function", align.weights, net, a, b, { log = "x" })
check.raises("align.weights: fc1.weight is a boolean, expected a tensor", align.weights, net, { ["fc1.weight"] = true }, b)
