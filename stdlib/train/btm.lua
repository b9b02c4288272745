-- SPDX-License-Identifier: Apache-2.0
-- Branch-train-merge: experts for domains, each trained by itself from a weighted mean of those before, as a value, a
-- forest. It is used as an ensemble, whose weights are the posterior over domains or the distance to clusters, or
-- merged into one model. Its clustered form finds the domains by itself.
return function(define, check, core)
  local nn_net = require "nn.net"
  local nn_loss = require "nn.loss"
  local ensemble = require "nn.ensemble"

  local Forest, methods = { __name = "forest", __metatable = false }, {}
  Forest.__index = methods

  local given = require "train.given"(core)
  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end

  local function set_of(what, d)
    if core.kind(d) == "dataset" then return d end
    if type(d) == "table" and core.kind(d.x) == "tensor" then return data.tensors { x = d.x, y = d.y } end
    fail(what, "expected a data set or { x =, y = }, got %s", core.kind(d))
  end

  local function without(o, own)
    local fit = {}
    for name, v in pairs(o or {}) do fit[name] = not own[name] and v or nil end
    return fit
  end

  -- ---- how likely data are under each expert ----

  -- log p of each example of a batch: of its label, or of all tokens that are predicted.
  local function evidence_of(net)
    return compile(function(theta, batch)
      local z, labels = nn_loss.scored(net, (net(theta, batch)), batch)
      local l = -z:cross_entropy(labels, { reduction = "none" }):to "f64"
      return l.rank > 1 and l:reshape { l.shape[1], l:numel() // l.shape[1] }:sum(2) or l
    end)
  end

  -- Log likelihoods [experts, n].
  local function evidence(self, d)
    self.run = self.run or evidence_of(self.net)
    local rows, all = {}, {}
    local count, chunk = nn_loss.chunks_of(d, 1000)
    for j, theta in ipairs(self.experts) do
      for k = 1, count do rows[k] = self.run(theta, chunk(k)) end
      all[j] = tensor.cat(rows, 1)
    end
    return tensor.stack(all, 1)
  end

  function methods.posterior(self, d, o)
    local what = "forest:posterior"
    check(what, o, { "prior" })
    local prior = nn_net.guarded(ensemble.shares, what, o and o.prior, #self.experts)
    local start = tensor(prior, { dtype = "f64" }):log():unsqueeze(2)
    return (evidence(self, set_of(what, d)) + start):softmax(1):t()
  end

  function methods.prior(self, d, o)
    local what = "forest:prior"
    check(what, o, { "decay" })
    local decay = o and o.decay or 0.3
    if type(decay) ~= "number" or not (decay > 0 and decay <= 1) then
      fail(what, "decay is a number above 0, at most 1, got %s", given.shown(decay))
    end
    local p = methods.posterior(self, d):totable()
    local sum, weight = {}, 0
    for j = 1, #self.experts do sum[j] = 0 end
    for _, row in ipairs(p) do
      for j, v in ipairs(row) do sum[j] = decay * sum[j] + v end
      weight = decay * weight + 1
    end
    for j, v in ipairs(sum) do sum[j] = v / weight end
    return sum
  end

  -- Numbers of a list, or the prior that data speak for; nil: all the same.
  local function weights_of(self, what, w, decay)
    if core.kind(w) == "dataset" or core.kind(w) == "table" and w.x ~= nil then
      return methods.prior(self, w, { decay = decay })
    end
    return nn_net.guarded(ensemble.shares, what, w, #self.experts)
  end

  -- ---- branch, train ----

  local function grown(self, what, domains, fit, start)
    if core.kind(domains) ~= "table" or #domains == 0 then
      fail(what, "expected a list of data sets, one for each domain, got %s", core.kind(domains))
    end
    local added, logs = {}, {}
    for i, d in ipairs(domains) do
      local o = without(fit, {})
      d = set_of(what, d)
      o.start = start(d)
      added[i], logs[i] = train.fit(self.net, d, o)
    end
    for i, m in ipairs(added) do -- all of a call branch from the same set
      self.experts[#self.experts + 1], self.logs[#self.logs + 1] = m, logs[i]
    end
    return self
  end

  local function new(net, what)
    if not nn_net.is(net) then fail(what, "expected a network, got %s", core.kind(net)) end
    return setmetatable({ net = net, experts = {}, logs = {} }, Forest)
  end

  local branching = { weights = true, decay = true }

  function methods.grow(self, domains, o)
    local what = "forest:grow"
    o = given.options(what, o)
    if o.start then fail(what, "what experts start from is the mean of those before; weights say which") end
    if self.route then fail(what, "its experts belong to clusters; a new one would have none") end
    return grown(self, what, domains, without(o, branching), function(d)
      return methods.merge(self, o.weights or d, { decay = o.decay })
    end)
  end

  local function btm(net, domains, o)
    local what = "train.btm"
    local self = new(net, what)
    o = given.options(what, o)
    local start = o.start or net:init { seed = math.type(o.seed) == "integer" and o.seed or 0 }
    return grown(self, what, domains, o, function() return start end)
  end

  -- ---- merge ----

  function methods.merge(self, w, o)
    local what = "forest:merge"
    check(what, o, { "decay" })
    local list = { table.unpack(self.experts) }
    list.weight = weights_of(self, what, w, o and o.decay)
    return merge.linear(list):load()
  end

  function methods.ensemble(self, o)
    local what = "forest:ensemble"
    check(what, o, { "prior", "top", "temperature", "decay" })
    o = o or {}
    if self.route then
      if o.prior then fail(what, "experts of clusters are weighted by distance; there is no prior") end
      return nn_net.guarded(ensemble.new, self.net, { weights = nn.router { centres = self.clusters.centres,
        features = self.route, temperature = o.temperature or self.temperature }, top = o.top })
    end
    if o.temperature then fail(what, "temperature is for experts of clusters (train.cluster_btm)") end
    local prior = weights_of(self, what, o.prior, o.decay)
    if self.net.predicts == "next" then
      return nn_net.guarded(ensemble.new, self.net, { weights = nn.posterior { prior = prior }, top = o.top })
    end
    if o.top and (math.type(o.top) ~= "integer" or o.top < 1) then
      fail(what, "top is a whole number from 1, got %s", given.shown(o.top))
    end
    if o.top then -- the largest weights, once for all
      local order = {}
      for j in ipairs(prior) do order[j] = j end
      table.sort(order, function(i, j) return prior[i] > prior[j] or prior[i] == prior[j] and i < j end)
      for rank, j in ipairs(order) do prior[j] = rank <= o.top and prior[j] or 0 end
    end
    return nn_net.guarded(ensemble.new, self.net, { weights = prior })
  end

  -- ---- clusters ----

  local clustering = { k = true, features = true, size = true, temperature = true, rounds = true }

  local function features_of(net, d, size)
    if d.tokens then
      local h = data.tfidf(d, { vocabulary = d.vocabulary or net.tokens, size = size })
      return h, function(x) return h:prefixes(x) end
    end
    local function flat(x) return x:reshape { x.shape[1], x:numel() // x.shape[1] } end
    return flat, flat
  end

  local function cluster_btm(net, d, o)
    local what = "train.cluster_btm"
    local self = new(net, what)
    d, o = set_of(what, d), given.options(what, o)
    given.field(what, o, "features", "a function of x", "function", "tfidf", "net")
    local fit = without(o, clustering)
    local h, route = o.features, o.features
    if not h then h, route = features_of(net, d, o.size) end
    local rows, count, chunk = {}, nn_loss.chunks_of(d, 1000)
    for i = 1, count do rows[i] = h(chunk(i).x) end
    local seed = type(o.seed) == "number" and o.seed or 0
    self.clusters = data.clusters(tensor.cat(rows, 1), { k = o.k, rounds = o.rounds, seed = seed })
    self.features, self.route, self.temperature = h, route, o.temperature or 0.1
    local members, parts = {}, {}
    for j = 1, o.k do members[j] = {} end
    for p, j in ipairs(self.clusters.cluster:totable()) do table.insert(members[j], p) end
    for j, list in ipairs(members) do parts[j] = d:subset(list) end
    local start = o.start or net:init { seed = seed }
    return grown(self, what, parts, fit, function() return start end)
  end

  Forest.__tostring = function(self)
    return ("forest of %d experts%s"):format(#self.experts, self.route and ", by cluster" or "")
  end

  for name, f in pairs(methods) do methods[name] = given.of("forest", "forest:" .. name, f) end

  -- ---- what scripts see ----

  local made = "local net, domains = nn.mlp { 2, 8, 2 }, {}\n"
    .. "for s = 1, 3 do domains[s] = data.two_moons { n = 60, noise = 0.1 * s, seed = s } end\n"
    .. "local forest = train.btm(net, { domains[1], domains[2] }, { epochs = 20, batch = 30, lr = 0.05 })\n"

  define("train.btm", "train.btm(net, {domain1, domain2, …}, {start =, …}) -> forest",
    "Branch-train-merge (Li et al. 2022, arXiv:2208.03306): one expert for each domain, a data set, trained by itself "
    .. "from the seed model `start` (default: net:init). The forest has forest.experts, the models, forest.net and "
    .. "forest.logs. forest:grow adds experts that branch from a mean of these, forest:ensemble predicts with them "
    .. "all, forest:merge makes one model. All other options are those of train.fit.",
    made .. "print(forest, #forest.experts, forest.logs[2][20].loss < forest.logs[2][1].loss)\n"
    .. "-- > forest of 2 experts\t2\ttrue", btm)

  define("forest:grow", "forest:grow({domain, …}, {weights =, decay = 0.3, …}) -> forest",
    "Adds an expert for each domain. It branches from the weighted mean of the experts that were there before the "
    .. "call: by default with the weights of forest:prior on the domain's data; or weights, a list of numbers or other "
    .. "data. All other options are those of train.fit.",
    made .. "forest:grow({ domains[3] }, { epochs = 20, batch = 30, lr = 0.05 })\nprint(forest)\n"
    .. "-- > forest of 3 experts", methods.grow)

  define("forest:posterior", "forest:posterior(data, {prior =}) -> tensor [n, experts]",
    "How probable it is that each example came from each expert's domain: in proportion to prior_j p_j(example), the "
    .. "probability of its label, or of all tokens of a sequence. prior: default the same for all.",
    made .. "local p = forest:posterior(domains[1])\nprint(p.shape, math.abs(p:sum() - 60) < 1e-9)\n-- > [60, 2]\ttrue",
    methods.posterior)

  define("forest:prior", "forest:prior(data, {decay = 0.3}) -> {p1, p2, …}",
    "Weights of the experts for a domain, estimated on held-out data of it: the exponential moving average of the "
    .. "posteriors of its examples in their order, sum_i decay^(n - i) p(j | x_i) divided by its sum. decay = 1 is the "
    .. "mean. The official code (hadasah/btm) counts what is new 0.3 times and what was before 0.7 times: decay = 0.7, "
    .. "but for the weight of the first example.",
    made .. "local w = forest:prior(domains[2], { decay = 1 })\nprint(math.abs(w[1] + w[2] - 1) < 1e-9)\n-- > true",
    methods.prior)

  define("forest:merge", "forest:merge(weights or data, {decay = 0.3}) -> model",
    "One model: the mean of the experts with the weights of a list, or of forest:prior on data; all the same by "
    .. "default.",
    made .. "print((forest:merge { 1, 0 } - forest.experts[1]):norm(), forest:merge(domains[1]):numel())\n-- > 0.0\t42",
    methods.merge)

  define("forest:ensemble", "forest:ensemble {prior =, decay = 0.3, top =, temperature =} -> net",
    "The forest as a predictor: a network that is called with forest.experts (nn.ensemble). Networks that predict the "
    .. "next token weigh experts by the posterior at each place (nn.posterior), others by the prior. prior: a list of "
    .. "numbers, or data (forest:prior). Experts of clusters are weighed by distance (nn.router) with temperature. "
    .. "top: only so many experts count, those with the largest weights.",
    made .. "local ens = forest:ensemble { prior = domains[1] }\n"
    .. "print(eval.accuracy(ens, domains[1])(forest.experts) > 0.8)\n-- > true", methods.ensemble)

  define("train.cluster_btm",
    "train.cluster_btm(net, data, {k =, features =, size = 100, temperature = 0.1, rounds = 20, start =, …}) -> forest",
    "Branch-train-merge without domains (Gururangan et al. 2023, arXiv:2303.14177): the data fall into k clusters of "
    .. "equal size (data.clusters), an expert is trained on each from the seed model `start`, and forest:ensemble "
    .. "weighs experts by exp(-|h(x) - c_j|^2 / temperature). h is data.tfidf of tokens (at each place of what came "
    .. "before it, with it), the inputs themselves where they are no tokens, or features, a function of x that gives "
    .. "[n, d]. forest.clusters is what data.clusters gave. All other options are those of train.fit; the order of a "
    .. "run and the clusters follow from seed.",
    "local net, d = nn.mlp { 2, 8, 3 }, data.spirals { n = 90, classes = 3, seed = 1 }\n"
    .. "local forest = train.cluster_btm(net, d, { k = 3, epochs = 100, batch = 30, lr = 0.05 })\n"
    .. "print(forest, forest.clusters.sizes[1], eval.accuracy(forest:ensemble { top = 1 }, d)(forest.experts) > 0.7)\n"
    .. "-- > forest of 3 experts, by cluster\t30\ttrue", cluster_btm)
end
