-- SPDX-License-Identifier: Apache-2.0
-- Annealing finds the best order of small groups, whatever is made small, and signs too.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

-- ---- the optimum, by trying all orders ----

for n = 3, 6 do
  local net = nn.mlp { 3, n, 2 }
  local a, b = net:init { seed = n }, net:init { seed = 100 + n }
  local function energy(m) return (m - a):norm() end
  local p = align.anneal(net, a, b, { energy = energy, steps = 150 * n, seed = n })
  check.near(p.energy, energy(p:apply(b)), 1e-9, "energy")
  check.near(p.energy_before, energy(b), 1e-9, "energy before")
  -- one hidden layer: the distance is least where the inner product is greatest, which one assignment finds
  check.near(p.energy, energy(align.weights(net, a, b):apply(b)), 1e-6, "optimum of " .. n)
  assert(p.energy < p.energy_before and p.accepted > 0 and p.accepted < 1)
end

-- ---- copies; signs; heads ----

do
  local net = nn.mlp { 3, 4, 4, 2, act = "tanh" }
  local a = copies.model(net, 1)
  local b = align.random(net, { seed = 5 }):apply(a)
  local p = align.anneal(net, a, b, { energy = function(m) return (m - a):norm() end, steps = 4000, moves = "one" })
  check.equal(copies.distance(p:apply(b), a), 0.0, "tanh")
  assert(p.maps[1].sign or p.maps[2].sign)
  local c = copies.model(net, 2)
  local q = align.anneal(net, a, c, { energy = function(m) return (m - a):norm() end, steps = 300, moves = "one" })
  check.near(q.energy, (q:apply(c) - a):norm(), 1e-9, "what a step took back")
end

do
  local net = nn.gpt { vocab = 7, width = 4, layers = 1, heads = 2, inner = 3, context = 5 }
  local a = copies.model(net, 1)
  local p = align.anneal(net, a, copies.model(net, 2), { energy = function(m) return (m - a):norm() end, steps = 200 })
  assert(p.energy <= p.energy_before and p.change < 1e-5)
end

-- ---- the loss half-way ----

do
  local net = nn.mlp { 2, 5, 2 }
  local d = { x = tensor.randn({ 40, 2 }, 1), y = tensor.randint(0, 2, { 40 }, 2) }
  local f = net:loss(d)
  local a = copies.model(net, 3)
  local b = align.random(net, { seed = 4 }):apply(a)
  local half = f(0.5 * a + 0.5 * b)
  local seen = 0
  local p = align.anneal(net, a, b, { loss = f, steps = 200, log = function(i) seen = i.step end })
  check.near(p.energy, f(0.5 * a + 0.5 * p:apply(b)), 1e-6)
  check.near(p.energy_before, half, 1e-6)
  assert(p.energy <= half and seen == 200)
  check.equal(align.anneal(net, a, b, { loss = f, steps = 50 }).energy, align.anneal(net, a, b, { loss = f, steps = 50 }).energy)
  local calls = 0
  align.anneal(net, a, b, { loss = f, steps = 1000, log = function() calls = calls + 1 return calls < 2 end })
  check.equal(calls, 2, "stopped by the log")
  check.raises("either loss or energy", align.anneal, net, a, b)
  check.raises("either loss or energy", align.anneal, net, a, b, { loss = f, energy = f })
  check.raises("steps is a whole number", align.anneal, net, a, b, { loss = f, steps = 0 })
  check.raises('moves is "every" or "one"', align.anneal, net, a, b, { loss = f, moves = "all" })
  check.raises("energy gave a string", align.anneal, net, a, b, { energy = function() return "low" end })
  check.raises("no group is called 'fc9'", align.anneal, net, a, b, { loss = f, groups = "fc9" })
end
