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

-- ---- checkpoints, logs, early stop ----

local folder <close> = dofile "tests/stdlib/bind/folder.lua"()
local function lines(path)
  local out = {}
  for line in io.lines(path) do out[#out + 1] = line end
  return out
end

-- Stopped anywhere, a population goes on to the same bytes: weights, optimisers, statistics, the highest rate.
do
  local path = folder "members.safetensors"
  for _, share in ipairs { train.papa { alpha = 0.7, every = 3 }, train.wash { p = 0.2 } } do
    local o = { steps = 14, batch = 60, optimiser = "adam", lr = 0.02, schedule = "cosine", members = 3, seed = 5,
      share = share, val = moons }
    local whole, whole_logs = train.population(bn, moons, o)
    -- the rule raises at step 8; what stands is step 6
    local step = 0
    local breaking = setmetatable({ apply = function(...)
      step = step + share.every
      if step >= 8 then error "enough" end
      return share.apply(...)
    end, every = share.every }, { __tostring = function() return tostring(share) end })
    local ok, err = pcall(train.population, bn, moons, with(o, { share = breaking, checkpoint = { path = path, every = 3 } }))
    assert(not ok and tostring(err):find "enough")
    local resumed, logs = train.population(bn, moons, with(o, { checkpoint = { path = path, every = 3, keep = folder "keep" },
      resume = true, log = folder "run.csv" }))
    for k = 1, 3 do
      same(resumed[k], whole[k], tostring(share) .. ", member " .. k)
      check.equal(logs[k].losses, whole_logs[k].losses)
      check.equal(#lines(folder("run." .. k .. ".csv")), 1 + #logs[k])
      same(model.load(folder("keep/member-" .. k .. "/step-000014.safetensors")), whole[k], "kept")
    end
    check.equal(#logs[1], 4)
    same(train.population(bn, moons, with(o, { resume = path }))[2], whole[2], "a run that has ended")
    check.raises("is of another population: its members is 3, not 2", train.population, bn, moons,
      with(o, { members = 2, resume = path }))
    check.raises("is of another population: its share is", train.population, bn, moons,
      with(o, { share = train.papa { alpha = 0.1 }, resume = path }))
    check.raises("is of another run: its batch", train.population, bn, moons, with(o, { batch = 30, resume = path }))
    check.raises("no checkpoint of train.fit", train.fit, bn, moons, { resume = path })
    check.raises("no checkpoint of it", train.population, bn, moons, with(o, { resume = folder "keep/member-1/step-000014.safetensors" }))
    os.remove(path)
  end
end

-- A member that fails: what stands is told.
do
  local path = folder "nan.safetensors"
  local ok, err = pcall(train.population, net, moons, { steps = 9, batch = 60, optimiser = "sgd", members = 2,
    schedule = function(t) return t < 6 and 0.1 or 1e30 end, checkpoint = { path = path, every = 2 } })
  assert(not ok and tostring(err):find "member 1: train.fit: the loss is" and tostring(err):find("holds step [68]"), tostring(err))
end

-- Early stop sees the mean; all stop at once and have their weights of the best epoch.
do
  local o = { epochs = 60, batch = 60, optimiser = "sgd", members = 3, seed = 2, val = moons, share = function() end,
    schedule = function(t) return t < 40 and 0.4 or 40 end }
  local path = folder "early.safetensors"
  local models, logs = train.population(net, moons, with(o, { early_stop = 3, checkpoint = path }))
  local best, at = math.huge, nil
  for e = 1, #logs[1] do
    local sum = 0
    for k = 1, 3 do sum = sum + logs[k][e].val_loss end
    if sum / 3 < best then best, at = sum / 3, e end
  end
  check.equal({ #logs[1], #logs[2], #logs[3] }, { at + 3, at + 3, at + 3 })
  check.equal(logs[2].stopped, "early")
  for k = 1, 3 do check.near(net:loss(moons)(models[k]), logs[k][at].val_loss, 1e-9, "member " .. k) end
  same(train.population(net, moons, with(o, { early_stop = 3, resume = path }))[3], models[3], "it has stopped")
end

-- A stop from outside: the file is whole and all members are of one step.
do
  local script = folder "run.lua"
  local file = assert(io.open(script, "w"))
  file:write(([[local n = 0
train.population(nn.mlp { 2, 12, 6, 2 }, data.two_moons { n = 240, seed = 1 }, { steps = 1000000, batch = 60, lr = 0.01, members = 3,
  seed = 4, checkpoint = { path = %q, every = 1000000 }, share = function() n = n + 1
  if n == 5 then io.stdout:write "ready\n" io.stdout:flush() end end })]]):format(folder "stop.safetensors"))
  file:close()
  local pipe = io.popen(([[tarn="$(readlink /proc/$PPID/exe)"; "$tarn" --quiet --time 60s %s >%s 2>/dev/null & pid=$!
n=0; until grep -q ready %s || [ $n -gt 400 ]; do sleep 0.05; n=$((n+1)); done
kill -TERM $pid; wait $pid; echo $?]]):format(script, folder "said", folder "said"))
  check.equal(pipe:read "a", "143\n")
  pipe:close()
  local m, steps = model.load(folder "stop.safetensors"), {}
  for i = 1, 3 do steps[i] = m:tensor(i .. ".log.losses"):numel() end
  check.equal(steps, { steps[1], steps[1], steps[1] })
  local o = { steps = steps[1] + 3, batch = 60, lr = 0.01, members = 3, seed = 4, share = function() end }
  same(train.population(net, moons, with(o, { resume = folder "stop.safetensors" }))[2], train.population(net, moons, o)[2])
end

-- Rounds.
do
  local path, n = folder "rounds.safetensors", 0
  local o = with(base, { start = start, seed = 2, rounds = 5, epochs = 1, val = moons, private = "fc3", fraction = 0.7 })
  local clients = { few, many, few }
  local whole, whole_log = train.federated(net, clients, o)
  local function breaking(models, w, shared)
    n = n + 1
    if n == 4 then error "enough" end
    return shared + (merge.linear { models[1], models[2], weight = w } - shared)
  end
  local function mine(models, w, shared) return shared + (merge.linear { models[1], models[2], weight = w } - shared) end
  local own, own_log = train.federated(net, clients, with(o, { merge = mine }))
  assert(not pcall(train.federated, net, clients, with(o, { merge = breaking, checkpoint = path })))
  local resumed, rlog = train.federated(net, clients, with(o, { merge = mine, checkpoint = { path = path, keep = folder "rounds" },
    resume = true, log = folder "rounds.csv" }))
  same(resumed, own, "rounds that were stopped")
  for k = 1, 3 do same(rlog.clients[k], own_log.clients[k], "client " .. k) end
  check.equal(rlog[5].val_loss, own_log[5].val_loss)
  check.equal(rlog[2].clients, own_log[2].clients)
  check.equal(#lines(folder "rounds.csv"), 6)
  check.equal(lines(folder "rounds.csv")[1], "round,clients,loss,val_loss,val_accuracy")
  same(model.load(folder "rounds/round-000005.safetensors"), own, "kept")
  check.raises("is of a run with 3 clients, not 2", train.federated, net, { few, many }, with(o, { resume = path }))
  assert(#whole_log == 5 and whole["fc3.weight"]:equal(start["fc3.weight"]))
  -- Early stop: rates that ruin it; the best round comes back, also after a stop.
  local bad = with(o, { rounds = 30, private = false, fraction = 1, lr = function(r) return r < 4 and 0.2 or 30 end, early_stop = 2 })
  bad.private = nil
  local best, blog = train.federated(net, clients, with(bad, { checkpoint = path }))
  local least, at = math.huge, nil
  for r, row in ipairs(blog) do
    if row.val_loss < least then least, at = row.val_loss, r end
  end
  check.equal({ #blog, blog.stopped }, { at + 2, "early" })
  check.near(net:loss(moons)(best), least, 1e-9)
  same(train.federated(net, clients, with(bad, { resume = path })), best, "it has stopped")
end

-- Workers of SWAP have files of their own.
do
  local o = with(phase, { workers = 2, start = before_it, epochs = 2, checkpoint = folder "swap.safetensors", resume = true,
    log = folder "swap.csv" })
  local one = train.swap(bn, moons, o)
  check.equal(#lines(folder "swap.2.csv"), 3)
  same(train.swap(bn, moons, o), one, "from the workers' checkpoints")
end

-- ---- what is refused ----

check.raises("alpha must be a number from 0 to 1", train.papa, { alpha = 2 })
check.raises("p must be a number from 0 to 1", train.wash, { p = -1 })
check.raises("share is train.papa", train.population, net, moons, { share = "papa" })
check.raises("checkpoint is {path = ", train.population, net, moons, { checkpoint = { path = "x" } })
check.raises("resume = true goes on from checkpoint.path", train.population, net, moons, { resume = true })
check.raises("vary: log is one for all members", train.population, net, moons, { vary = function() return { log = "x.csv" } end })
check.raises("callbacks is not for a population", train.population, net, moons, { callbacks = print })
check.raises("2 data sets for 3 members", train.population, net, { moons, moons }, { members = 3 })
check.raises("different numbers of steps", train.population, net, { few, many }, { members = 2, batch = 30 })
check.raises("unknown option 'epoch'", train.population, net, moons, { epoch = 3 })
check.raises("replace: the network has no fc9.weight", train.fit, net, moons, { steps = 1, callbacks = { step = function(i)
  i.replace { ["fc9.weight"] = tensor { 1 } }
end } })
check.raises("expected a list of clients", train.federated, net, moons, {})
check.raises("client 2 has no data", train.federated, net, { moons, {} }, {})
check.raises("unknown option 'round'", train.federated, net, { moons }, { round = 3 })
check.raises("resume = true goes on from checkpoint.path", train.federated, net, { moons }, { resume = true })
check.raises("log is the path of a .csv or .jsonl file", train.federated, net, { moons }, { log = "x" })
check.raises("give first, the options of the run before, or start", train.swap, net, moons, {})
