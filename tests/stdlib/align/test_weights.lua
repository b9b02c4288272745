-- SPDX-License-Identifier: Apache-2.0
-- Matching by weights: copies in another order come back exactly in every family, noise does not matter, the objective
-- is what it is said to be and never falls, and no single group can be assigned better.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

local function agreement(net, a, b)
  local sum = 0
  for _, q in ipairs(net:params()) do
    if not q.buffer then sum = sum + a:tensor(q.name):to "f64":dot(b:tensor(q.name):to "f64") end
  end
  return sum
end

local function noisy(m, size, seed)
  local list = {}
  for i, name in ipairs(m:names()) do
    local t = m:tensor(name)
    list[i] = { name, t + size * t:std() * tensor.randn(t.shape, seed + i) }
  end
  return model.new(list)
end

local function rising(trace, what)
  for k = 2, #trace do assert(trace[k] > trace[k - 1], what .. ": the objective fell") end
end

for _, family in ipairs(copies.families) do
  local name, net = table.unpack(family)
  local a = copies.model(net, 1)
  local b = align.random(net, { seed = 7 }):apply(a)
  local p = align.weights(net, a, b, { restarts = 3 })
  check.equal(copies.distance(p:apply(b), a), 0.0, name .. ": copy")
  local whole = agreement(net, a, a)
  check.near(p.objective, whole, 1e-6 * whole, name .. ": objective")
  check.near(p.before, agreement(net, a, b), 1e-6 * whole, name .. ": objective before")
  check.near(p.trace[#p.trace], p.objective, 1e-5 * whole, name .. ": the end of the trace")
  rising(p.trace, name)
  assert(p.change < 1e-5, name)
  local q = align.weights(net, a, noisy(b, 0.1, 5), { restarts = 3, check = false })
  check.equal(copies.distance(q:apply(b), a), 0.0, name .. ": noise")
end

-- ---- unrelated networks ----

do
  local net = nn.mlp { 4, 4, 4, 3 }
  local a, b = net:init { seed = 1 }, net:init { seed = 2 }
  local p = align.weights(net, a, b, { restarts = 2, seed = 3 })
  local moved = p:apply(b)
  check.near(p.objective, agreement(net, a, moved), 1e-5)
  assert(p.objective > p.before)
  -- every other order of one group is no better: all 24 tried
  local orders = {}
  local function permute(row, k)
    if k > #row then orders[#orders + 1] = { table.unpack(row) } return end
    for i = k, #row do
      row[k], row[i] = row[i], row[k]
      permute(row, k + 1)
      row[k], row[i] = row[i], row[k]
    end
  end
  permute({ 1, 2, 3, 4 }, 1)
  check.equal(#orders, 24)
  for c, m in pairs(p.maps) do
    local own = m.index
    for _, order in ipairs(orders) do
      m.index = tensor({ order }, { dtype = "i64" })
      assert(agreement(net, a, p:apply(b)) <= p.objective + 1e-5, "group " .. c .. " could be better")
    end
    m.index = own
  end
  -- the same again; another seed finds its own way; more starts are no worse
  check.equal(align.weights(net, a, b, { restarts = 2, seed = 3 }).objective, p.objective)
  assert(align.weights(net, a, b, { restarts = 10, seed = 3 }).objective >= p.objective)
  check.equal(#align.weights(net, a, b, { restarts = 4 }).starts, 4)
end

-- ---- one hidden layer is one assignment ----

do
  local net = nn.mlp { 6, 20, 3 }
  local p = align.weights(net, net:init { seed = 1 }, net:init { seed = 2 })
  check.equal(p.starts[1].sweeps, 2, "a second sweep has nothing to do")
  check.equal(#p.trace, 2)
end

-- ---- widths at which scores are mended row by row ----

for _, act in ipairs { "relu", "tanh" } do
  local net = nn.mlp { 40, 64, 64, 64, 10, act = act }
  for _, dtype in ipairs { "f32", "f64" } do
    local a, b = net:init { seed = 1 }:cast(dtype):load(), net:init { seed = 2 }:cast(dtype):load()
    local p = align.weights(net, a, b, { restarts = 4 })
    local most = (dtype == "f64" and 1e-12 or 1e-6) * p.objective
    rising(p.trace, "wide")
    check.near(p.trace[#p.trace], p.objective, most, act .. ": kept scores")
    check.near(p.objective, agreement(net, a, p:apply(b)), most, act .. ": objective")
    local q = align.weights(net, a, b, { restarts = 4, signs = false })
    check.equal(q.maps[1].sign, nil)
    assert(act == "relu" and q.objective == p.objective or q.objective < p.objective)
  end
end

-- ---- signs ----

do
  local net = nn.mlp { 5, 9, 7, 3, act = "tanh" }
  local a = copies.model(net, 1)
  local b = align.random(net, { seed = 9 }):apply(a)
  local p = align.weights(net, a, b)
  assert(p.maps[1].sign:min() < 0)
  check.equal(copies.distance(p:apply(b), a), 0.0)
end

-- ---- a group on two axes of one tensor ----

do
  local net = nn.sequential({ nn.linear(6, 16), nn.residual(nn.sequential { nn.linear(16, 16), nn.activation "relu",
    nn.linear(16, 16) }), nn.activation "relu", nn.residual(nn.linear(16, 16)), nn.activation "relu", nn.linear(16, 3) }, { input = { 6 } })
  local twice = false
  for _, t in pairs(align.groups(net).layout.tensors) do
    local one, two = t.axes[1][1], t.axes[2] and t.axes[2][1]
    twice = twice or two and one[1].class ~= nil and one[1].class == two[1].class
  end
  assert(twice, "no group lies on two axes")
  local a = copies.model(net, 1)
  local b = align.random(net, { seed = 2 }):apply(a)
  local p = align.weights(net, a, b, { restarts = 5 })
  check.equal(copies.distance(p:apply(b), a), 0.0, "square")
  for s = 1, 4 do
    local q = align.weights(net, a, copies.model(net, 10 + s), { seed = s })
    rising(q.trace, "square")
    assert(q.objective >= q.before)
    check.near(q.objective, q.trace[#q.trace], 1e-5 * q.objective)
  end
end

-- ---- options ----

do
  local net = nn.mlp { 5, 8, 8, 3 }
  local a = copies.model(net, 1)
  local b = align.random(net, { seed = 1 }):apply(a)
  local p = align.weights(net, a, b)
  local again = align.weights(net, a, b, { start = p })
  check.equal(again.starts[1].sweeps, 1, "warm start")
  check.equal(copies.distance(again:apply(b), a), 0.0)
  check.equal(align.weights(net, a, b, { sweeps = 0 }).objective, p.before)
  local one = align.weights(net, a, b, { groups = "fc2" })
  check.equal(one:agreement()[1].moved, 0.0)
  assert(one:agreement()[2].moved > 0)
  check.raises("did you mean 'fc2'?", align.weights, net, a, b, { groups = "fc_2" })
  check.raises("did you mean 'restarts'?", align.weights, net, a, b, { restart = 2 })
  check.raises("restarts is a whole number, at least 1, got 0", align.weights, net, a, b, { restarts = 0 })
  check.raises("expected a network", align.weights, 3, a, b)
  check.raises("fc1.bias has the shape [8] in the first model and [9] in the second", align.weights, net, a,
    nn.mlp { 5, 9, 8, 3 }:init {})
  check.raises("start is an alignment", align.weights, net, a, b, { start = 3 })
  local seen = {}
  align.weights(net, a, b, { restarts = 2, log = function(i) seen[#seen + 1] = i end })
  assert(#seen >= 2 and seen[1].start == 1 and seen[#seen].start == 2 and seen[#seen].best >= seen[1].objective)
  local cost = align.weights(net, a, b, { restarts = 20, dry = true })
  assert(cost.seconds > 0 and cost.products > 0 and cost.bytes > 0 and not cost.maps)
  -- half precision and doubles
  for _, dtype in ipairs { "bf16", "f64" } do
    local c = copies.model(net, 4, dtype)
    local d = align.random(net, { seed = 2 }):apply(c)
    check.equal(copies.distance(align.weights(net, c, d):apply(d), c), 0.0, dtype)
  end
end
