-- SPDX-License-Identifier: Apache-2.0
-- Branch-train-merge: clusters of equal size against all assignments there are, tf-idf by hand, posteriors and priors
-- by hand, where experts start, mixtures of classifiers and of byte-level language models, hard routing.
local check = dofile "tests/stdlib/bind/check.lua"

local function near(a, b, tolerance, what)
  check.near((a - b):abs():max(), 0, tolerance, what)
end

-- ---- clusters ----

local function spread(sizes)
  local low, high = math.huge, 0
  for _, v in ipairs(sizes) do low, high = math.min(low, v), math.max(high, v) end
  return high - low
end

local function distances(x, centres)
  local d = {}
  for j = 1, centres.shape[1] do d[j] = ((x:to "f64" - centres[j]) ^ 2):sum(-1):totable() end
  return d
end

-- The least cost of all assignments whose sizes differ by one at most.
local function least_of_all(d, n, k)
  local best, load = math.huge, {}
  for j = 1, k do load[j] = 0 end
  local function go(p, cost)
    if cost >= best then return end
    if p > n then
      if spread(load) <= 1 then best = cost end
      return
    end
    for j = 1, k do
      if load[j] < (n + k - 1) // k then
        load[j] = load[j] + 1
        go(p + 1, cost + d[j][p])
        load[j] = load[j] - 1
      end
    end
  end
  go(1, 0)
  return best
end

for _, case in ipairs { { 9, 2 }, { 9, 3 }, { 8, 3 }, { 10, 4 }, { 7, 5 }, { 3, 3 }, { 5, 1 } } do
  local n, k = table.unpack(case)
  for seed = 1, 5 do
    local x = tensor.randn({ n, 2 }, seed) * tensor { 1, 3 }
    local c = data.clusters(x, { k = k, seed = seed, rounds = 100 })
    assert(spread(c.sizes) <= 1)
    assert(c.rounds < 100)
    local d, sum, counts = distances(x, c.centres), 0, {}
    for p, j in ipairs(c.cluster:totable()) do sum, counts[j] = sum + d[j][p], (counts[j] or 0) + 1 end
    for j = 1, k do check.equal(counts[j], c.sizes[j]) end
    check.near(sum, least_of_all(d, n, k), 1e-9, "the best assignment")
    check.near(c.cost, sum / n, 1e-12)
    for j = 1, k do -- centres are means
      local inside = c.cluster:eq(j):to "f64"
      near((x * inside:unsqueeze(2)):sum(1) / inside:sum(), c.centres[j], 1e-12)
    end
  end
end

-- Centres that lie anywhere, where points have to make room for one another.
for seed = 1, 40 do
  local n, k = 4 + seed % 4, 3 + seed % 2
  local x, start = tensor.randn({ n, 4 }, seed), tensor.randn({ k, 4 }, 100 + seed, { dtype = "f64" })
  local d, sum = distances(x, start), 0
  local c = data.clusters(x, { k = k, start = start, rounds = 1 })
  for p, j in ipairs(c.cluster:totable()) do sum = sum + d[j][p] end
  check.near(sum, least_of_all(d, n, k), 1e-9, "the best assignment")
end

-- Many points: no cycle of moves makes it cheaper; the cost falls with rounds; the seed decides all.
do
  local n, k = 1003, 6
  local x = tensor.cat({ tensor.randn({ 603, 3 }, 1), 0.3 * tensor.randn({ 400, 3 }, 2) + 2 }, 1)
  local c = data.clusters(x, { k = k, seed = 1, rounds = 5 })
  check.equal(spread(c.sizes), 1)
  local one, two = data.clusters(x, { k = k, seed = 1, rounds = 1 }), data.clusters(x, { k = k, seed = 1, rounds = 2 })
  assert(one.cost > two.cost and two.cost > c.cost)
  check.equal(c.cluster:equal(data.clusters(x, { k = k, seed = 1, rounds = 5 }).cluster), true)
  local settled = data.clusters(x, { k = k, seed = 1, rounds = 200 })
  assert(settled.rounds < 200)
  local d, move, owner = distances(x, settled.centres), {}, settled.cluster:totable()
  for a = 1, k do
    move[a] = {}
    for b = 1, k do move[a][b] = math.huge end
  end
  for p = 1, n do
    for b = 1, k do
      local a = owner[p]
      if a ~= b then move[a][b] = math.min(move[a][b], d[b][p] - d[a][p]) end
    end
  end
  for a = 1, k do
    for b = 1, k do
      assert(move[a][b] + move[b][a] > -1e-9, "no exchange of two pays")
      for e = 1, k do assert(move[a][b] + move[b][e] + move[e][a] > -1e-9, "nor of three") end
    end
  end
