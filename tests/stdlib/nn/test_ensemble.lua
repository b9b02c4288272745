-- SPDX-License-Identifier: Apache-2.0
-- Ensembles: each way of joining against the formula written out, the identities that hold whatever the networks
-- are, scores through eval, gradients through loss, and weights that depend on the input.
local check = dofile "tests/stdlib/bind/check.lua"

local function near(a, b, tolerance, what)
  check.near((a - b):abs():max(), 0, tolerance, what)
end

local net = nn.mlp { 2, 16, 3 }
local d = data.spirals { n = 150, classes = 3, seed = 1 }
local models = {}
for seed = 1, 3 do models[seed] = net:init { seed = seed, dtype = "f64" } end
local x, y = d.x:to "f64", d.y
local set = { x = x, y = y }
local a, b, c = table.unpack(models)
local z = {}
for k, m in ipairs(models) do z[k] = net(m, x) end
local ways = { "probabilities", "logits", "vote", "max_confidence" }

-- ---- each way, written out ----

local function ensemble(o) return nn.ensemble(net, o)(models, x) end
near(ensemble():exp(), (z[1]:softmax() + z[2]:softmax() + z[3]:softmax()) / 3, 1e-14)
near(ensemble { weights = { 1, 2, 5 } }:exp(), (z[1]:softmax() + 2 * z[2]:softmax() + 5 * z[3]:softmax()) / 8, 1e-14)
near(ensemble { combine = "logits" }, (z[1] + z[2] + z[3]) / 3, 1e-14)
near(ensemble { combine = "logits", weights = { 3, 0, 1 } }, (3 * z[1] + z[3]) / 4, 1e-14)

local votes, sure = ensemble { combine = "vote" }:exp():totable(), ensemble { combine = "max_confidence" }:totable()
local weighted = ensemble { combine = "vote", weights = { 4, 1, 1 } }:exp():totable()
local p, best = {}, {}
for k = 1, 3 do p[k], best[k] = z[k]:softmax():totable(), z[k]:argmax(-1):totable() end
local differ = 0
for i = 1, d.n do
  local count, most, who = { 0, 0, 0 }, 0, nil
  for k = 1, 3 do
    count[best[k][i]] = count[best[k][i]] + 1 / 3
    local top = math.max(table.unpack(p[k][i]))
    if top > most then most, who = top, k end
  end
  differ = differ + (math.max(table.unpack(count)) < 0.99 and 1 or 0)
  for class = 1, 3 do
    check.near(votes[i][class], count[class], 1e-14, "votes")
    check.near(math.exp(sure[i][class]), p[who][i][class], 1e-14, "the most confident")
  end
  check.near(weighted[i][best[1][i]], math.max(weighted[i][1], weighted[i][2], weighted[i][3]), 0, "weighted vote")
end
assert(differ > 10, "the members differ")
-- One's own way.
near(nn.ensemble(net, { combine = function(all, w) return (all * w:exp()):sum(1) end })(models, x),
  ensemble { combine = "logits" }, 0)

-- ---- identities ----

for _, way in ipairs(ways) do
  local ens = nn.ensemble(net, { combine = way })
  local copies, single = ens({ a, a, a, a }, x), net(a, x)
  check.equal(copies:argmax(-1):equal(single:argmax(-1)), true, way)
  if way ~= "vote" then near(copies:softmax(), single:softmax(), 1e-14, way .. " of copies") end
  near(ens({ a }, x):exp(), ens(a, x):exp(), 0, way .. ": a list of one")
  if way ~= "max_confidence" then
    near(nn.ensemble(net, { combine = way, weights = { 1, 0 } })({ a, b }, x):exp(), ens({ a }, x):exp(), 0,
      way .. ": weights (1, 0)")
    near(nn.ensemble(net, { combine = way, weights = { 2, 2, 4 } })(models, x):exp(),
      nn.ensemble(net, { combine = way, weights = { 1, 1, 2 } })(models, x):exp(), 0, way .. ": weights are shares")
  end
  near(ens({ a, b, c }, x):softmax(), ens({ c, a, b }, x):softmax(), 1e-14, way .. ": any order")
end
check.near((ensemble():logsumexp(-1)):abs():max(), 0, 1e-14, "probabilities sum to one")

-- ---- scores ----

local r = eval.report(nn.ensemble(net, { combine = "logits" }), set)(models)
local mean = (z[1] + z[2] + z[3]) / 3
check.near(r.nll, mean:cross_entropy(y), 1e-14)
check.near(r.accuracy, mean:argmax(-1):eq(y + 1):to("f64"):mean(), 1e-14)
local one, copies = eval.report(net, set)(a), eval.report(nn.ensemble(net), set) { a, a }
for _, score in ipairs { "accuracy", "nll", "brier", "ece" } do
  check.near(copies[score], one[score], 1e-12, score .. " of copies")
