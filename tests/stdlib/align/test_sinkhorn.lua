-- SPDX-License-Identifier: Apache-2.0
-- Permutations by gradient: copies come back by every distance, a step written out by hand, its gradient against finite
-- differences, losses on data, and the best that was seen.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

-- Copies of an MLP, whatever the distance; of a convolutional and a residual one, and of heads, by the squares.
local _, net, x = table.unpack(copies.families[1])
local a = copies.model(net, 1)
local b = copies.moved(net, a, 2)
for _, loss in ipairs { "l2", "l1", "cosine" } do
  local p = align.sinkhorn(net, a, b, { loss = loss, steps = 60 })
  check.equal(copies.distance(p:apply(b), a), 0.0, loss)
  assert(p.exact and p.objective < 1e-7 and p.before > 100 * p.objective)
end
for _, k in ipairs { 3, 4 } do
  local name, own = table.unpack(copies.families[k])
  local one = copies.model(own, 1)
  local two = copies.moved(own, one, 2)
  local p = align.sinkhorn(own, one, two, { steps = 80, every = 20 })
  check.equal(copies.distance(p:apply(two), one), 0.0, name)
end
do
  local own = nn.gpt { vocab = 12, width = 8, layers = 1, heads = 2, context = 8, inner = 6 }
  local one = copies.model(own, 1)
  local two = copies.moved(own, one, 2)
  local p = align.sinkhorn(own, one, two, { steps = 150, every = 25, seed = 1 })
  assert(p.change < 1e-5 and p.objective < 0.5 * p.before, p.objective / p.before)
end

-- One hidden layer, two steps of plain gradient descent by hand.
do
  local small = nn.mlp { 3, 5, 2 }
  local one, two = copies.model(small, 1, "f64"), copies.model(small, 2, "f64")
  local n = 15 + 5 + 10 + 2
  local function objective(y)
    local p = tensor.sinkhorn(-1 * y, { reg = 0.5, tolerance = 1e-12 })
    return (((one["fc1.weight"] - p:matmul(two["fc1.weight"])) ^ 2):sum()
      + ((one["fc1.bias"] - p:matmul(two["fc1.bias"])) ^ 2):sum()
      + ((one["fc2.weight"] - two["fc2.weight"]:matmul(p:t())) ^ 2):sum()
      + ((one["fc2.bias"] - two["fc2.bias"]) ^ 2):sum()) / n
  end
  local y, rate = tensor.eye(5):to "f64", 3.0
  local g = grad(objective, y)
  local step = 1e-5
  for _, at in ipairs { { 1, 1 }, { 2, 4 }, { 5, 3 } } do
    local function shifted(by) return objective(y:clone():set_(at, y[at] + by)) end
    check.near(g[at], (shifted(step) - shifted(-step)) / (2 * step), 1e-8 * g:abs():max() + 1e-9, "gradient")
  end
  local p = align.sinkhorn(small, one, two, { steps = 2, noise = 0, tau = 0.5, optimiser = train.sgd { lr = rate } })
  check.near(p.losses[1], objective(y), 1e-6)
  check.near(p.losses[2], objective(y - rate * g), 1e-6)
  assert(p.losses[2] < p.losses[1])
end

-- The loss on data, halfway and at random places: judged halfway, the best that was seen, the same again.
do
  local points = tensor.randn({ 400, 2 }, 1)
  local set = data.tensors { x = points, y = (points[{ {}, 1 }] * points[{ {}, 2 }]):gt(0):to "i64" }
  local plane = nn.mlp { 2, 16, 16, 2 }
  local function trained(seed)
    return (train.fit(plane, set, { epochs = 15, batch = 50, optimiser = train.adam { lr = 0.02 }, seed = seed, quiet = true }))
  end
  local one, two = trained(1), trained(2)
  local f = plane:loss(set)
  for _, loss in ipairs { "mid", "random" } do
    local p = align.sinkhorn(plane, one, two, { loss = loss, data = set, steps = 60, batch = 100, lr = 0.2, every = 5 })
    assert(p.exact and p.change < 1e-5)
    check.near(p.objective, f(0.5 * one + 0.5 * p:apply(two)), 1e-6)
    check.equal(p.objective, math.min(table.unpack(p.trace)))
    assert(p.objective < p.before, loss)
    if loss == "random" then
      check.equal(align.sinkhorn(plane, one, two, { loss = loss, data = set, steps = 5, batch = 100, lr = 0.2 }).losses,
        { table.unpack(p.losses, 1, 5) })
    end
  end
  -- a start of one's own
  local w = align.weights(plane, one, two)
  local p = align.sinkhorn(plane, one, two, { loss = "mid", data = set, steps = 5, batch = 100, start = w })
  check.near(p.before, f(0.5 * one + 0.5 * w:apply(two)), 1e-6)
end

check.raises("loss = \"l3\"", align.sinkhorn, net, a, b, { loss = "l3" })
check.raises("needs data with labels", align.sinkhorn, net, a, b, { loss = "mid" })
check.raises("tau is a number above 0", align.sinkhorn, net, a, b, { tau = 0 })
check.raises("start is an alignment", align.sinkhorn, net, a, b, { start = a })
check.raises("steps is a whole number", align.sinkhorn, net, a, b, { steps = 1.5, data = { x = x } })