end
check.raises("k is a whole number from 1 to 3", data.clusters, tensor.zeros { 3, 2 }, { k = 4 })
check.raises("expected [1, 2]", data.clusters, tensor.zeros { 3, 2 }, { k = 1, start = tensor.zeros { 2, 2 } })
check.raises("not finite", data.clusters, tensor { { 0 / 0 }, { 1 } }, { k = 1 })
check.raises("expected a tensor [n, d]", data.clusters, tensor { 1, 2 }, { k = 1 })

-- ---- tf-idf ----

do
  local x = tensor({ { 0, 0, 1 }, { 0, 1, 1 }, { 2, 2, 2 }, { 0, 2, 1 } }, { dtype = "u8" })
  local h = data.tfidf(x, { vocabulary = 5 })
  check.equal(h.basis.shape[2], 4)
  for v, count in ipairs { 3, 3, 2, 0, 0 } do check.near(h.idf[v], math.log(5 / (1 + count)) + 1, 1e-6) end
  local rows = {}
  for i, counts in ipairs { { 2, 1, 0, 0, 0 }, { 1, 2, 0, 0, 0 }, { 0, 0, 3, 0, 0 }, { 1, 1, 1, 0, 0 } } do
    local length = 0
    for v = 1, 5 do counts[v] = counts[v] * h.idf[v] end
    for v = 1, 5 do length = length + counts[v] ^ 2 end
    for v = 1, 5 do counts[v] = counts[v] / length ^ 0.5 end
    rows[i] = counts
  end
  local full = tensor(rows)
  near(h(x):matmul(h(x):t()), full:matmul(full:t()), 1e-5, "angles stay, as no direction is left out")
  local few = data.tfidf(x, { vocabulary = 5, size = 2 })
  local U, S = full:svd()
  near((few(x):matmul(few.basis:t()) - full):norm(), (S[3] ^ 2 + S[4] ^ 2) ^ 0.5, 1e-5, "the best two directions")
  check.equal(U.shape[1], 4)
  for t = 1, 3 do near(h:prefixes(x)[{ {}, t }], h(x[{ {}, { 1, t } }]), 1e-6, "a beginning") end
  check.raises("tokens go from 0 to 2", data.tfidf, x, { vocabulary = 2 })
  check.raises("expected tokens", data.tfidf, tensor.zeros { 2, 2 })
end

-- ---- a forest of classifiers ----

local net, domains = nn.mlp { 2, 12, 3 }, {}
for s = 1, 3 do domains[s] = data.spirals { n = 60, classes = 3, noise = 0.05 * s, seed = s } end
local how = { epochs = 20, batch = 30, lr = 0.02, seed = 1 }
local seed = net:init { seed = 7 }
local forest = train.btm(net, { domains[1], domains[2] },
  { epochs = 20, batch = 30, lr = 0.02, seed = 1, start = seed })