end
-- By Jensen's inequality the mixture is no worse than the members on average.
local sum = 0
for _, m in ipairs(models) do sum = sum + eval.nll(net, set)(m) / 3 end
assert(eval.nll(nn.ensemble(net), set)(models) < sum)
check.near(eval.nll(nn.ensemble(net), set, { batch = 7 })(models), eval.nll(nn.ensemble(net), set)(models), 1e-12)

-- Models in files, and tables of tensors.
local digits = data.digits()
local mlp = nn.mlp { 64, 128, 64, 10 }
local files = {}
for i, name in ipairs { "base", "low", "high" } do files[i] = model.open("examples/data/" .. name .. ".safetensors") end
local accuracy = eval.accuracy(nn.ensemble(mlp), digits.test)
local score = accuracy(files)
assert(score > eval.accuracy(mlp, digits.test)(files[2]), "half of the classes are all that it knows")
check.equal(accuracy { files[1]:load(), files[2]:load(), files[3]:load() }, score)
local tables = {}
for i, m in ipairs(models) do
  tables[i] = {}
  for _, name in ipairs(m:names()) do tables[i][name] = m:tensor(name) end
end
near(nn.ensemble(net)(tables, x), ensemble(), 0)

-- ---- gradients, and members of different networks ----

local f = nn.ensemble(net):loss(set)
local g = f:grad { a, b }
local h = 1e-6
local direction = net:init { seed = 9, dtype = "f64" } * 1.0
local slope = (f { a, b + h * direction } - f { a, b - h * direction }) / (2 * h)
check.near(g[2]:dot(direction), slope, 1e-8, "the gradient by the second member")

local wide = nn.mlp { 2, 5, 7, 3 }
local w = wide:init { seed = 4, dtype = "f64" }
local mixed = nn.ensemble({ net, wide }, { combine = "logits" })
near(mixed({ a, w }, x), (z[1] + wide(w, x)) / 2, 1e-14)
local joined = {}
for k, m in ipairs { a, w } do
  for _, name in ipairs(m:names()) do joined[k .. "." .. name] = m:tensor(name) end
end
near(mixed(joined, x), mixed({ a, w }, x), 0, "as one table")
assert(mixed:init({ seed = 1 })["2.fc3.weight"].shape[1] == 3)
-- An ensemble of ensembles.
near(nn.ensemble(nn.ensemble(net))({ { a, b }, { c } }, x):exp(),
  ((z[1]:softmax() + z[2]:softmax()) / 2 + z[3]:softmax()) / 2, 1e-14)

-- Buffers of each member, in training.
local normed = nn.sequential { nn.linear(2, 4), nn.batch_norm(4) }
local m1, m2 = normed:init { seed = 1 }, normed:init { seed = 2 }
local _, state = nn.ensemble(normed)({ m1, m2 }, d.x, { mode = "train" })
for k, m in ipairs { m1, m2 } do
  local _, alone = normed(m, d.x, { mode = "train" })
  check.equal(state[k]["1.running_mean"]:equal(alone["1.running_mean"]), true)
end

local reset = eval.bn_reset(nn.ensemble(normed), { m1, m2 }, d)
check.near((reset[2] - eval.bn_reset(normed, m2, d)):norm(), 0, 0)
assert((reset[2] - m2):norm() > 0.1)

-- ---- members of one run: snapshots, fast geometric ensembles, SWAG ----

