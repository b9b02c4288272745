-- SPDX-License-Identifier: Apache-2.0
-- Matching by the loss in the middle: never worse than its start, exact, the same again; against the loop by hand.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

-- Two classifiers of points on the plane, trained apart.
local function problem(n, seed)
  local x = tensor.randn({ n, 2 }, seed)
  return { x = x, y = (x[{ {}, 1 }] * x[{ {}, 2 }]):gt(0):to "i64" }
end
local d = problem(400, 1)
local net = nn.mlp { 2, 16, 16, 2 }
local set = data.tensors(d)
local function trained(seed)
  return (train.fit(net, set, { epochs = 15, batch = 50, optimiser = train.adam { lr = 0.02 }, seed = seed, quiet = true }))
end
local a, b = trained(1), trained(2)
local f = net:loss(d)
local function middle(p) return f(0.5 * a + 0.5 * p:apply(b)) end

local start = align.weights(net, a, b)
local p = align.ste(net, a, b, { data = set, steps = 40, batch = 100, lr = 0.2 })
assert(p.exact and p.change < 1e-5)
check.near(p.before, middle(start), 1e-6)
check.near(p.objective, middle(p), 1e-6)
assert(p.objective < p.before, "the loss in the middle did not fall")
check.equal(p.objective, math.min(table.unpack(p.trace)))
check.equal(#p.losses, 40)

-- The same again, and with another seed other batches.
local q = align.ste(net, a, b, { data = set, steps = 40, batch = 100, lr = 0.2 })
check.equal(q.losses, p.losses)
assert(align.ste(net, a, b, { data = set, steps = 5, batch = 100, lr = 0.2, seed = 1 }).losses[1] ~= p.losses[1])

-- Without a rate it is its start; a start of one's own is taken.
local bad = align.activations(net, a, b, { data = { x = tensor.randn({ 4, 2 }, 9) } })
local still = align.ste(net, a, b, { data = set, steps = 2, batch = 100, lr = 0, start = bad, every = 5 })
check.near(still.before, middle(bad), 1e-6)
assert(still.objective <= still.before)

-- The first step by hand: momentum SGD on the gradient of the midpoint's loss by the moved b.
do
  local rate, whole = 0.5, net:loss(d)
  local one = align.ste(net, a, b, { data = set, steps = 1, batch = 400, lr = rate, momentum = 0 })
  local moved = start:apply(b)
  local g = grad(function(w) return whole(0.5 * a + 0.5 * w) end, moved)
  check.near(one.losses[1], middle(start), 1e-5)
  local next_one = align.weights(net, a - rate * g, b, { start = start })
  check.near(one.objective, math.min(middle(start), middle(next_one)), 1e-6)
end

-- Batch norms: run with the statistics of the batch.
do
  local _, conv, x = table.unpack(copies.families[3])
  local y = tensor.randint(0, 10, { x.shape[1] }, 3)
  local one, two = copies.model(conv, 1), copies.model(conv, 2)
  local r = align.ste(conv, one, two, { data = { x = x, y = y }, steps = 3, batch = 10, lr = 0.1 })
  assert(r.change < 1e-5 and r.objective <= r.before)
end

check.raises("data = … is needed", align.ste, net, a, b)
check.raises("steps is a whole number", align.ste, net, a, b, { data = set, steps = 0 })
check.raises("did you mean", align.ste, net, a, b, { data = set, step = 5 })
check.raises("start is an alignment", align.ste, net, a, b, { data = set, start = 5 })
check.raises("expected a network", align.ste, 5, a, b, { data = set })
