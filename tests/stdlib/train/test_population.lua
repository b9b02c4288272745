-- SPDX-License-Identifier: Apache-2.0
-- Populations: at alpha = 1 members train as they would alone, at 0 they are one synchronous run; WASH deals
-- out values and loses none. Rounds: one client is training, many are a weighted mean.
local check = dofile "tests/stdlib/bind/check.lua"
local moons = data.two_moons { n = 240, seed = 1 }
local net = nn.mlp { 2, 12, 6, 2 }
local bn = nn.sequential { nn.linear(2, 8), nn.batch_norm(8), "relu", nn.linear(8, 2) }

local function same(x, y, what)
  check.equal(#x:names(), #y:names(), what)
  for _, name in ipairs(x:names()) do
    if not x:tensor(name):equal(y:tensor(name)) then error((what or "") .. ": " .. name .. " differs", 2) end
  end
end
local function differ(x, y) return (x - y):norm() > 1e-3 end
local function with(o, more)
  local out = {}
  for key, v in pairs(o) do out[key] = v end
  for key, v in pairs(more) do out[key] = v end
  return out
end
local base = { epochs = 4, batch = 60, lr = 0.1, optimiser = "sgd" }

-- ---- PAPA ----

local function alone(n, k, more)
  return (train.fit(n, moons, with(with(base, { seed = { init = 3, order = 3 + k, augment = 3 + k, dropout = 3 + k } }),
    more or {})))
end
local adam = { optimiser = train.adam { lr = 0.01 }, lr = 0.01 }
for _, more in ipairs { {}, adam } do
  local apart = train.population(bn, moons, with(with(base, more), { members = 3, seed = 3,
    share = train.papa { alpha = 1, every = 1 } }))
  for k = 1, 3 do same(apart[k], alone(bn, k - 1, more), "alpha = 1, member " .. k) end
  assert(differ(apart[1], apart[2]))
end
-- Rules that do nothing, and options of single members.
local varied = train.population(net, moons, with(base, { members = 2, seed = 3, share = function() end,
  vary = function(k) return { lr = 0.1 * k } end }))
same(varied[1], alone(net, 0), "the first of two")
same(varied[2], alone(net, 1, { lr = 0.2 }), "with a rate of its own")
local each = train.population(net, moons, with(base, { members = 2, seed = 3, share = function() end, init = "each" }))
same(each[2], train.fit(net, moons, with(base, { seed = 4 })), "first weights of its own")

-- alpha = 0 after every step of SGD: the step of the mean gradient.
local together, logs = train.population(net, moons, with(base, { members = 2, seed = 3,
  share = train.papa { alpha = 0, every = 1 } }))
same(together[1], together[2], "alpha = 0")
check.equal(#logs, 2)
check.equal(#logs[2].losses, 16)
local theta = net:init { seed = 3 }
local streams = {}
for k = 1, 2 do
  streams[k] = {}
  for i, b in moons:batches { size = 60, epochs = 4, seed = 2 + k } do streams[k][i] = b end
end
for i = 1, 16 do
  local g = {}
  for k = 1, 2 do g[k] = grad(function(t) return net:loss(streams[k][i])(t) end, theta) end
  theta = (theta - 0.05 * (g[1] + g[2])):load()
end
check.near((together[1] - theta):norm() / theta:norm(), 0, 1e-5, "synchronous averaging")

-- Between: every second step, half way, with a rate that falls; by hand over tables.
do
  local rates = { 0.2, 0.1, 0.05, 0.025 }
  local o = { steps = 4, batch = 60, optimiser = "sgd", schedule = function(t) return rates[t + 1] end, seed = 5 }
  local got = train.population(net, moons, with(o, { members = 3, share = train.papa { alpha = 0.6, every = 2 } }))
  local want, batches = {}, {}
  for k = 1, 3 do
    want[k], batches[k] = net:init { seed = 5 }, {}
    for i, b in moons:batches { size = 60, steps = 4, seed = 4 + k } do batches[k][i] = b end
  end
  for i = 1, 4 do
    for k = 1, 3 do
      want[k] = (want[k] - rates[i] * grad(function(t) return net:loss(batches[k][i])(t) end, want[k])):load()
    end
    if i % 2 == 0 then
      local a = 1 - 0.4 * rates[i] / 0.2
      local mean = ((want[1] + want[2] + want[3]) / 3):load()
      for k = 1, 3 do want[k] = (a * want[k] + (1 - a) * mean):load() end
    end
  end
  for k = 1, 3 do check.near((got[k] - want[k]):norm() / want[k]:norm(), 0, 1e-5, "PAPA, member " .. k) end
end

-- ---- WASH ----

-- The values of each coordinate, sorted, as text.
local function multisets(models)
  local out = {}
  for _, name in ipairs(models[1]:names()) do
    local list = {}
    for i, m in ipairs(models) do list[i] = m:tensor(name):flatten() end
    out[name] = tensor.stack(list, 1):sort(1)
  end
  return out
end
local function washed(models, o, step, n)
  local rule = train.wash(o)
  local list, buffer = {}, {}
  for i, m in ipairs(models) do
    list[i] = {}
    for _, name in ipairs(m:names()) do list[i][name] = m:tensor(name) end
  end
  for _, q in ipairs(n:params()) do buffer[q.name] = q.buffer or nil end
  local new = rule.apply(list, { step = step, seed = 9, net = n, buffer = buffer })
  local out = {}
  for i = 1, #models do out[i] = model.new(new[i]) end
  return out
end
local function moved(before, after, name)
  local sum = 0
  for i = 1, #before do sum = sum + before[i]:tensor(name):ne(after[i]:tensor(name)):to("f64"):sum() end
  return sum / (#before * before[1]:tensor(name):numel())
end
local wide = nn.mlp { 20, 200, 200, 10 }
local members = {}
for k = 1, 4 do members[k] = wide:init { seed = k, dtype = k < 5 and "f32" or nil } end
for i = 1, 4 do -- biases begin at zero, which tells nothing
  local parts = {}
  for _, name in ipairs(members[i]:names()) do parts[name] = tensor.randn(members[i]:tensor(name).shape, 100 * i + #name) end
  members[i] = model.new(parts)
end
local before = multisets(members)
for _, p in ipairs { 0.05, 0.5, 1 } do
  local after = washed(members, { p = p, decreasing = false }, 1, wide)
  for name, t in pairs(multisets(after)) do assert(t:equal(before[name]), "the multiset of " .. name) end
  check.near((merge.linear(after) - merge.linear(members)):norm(), 0, 1e-5, "the mean")
  -- A value of those drawn stays with its member in one of four permutations; 40000 coordinates.
  check.near(moved(members, after, "fc2.weight"), p * 3 / 4, 4.5 * (p / 40000) ^ 0.5, "share that moves")
end
for name, t in pairs(multisets(washed(members, { p = 0 }, 1, wide))) do assert(t:equal(before[name])) end
same(washed(members, { p = 0 }, 1, wide)[1], members[1], "p = 0")
local falling = washed(members, { p = 0.8 }, 1, wide)
check.near(moved(members, falling, "fc1.weight"), 0.6, 0.06, "the first layer")
check.near(moved(members, falling, "fc2.weight"), 0.3, 0.02, "half way")
check.equal(moved(members, falling, "fc3.weight"), 0.0)
same(washed(members, { p = 0.3 }, 7, wide)[2], washed(members, { p = 0.3 }, 7, wide)[2], "the same step")
assert(differ(washed(members, { p = 0.3 }, 7, wide)[2], washed(members, { p = 0.3 }, 8, wide)[2]))
-- All members come into all places: where the first gets its values from.
do
  local marks = {}
  for k = 1, 4 do marks[k] = model.new { ["fc1.weight"] = tensor.full({ 200, 20 }, k) } end
  local out = washed(marks, { p = 1 }, 1, nn.mlp { 20, 200, 10 })
  for i = 1, 4 do
    for k = 1, 4 do
      check.near(out[i]["fc1.weight"]:eq(k):to("f64"):mean(), 0.25, 4.5 * (3 / 16 / 4000) ^ 0.5, "a uniform deal")
    end
  end
end
local stayed = train.population(bn, moons, with(base, { members = 3, seed = 3, share = train.wash { p = 0 } }))
same(stayed[2], alone(bn, 1), "WASH at p = 0")
local mixed = train.population(bn, moons, with(base, { members = 3, seed = 3, share = train.wash { p = 0.5 } }))
assert(differ(mixed[2], stayed[2]) and differ(mixed[1], mixed[2]))
same(mixed[2], train.population(bn, moons, with(base, { members = 3, seed = 3, share = train.wash { p = 0.5 } }))[2],
  "the same seed")
-- Buffers stay: one step without learning, all dealt out anew.
local still = train.population(bn, moons, { steps = 1, batch = 60, lr = 0, optimiser = "sgd", members = 3, seed = 3,
  share = train.wash { p = 1, decreasing = false } })
for k = 1, 3 do
  local m = train.fit(bn, moons, { steps = 1, batch = 60, lr = 0, optimiser = "sgd", seed = { init = 3, order = 2 + k } })
  assert(still[k]["1.running_mean"]:equal(m["1.running_mean"]), "statistics of member " .. k)
end

-- ---- rounds ----

local start = net:init { seed = 8 }
local one = train.federated(net, { moons }, with(base, { start = start, seed = 2 }))
same(one, train.fit(net, moons, with(base, { start = start, seed = 2 })), "one client, one round")
local thrice, log = train.federated(net, { moons }, with(base, { start = start, seed = 2, rounds = 3, epochs = 1 }))
local chain = start
for r = 0, 2 do chain = train.fit(net, moons, with(base, { start = chain, epochs = 1, seed = 2 + r })) end
same(thrice, chain, "one client, three rounds")
check.equal(#log, 3)

local few, many = moons:split { 60, 180, seed = 1 }
local both, report = train.federated(net, { few, many }, with(base, { start = start, seed = 2, val = moons }))
local x = train.fit(net, few, with(base, { start = start, seed = { order = 2, augment = 2, dropout = 2 } }))
local y = train.fit(net, many, with(base, { start = start, seed = { order = 3, augment = 3, dropout = 3 } }))
same(report.clients[1], x, "the first client")
same(report.clients[2], y, "the second client")
same(both, merge.linear({ x, y, weight = { 0.25, 0.75 } }):load(), "weights n_k / n")
check.near(report[1].val_loss, net:loss(moons)(both), 1e-9)
same((train.federated(net, { few, many }, with(base, { start = start, seed = 2, weights = "equal" }))),
  merge.linear({ x, y, weight = { 0.5, 0.5 } }):load(), "equal weights")
same((train.federated(net, { few, many }, with(base, { start = start, seed = 2, merge = function(models, w, shared)
  check.equal(w, { 0.25, 0.75 })
  same(shared, start, "what they began with")
  return shared + 2 * (merge.linear { models[1], models[2], weight = w } - shared)
end }))), (start + 2 * (merge.linear { x, y, weight = { 0.25, 0.75 } } - start)):load(), "a server's step")

-- Rates by round, options of a client, a share of the clients.
local rates = {}
train.federated(net, { { data = few, epochs = 1, schedule = function() rates[#rates + 1] = "own" return 0.1 end }, many },
  with(base, { rounds = 2, epochs = 1, lr = function(r) rates[#rates + 1] = r return 0.1 / r end }))
local _, some = train.federated(net, { few, many, few, many, few }, { rounds = 12, steps = 1, fraction = 0.4, seed = 1 })
local times = { 0, 0, 0, 0, 0 }
for _, row in ipairs(some) do
  check.equal(#row.clients, 2)
  assert(row.clients[1] < row.clients[2])
  for _, k in ipairs(row.clients) do times[k] = times[k] + 1 end
end
for k = 1, 5 do assert(times[k] > 0 and times[k] < 12, "every client comes by: " .. table.concat(times, " ")) end
assert(rates[1] == 1 and rates[2] == "own" and rates[#rates] == 2, table.concat(rates, " "))

-- What is private stays with its client, from round to round.
local heads, hlog = train.federated(net, { few, many }, with(base, { start = start, seed = 2, rounds = 2, epochs = 1,
  private = "fc3" }))
assert(heads["fc3.weight"]:equal(start["fc3.weight"]) and not heads["fc1.weight"]:equal(start["fc1.weight"]))
do
  local a = train.fit(net, few, with(base, { start = start, epochs = 1, seed = 2 }))
  local b = train.fit(net, many, with(base, { start = start, epochs = 1, seed = 3 }))
  local body = merge.linear({ a, b, weight = { 0.25, 0.75 } }):load()
  local function next_of(m, d, seed)
    local parts = {}
    for _, name in ipairs(m:names()) do parts[#parts + 1] = { name, (name:find "^fc3" and m or body):tensor(name) } end
    return train.fit(net, d, with(base, { start = model.new(parts), epochs = 1, seed = seed }))
  end
  same(hlog.clients[1], next_of(a, few, 4), "second round of the first client")
  same(hlog.clients[2], next_of(b, many, 5), "second round of the second client")
end

-- ColD fusion: equal weights, the last layer at home, clients of other classes.
local clouds = data.gaussians { n = 90, classes = 3, seed = 1 }
local cold, clog = train.cold_fusion(net, { moons, { data = clouds, net = nn.mlp { 2, 12, 6, 3 } } },
  { rounds = 1, epochs = 2, batch = 30, lr = 0.05, start = start, seed = 1 })
check.equal(clog.clients[2]["fc3.weight"].shape[1], 3)
assert(cold["fc3.weight"]:equal(start["fc3.weight"]))
for _, name in ipairs { "fc1.weight", "fc2.bias" } do
  assert(cold[name]:equal(0.5 * clog.clients[1][name] + 0.5 * clog.clients[2][name]), name)
end

-- SWAP and lo-fi.
local phase = { epochs = 3, batch = 120, lr = 0.1, seed = 1 }
local swapped, workers = train.swap(bn, moons, { workers = 3, first = phase, epochs = 2, batch = 30, lr = 0.02, seed = 5 })
local before_it = train.fit(bn, moons, phase)
for k = 1, 3 do
  same(workers[k], train.fit(bn, moons, { start = before_it, epochs = 2, batch = 30, lr = 0.02, seed = 4 + k }), "worker " .. k)
end
same(swapped, eval.bn_reset(bn, merge.linear(workers):load(), moons), "their mean with new statistics")
same(train.swap(bn, moons, { workers = 3, start = before_it, bn = false, epochs = 2, batch = 30, lr = 0.02, seed = 5 }),
  merge.linear(workers):load(), "lo-fi")

-- ---- what is refused ----

check.raises("alpha must be a number from 0 to 1", train.papa, { alpha = 2 })
check.raises("p must be a number from 0 to 1", train.wash, { p = -1 })
check.raises("share is train.papa", train.population, net, moons, { share = "papa" })
check.raises("checkpoint is not for a population", train.population, net, moons, { checkpoint = { path = "x" } })
check.raises("2 data sets for 3 members", train.population, net, { moons, moons }, { members = 3 })
check.raises("different numbers of steps", train.population, net, { few, many }, { members = 2, batch = 30 })
check.raises("unknown option 'epoch'", train.population, net, moons, { epoch = 3 })
check.raises("replace: the network has no fc9.weight", train.fit, net, moons, { steps = 1, callbacks = { step = function(i)
  i.replace { ["fc9.weight"] = tensor { 1 } }
end } })
check.raises("expected a list of clients", train.federated, net, moons, {})
check.raises("client 2 has no data", train.federated, net, { moons, {} }, {})
check.raises("unknown option 'round'", train.federated, net, { moons }, { round = 3 })
check.raises("resume is not for rounds", train.federated, net, { moons }, { resume = true })
check.raises("give first, the options of the run before, or start", train.swap, net, moons, {})