check.equal(#forest.experts, 2)
for j = 1, 2 do -- each is what train.fit gives
  local alone = train.fit(net, domains[j], { epochs = 20, batch = 30, lr = 0.02, seed = 1, start = seed })
  check.near((forest.experts[j] - alone):norm(), 0, 0)
end

local d = domains[3]
local ys, like = d.y:totable(), {}
for j = 1, 2 do
  local p = net(forest.experts[j], d.x):to("f64"):softmax():totable()
  like[j] = {}
  for i, class in ipairs(ys) do like[j][i] = p[i][class + 1] end
end
local posterior, even = forest:posterior(d, { prior = { 1, 3 } }):totable(), forest:posterior(d):totable()
local ema, weight = { 0, 0 }, 0
for i = 1, d.n do
  check.near(posterior[i][2], 3 * like[2][i] / (like[1][i] + 3 * like[2][i]), 1e-5, "Bayes")
  check.near(posterior[i][1] + posterior[i][2], 1, 1e-12)
  for j = 1, 2 do ema[j] = ema[j] + 0.8 ^ (d.n - i) * even[i][j] end
  weight = weight + 0.8 ^ (d.n - i)
end
local prior = forest:prior(d, { decay = 0.8 })
for j = 1, 2 do check.near(prior[j], ema[j] / weight, 1e-12, "the moving average") end
check.near(forest:prior(d, { decay = 1 })[1], forest:posterior(d)[{ {}, 1 }]:mean(), 1e-12)

-- Merging; and a new expert starts at the mean that its data speak for.
check.near((forest:merge { 1, 0 } - forest.experts[1]):norm(), 0, 0)
local a, b = table.unpack(forest.experts)
check.near((forest:merge(d, { decay = 0.8 }) - (prior[1] * a + prior[2] * b)):norm(), 0, 1e-5)
check.near((forest:merge() - 0.5 * (a + b)):norm(), 0, 1e-5)
forest:grow({ d, domains[1] }, { epochs = 0, decay = 0.8 })
check.equal(#forest.experts, 4)
check.near((forest.experts[3] - (prior[1] * a + prior[2] * b)):norm(), 0, 1e-5, "branched")
local of_first = forest:merge { table.unpack(forest:prior(domains[1])) }
assert(of_first:numel() == seed:numel())
forest:grow({ d }, { epochs = 1, batch = 30, weights = { 0, 1, 0, 0 }, lr = 0.01 })
local by_hand = train.fit(net, d, { epochs = 1, batch = 30, lr = 0.01, start = b })
check.near((forest.experts[5] - by_hand):norm(), 0, 1e-6)

-- As an ensemble with the weights of a prior.
local w = forest:prior(d)
local mixed, sum = forest:ensemble { prior = d }(forest.experts, d.x):exp(), 0
for j = 1, 5 do sum = sum + w[j] * net(forest.experts[j], d.x):softmax() end
near(mixed, sum, 1e-5)
near(mixed:sum(-1), 1, 1e-5, "mixture probabilities")
local first = 1
for j = 2, 5 do first = w[j] > w[first] and j or first end
near(forest:ensemble { prior = d, top = 1 }(forest.experts, d.x):exp(), net(forest.experts[first], d.x):softmax(), 1e-6)

-- ---- a forest of byte-level language models ----

local lm = nn.gpt { vocab = 256, width = 16, layers = 1, heads = 2, context = 16 }
local texts = {}
for i, name in ipairs { "prose", "code", "numbers" } do
  local all = data.bytes { path = "examples/data/text/" .. name .. ".bin", length = 16 }
  local training, test = all:split { 0.8, 0.2, seed = 1 }
  texts[i] = { training = training, test = test:take(60) }
end
local seed_lm = train.fit(lm, texts[1].training:take(64), { steps = 5, batch = 16, lr = 0.01 })
local lms = train.btm(lm, { texts[1].training, texts[2].training, texts[3].training },
  { steps = 60, batch = 32, lr = 0.02, start = seed_lm, seed = 1 })
local ens, uniform = lms:ensemble(), nn.ensemble(lm)
for i = 1, 3 do
  local test = texts[i].test
  local whose = lms:posterior(test):argmax(-1):eq(i):to("f32"):mean()
  assert(whose > 0.6, "the posterior knows the domain: " .. whose)
  local prior_i = lms:prior(test)
  assert(prior_i[i] > 0.5)
  local own = eval.nll(lm, test)(lms.experts[i])
  local by_posterior, by_mean = eval.nll(ens, test)(lms.experts), eval.nll(uniform, test)(lms.experts)
  assert(by_posterior < by_mean, "what was seen says who is to speak")
  assert(by_posterior < own + 0.5)
  local known = lms:ensemble { prior = prior_i }
  assert(eval.nll(known, test)(lms.experts) < by_posterior, "and held-out data still better")
  near(known(lms.experts, test:batch(1, 20)):exp():sum(-1), 1, 1e-4, "mixture probabilities")
end

-- Top-1 at each place is the expert of the largest posterior there.
local function routed_by(logw, experts, network, batch, top)
  local at, z, who = top:totable(), {}, logw:argmax(1):totable()
  for j, m in ipairs(experts) do z[j] = network(m, batch):log_softmax():totable() end
  for i, row in ipairs(who) do
    for t, j in ipairs(type(row) == "table" and row or { row }) do
      local got, want = at[i], z[j][i]
      if type(row) == "table" then got, want = got[t], want[t] end
      for v = 1, #want, 17 do check.near(got[v], want[v], 1e-5, "hard routing") end
    end
  end
end
do
  local batch = texts[2].test:batch(1, 10)
  local z = {}
  for j, m in ipairs(lms.experts) do z[j] = lm(m, batch):log_softmax() end
  local logw = nn.posterior {}(batch.x, tensor.stack(z, 1))
  routed_by(logw, lms.experts, lm, batch, lms:ensemble { top = 1 }(lms.experts, batch))
end

-- ---- clusters of texts: experts without names ----

local parts = {}
for i = 1, 3 do parts[i] = texts[i].training:take(100) end
local corpus = data.tensors { x = tensor.cat({ parts[1].x, parts[2].x, parts[3].x }, 1),
  y = tensor.cat({ parts[1].y, parts[2].y, parts[3].y }, 1):to "i64", vocabulary = 256 }
local clustered = train.cluster_btm(lm, corpus, { k = 4, size = 20, steps = 10, batch = 32, lr = 0.02, seed = 1,
  start = seed_lm })
check.equal(clustered.clusters.sizes, { 75, 75, 75, 75 })
local batch = corpus:batch(95, 105)
local h = clustered.features
local far = {}
for j = 1, 4 do far[j] = -((h:prefixes(batch.x) - clustered.clusters.centres[j]) ^ 2):sum(-1) end
routed_by(tensor.stack(far, 1), clustered.experts, lm, batch, clustered:ensemble { top = 1 }(clustered.experts, batch))
local soft = clustered:ensemble { temperature = 0.1 }(clustered.experts, batch):exp()
near(soft:sum(-1), 1, 1e-4, "mixture probabilities")
local expected, shares = 0, (tensor.stack(far, 1) / 0.1):softmax(1)
for j = 1, 4 do expected = expected + shares[j]:unsqueeze(3) * lm(clustered.experts[j], batch):softmax() end
near(soft, expected, 1e-5)

-- ---- and of points; features of one's own ----

local points = data.spirals { n = 100, classes = 3, seed = 1 }
local small = nn.mlp { 2, 8, 3 }
local by_place = train.cluster_btm(small, points, { k = 3, epochs = 60, batch = 20, lr = 0.05, seed = 1 })
check.equal(spread(by_place.clusters.sizes), 1)
far = {}
for j = 1, 3 do far[j] = -((points.x - by_place.clusters.centres[j]) ^ 2):sum(-1) end
routed_by(tensor.stack(far, 1), by_place.experts, small, points:batch(),
  by_place:ensemble { top = 1 }(by_place.experts, points.x))
local one = train.fit(small, points, { epochs = 60, batch = 20, lr = 0.05, seed = 1 })
assert(eval.accuracy(by_place:ensemble { top = 1 }, points)(by_place.experts) > eval.accuracy(small, points)(one))
local function radius(x) return (x * x):sum(-1, { keepdim = true }) end
local by_radius = train.cluster_btm(small, points, { k = 2, features = radius, epochs = 1, seed = 1 })
local inner = by_radius.clusters.centres:totable()
assert(math.abs(inner[1][1] - inner[2][1]) > 0.1)
check.equal(by_radius.clusters.centres.shape[2], 1)

check.raises("expected a list of data sets", train.btm, net, {}, how)
check.raises("the mean of those before", forest.grow, forest, { d }, { start = seed })
check.raises("would have none", by_place.grow, by_place, { d }, {})
check.raises("2 weights for 5 members", forest.merge, forest, { 1, 2 })
check.raises("decay is a number above 0", forest.prior, forest, d, { decay = 0 })
check.raises("did you mean 'decay'", forest.prior, forest, d, { decoy = 0.5 })
check.raises("temperature is for experts of clusters", forest.ensemble, forest, { temperature = 1 })
check.raises("there is no prior", by_place.ensemble, by_place, { prior = { 1, 1, 1 } })
check.raises("train.btm: expected a network", train.btm, 7, { d })