do
  local members, swag = train.collect(), train.swag { from = 60, every = 2, rank = 5 }
  local moons = data.two_moons { n = 200, noise = 0.2, seed = 3 }
  local small = nn.mlp { 2, 16, 2 }
  train.fit(small, moons, { steps = 120, batch = 50, lr = 0.5, optimiser = "sgd", seed = 1,
    schedule = train.snapshot { cycles = 4 }, callbacks = { members, swag } })
  local list, drawn, all = members:models(), {}, 0
  check.equal(#list, 4)
  for k = 1, 5 do drawn[k] = swag:sample(k) end
  local nll = eval.nll(nn.ensemble(small), moons)
  for _, one in ipairs { list, drawn } do
    all = 0
    for _, m in ipairs(one) do all = all + eval.nll(small, moons)(m) / #one end
    assert(nll(one) < all)
  end
end

-- ---- weights by the input ----

local centres = tensor({ { 0, 0 }, { 1, 0 }, { 0, 1 } }, { dtype = "f64" })
local function features(t) return t end
local function routed(o)
  o.weights = nn.router { centres = centres, features = features, temperature = o.temperature or 0.1 }
  o.temperature = nil
  return nn.ensemble(net, o)(models, x)
end
local near_to, at = {}, x:totable()
for i = 1, d.n do
  local least
  for k, centre in ipairs(centres:totable()) do
    local far = (at[i][1] - centre[1]) ^ 2 + (at[i][2] - centre[2]) ^ 2
    if not least or far < least then least, near_to[i] = far, k end
  end
end
local hard, all = routed { top = 1 }:totable(), { {}, {}, {} }
for k = 1, 3 do all[k] = z[k]:log_softmax():totable() end
for i = 1, d.n do
  for class = 1, 3 do check.near(hard[i][class], all[near_to[i]][i][class], 1e-14, "hard routing") end
end
near(routed { top = 3 }, routed {}, 0)
check.near(routed { top = 2 }:logsumexp(-1):abs():max(), 0, 1e-14, "mixture probabilities")
check.near(routed {}:logsumexp(-1):abs():max(), 0, 1e-14, "mixture probabilities")
near(routed { temperature = 1e9 }, ensemble(), 1e-8, "without a difference of distances")
local far = {}
for k = 1, 3 do far[k] = (-((x - centres[k]) ^ 2):sum(-1) / 0.1):exp() end
local total = far[1] + far[2] + far[3]
local expected = 0
for k = 1, 3 do expected = expected + (far[k] / total):unsqueeze(2) * z[k]:softmax() end
near(routed {}:exp(), expected, 1e-13)

-- ---- the posterior over experts, token by token ----

local lm = nn.gpt { vocab = 6, width = 8, layers = 1, heads = 2, context = 8 }
local experts = {}
for seed = 1, 3 do experts[seed] = 4 * lm:init { seed = seed, dtype = "f64" } end
local tokens = tensor.randint(0, 6, { 5, 7 }, 1)
local prior = { 0.5, 0.2, 0.3 }
local mix = nn.ensemble(lm, { weights = nn.posterior { prior = prior } })(experts, tokens)
check.near(mix:logsumexp(-1):abs():max(), 0, 1e-13, "mixture probabilities")
local of, ts, got = {}, tokens:totable(), mix:exp():totable()
for k = 1, 3 do of[k] = lm(experts[k], tokens):softmax():totable() end
local moved = 0
for i = 1, 5 do
  local belief = { table.unpack(prior) }
  for t = 1, 7 do
    if t > 1 then -- Bayes, one token more
      local evidence = 0
      for k = 1, 3 do
        belief[k] = belief[k] * of[k][i][t - 1][ts[i][t] + 1]
        evidence = evidence + belief[k]
      end
      for k = 1, 3 do belief[k] = belief[k] / evidence end
    end
    for v = 1, 6 do
      local p_v = 0
      for k = 1, 3 do p_v = p_v + belief[k] * of[k][i][t][v] end
      check.near(got[i][t][v], p_v, 1e-12, "the mixture of experts")
    end
  end
  moved = math.max(moved, math.abs(belief[1] - prior[1]))
end
assert(moved > 0.05, "the posterior is not the prior")
local lone = nn.ensemble(lm, { weights = nn.posterior { prior = { 0, 1, 0 } } })(experts, tokens)
near(lone, lm(experts[2], tokens):log_softmax(), 1e-13, "a prior that knows")
local sequences = { x = tokens }
check.near(eval.nll(nn.ensemble(lm, { weights = nn.posterior {} }), sequences) { experts[1], experts[1] },
  eval.nll(lm, sequences)(experts[1]), 1e-12)

-- ---- what is refused ----

check.raises("3 weights for 2 members", nn.ensemble(net, { weights = { 1, 1, 1 } }), { a, b }, x)
check.raises("all weights are 0", nn.ensemble(net, { weights = { 0, 0 } }), { a, b }, x)
check.raises("weight 2 is -1", nn.ensemble(net, { weights = { 1, -1 } }), { a, b }, x)
check.raises("did you mean \"logits\"", nn.ensemble, net, { combine = "logit" })
check.raises("takes no weights", nn.ensemble, net, { combine = "max_confidence", weights = { 1, 1 } })
check.raises("top is a whole number", nn.ensemble, net, { top = 1 })
check.raises("3 models for 2 networks", nn.ensemble { net, wide }, models, x)
check.raises("nn.ensemble(net) takes such a list", net, models, x)
check.raises("called by itself", nn.ensemble(net), models, x, { capture = { "member.act1" } })
check.raises("networks that predict the next one", nn.ensemble(net, { weights = nn.posterior {} }), models, x)
check.raises("expected log weights", nn.ensemble(net, { weights = function(t) return t end }), models, x)
check.raises("features is a function", nn.router, { centres = centres })
