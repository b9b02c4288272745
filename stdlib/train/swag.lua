-- SPDX-License-Identifier: Apache-2.0
-- A Gaussian around the mean of a run (SWAG), with the same ways in as the other averages, and the members
-- that cyclic rates leave for ensembles (snapshots, FGE). The variance is kept as a sum of products of
-- distances to the mean before and after (Welford), which is m2 - m1^2 without the cancellation.
return function(define, check, core)
  local leaves = require "train.leaves"(core)
  local average = require "train.average"(check, core)

  local copied = average.copied

  -- sum and scatter of n models from those of n - 1, and how far the new one is from the mean.
  local moved = compile(function(sum, scatter, x, before, n)
    local s, q, d = {}, {}, {}
    for _, name in ipairs(leaves.names(x)) do
      local old = x[name] - sum[name] / before
      s[name] = sum[name] + x[name]
      d[name] = x[name] - s[name] / n
      q[name] = scatter[name] + old * d[name]
    end
    return s, q, d
  end, { donate = { 1, 2 } })

  -- mean + spread z + sum_k c_k D_k, one tensor after the other
  local function drawn(mean, spread, z, columns, c)
    return leaves.map(mean, function(m, name)
      local x = m + spread[name] * z[name]
      for k, d in ipairs(columns) do x = x + c[k] * d[name] end
      return x
    end)
  end
  local drawn_compiled = compile(drawn)

  local function mean_of(self)
    return leaves.map(self.kept.sum, function(s) return s / self.n end)
  end

  local function variance_of(self)
    return leaves.map(self.kept.scatter, function(q) return q:maximum(0) / self.n end)
  end

  local swag = {
    add = function(self, x)
      local k = self.kept
      self.n = self.n + 1
      if self.n == 1 then
        k.sum, k.scatter, k.columns = copied(x), leaves.map(x, function(t) return tensor.zeros_like(t) end), {}
        return
      end
      local d
      k.sum, k.scatter, d = moved(k.sum, k.scatter, x, self.n - 1, self.n)
      self.made = nil
      if self.options.rank > 0 then table.insert(k.columns, d) end
      if #k.columns > self.options.rank then table.remove(k.columns, 1) end
    end,
    value = mean_of,
    restore = function(self, kept)
      kept.columns, self.made = average.list(kept.columns), nil
      return kept
    end,
  }

  local methods = {}
  swag.methods = methods

  local function ready(self, what)
    if self.n < 2 then error(("%s: %d model has been counted; a variance needs two"):format(what, self.n), 3) end
  end

  local function as_vector(self, values)
    local list = {}
    for _, name in ipairs(leaves.names(values)) do list[#list + 1] = { name, values[name] } end
    return model.new(list, { mass = 0 })
  end

  function methods.variance(self)
    ready(self, "swag:variance")
    return as_vector(self, variance_of(self))
  end

  function methods.deviations(self)
    local out = {}
    for k, d in ipairs(self.kept.columns or {}) do out[k] = as_vector(self, copied(d)) end
    return out
  end

  -- What draws have in common.
  local function made(self, diagonal)
    if not self.made or self.made.diagonal ~= diagonal then
      local share = diagonal and 1 or 0.5
      self.made = { diagonal = diagonal, mean = mean_of(self),
        spread = leaves.map(variance_of(self), function(v) return (share * v):sqrt() end) }
    end
    return self.made
  end

  function methods.sample(self, seed, o)
    local what = "swag:sample"
    check(what, o, { "scale", "diagonal", "net", "data" })
    if math.type(seed) ~= "integer" then error(what .. ": a seed is given, a whole number", 2) end
    o = o or {}
    average.number(what, o, "scale", 0, math.huge)
    ready(self, what)
    local columns = o.diagonal and {} or self.kept.columns
    if not o.diagonal and #columns < 2 then
      error(("%s: there are %d deviations, and a covariance of them needs two; diagonal = true does without")
        :format(what, #columns), 2)
    end
    local m, g, root = made(self, o.diagonal or false), tensor.generator(seed), (o.scale or 1) ^ 0.5
    local c, z = {}, {}
    for k, v in ipairs(#columns > 0 and tensor.randn({ #columns }, g, { dtype = "f64" }):totable() or {}) do
      c[k] = root * v / (2 * (#columns - 1)) ^ 0.5
    end
    for _, name in ipairs(leaves.names(m.mean)) do
      local t = m.mean[name]
      z[name] = root * tensor.randn(t.shape, g, { dtype = t.dtype })
    end
    local theta = core.with_values(self.last, drawn_compiled(m.mean, m.spread, z, columns, c))
    if o.net == nil then return theta end
    if o.data == nil then error(what .. ": net is there to reset batch norms; give data too", 2) end
    return eval.bn_reset(o.net, theta, o.data)
  end

  define("train.swag", "train.swag {rank = 20, from = 0, every =} -> swag",
    "A Gaussian over weights from the way that training takes (Maddox et al. 2019, SWAG, arXiv:1902.02476): the mean "
    .. "of the models from a step on (that of train.swa, whose options from and every these are), their variance "
    .. "element by element, and the last `rank` distances to the running mean. A draw is swag:sample(seed).\n"
    .. "rank = 0 keeps the variance alone. Memory: rank + 2 models. Half precision is kept as f32.",
    "local d, net = data.two_moons { n = 100, seed = 1 }, nn.mlp { 2, 8, 2 }\n"
    .. "local swag = train.swag { rank = 5, from = 20 }\n"
    .. "train.fit(net, d, { epochs = 15, batch = 25, optimiser = train.sgd { lr = 0.5 }, callbacks = { swag } })\n"
    .. "print(swag, #swag:deviations())\nlocal p = 0\n"
    .. "for seed = 1, 10 do p = p + eval.accuracy(net, d)(swag:sample(seed)) / 10 end\n"
    .. "print(p > 0.75)\n-- > train.swag of 11 models\t5\n-- > true",
    function(o)
      local name = "train.swag"
      o = average.options(name, o, { "rank" })
      average.whole(name, o, "rank", 0)
      o.rank = o.rank or 20
      return average.new(name, o, swag)
    end)

  define("swag:sample", "swag:sample(seed, {scale = 1, diagonal = false, net =, data =}) -> model",
    "A model drawn from the Gaussian of SWAG: mean + sqrt(scale) (sqrt(variance / 2) z1 + D z2 / sqrt(2 (K - 1))), z1 "
    .. "and z2 standard normal, D the K distances that are kept; with diagonal mean + sqrt(scale variance) z1. net and "
    .. "data: batch norms are reset for the draw, which it needs (eval.bn_reset). swag:model() is the mean.",
    "local swag = train.swag()\n"
    .. "for _, v in ipairs { 1, 2, 3, 4 } do swag:add(model.new { { \"w\", tensor { v, 5 } } }) end\n"
    .. "local s = swag:sample(1)\nprint(s.w[2]:item(), s.w[1]:item() ~= 2.5)\n-- > 5.0\ttrue", methods.sample)

  define("swag:variance", "swag:variance() -> model",
    "The variance of each weight over the models that were counted, m2 - m1^2: a model of mass 0.",
    "local swag = train.swag()\nfor _, v in ipairs { 1, 3 } do swag:add(model.new { { \"w\", tensor { v } } }) end\n"
    .. "print(swag:variance().w:item())\n-- > 1.0", methods.variance)

  define("swag:deviations", "swag:deviations() -> {model, …}",
    "The distances to the running mean that are kept, oldest first, each a model of mass 0: the columns of D. They "
    .. "span the subspace of a run.",
    "local swag = train.swag()\nfor _, v in ipairs { 1, 3, 8 } do swag:add(model.new { { \"w\", tensor { v } } }) end\n"
    .. "print(#swag:deviations(), swag:deviations()[2].w:item())  -- 8 - (1 + 3 + 8) / 3\n-- > 2\t4.0",
    methods.deviations)

  -- ---- members ----

  local function path_of(folder, step) return ("%s/step-%06d.safetensors"):format(folder, step) end

  local collect = {
    add = function(self, _, m, step)
      local o, list = self.options, self.kept
      if o.folder then
        local path = path_of(o.folder, step)
        m:save(path, { overwrite = true })
        m = model.open(path)
      end
      local steps = self.plain.steps or {}
      list[#list + 1], steps[#steps + 1] = m, step
      if #list > (o.last or math.huge) then
        table.remove(list, 1)
        table.remove(steps, 1)
      end
      self.n, self.plain.steps = #list, steps
    end,
    value = function(self) return merge.linear(self.kept):load() end,
    state = function(self) return self.options.folder and {} or self.kept end,
    restore = function(self, kept, m)
      local folder = self.options.folder
      if not folder then return average.models(kept, m) end
      local list = {}
      for i, step in ipairs(self.plain.steps or {}) do list[i] = model.open(path_of(folder, step)) end
      return list
    end,
    watch = function(self, lists)
      local o = self.options
      table.insert(o.at == "epoch" and lists.epoch or lists.step, function(info)
        local due = average.due(self, info.step)
        if due and o.at == "low" then
          local before, after = info.log.rates[info.step - 1], info.next_rate()
          due = before and after and before >= info.rate and info.rate < after
        end
        if due then self:add(info.theta(), info.step) end
      end)
    end,
    methods = { models = function(self) return { table.unpack(self.kept) } end },
  }

  define("train.collect",
    "train.collect {at = \"low\" or \"epoch\" or \"step\", from = 0, every =, last =, folder =} -> members",
    "Keeps models along a run of train.fit, for ensembles and soups. at = \"low\" takes one whenever the rate is about "
    .. "to rise: the ends of the cycles of train.snapshot (Huang et al. 2017, snapshot ensembles, arXiv:1704.00109), "
    .. "the low points of train.fge (Garipov et al. 2018, fast geometric ensembling, arXiv:1802.10026), which go on "
    .. "behind the last step. \"epoch\" takes the end of each, \"step\" those of the numbers that every divides.\n"
    .. "  from: the first step that counts; last: only so many, the latest, stay\n"
    .. "  folder: each is saved there as step-000123.safetensors, and opened in the place of the one in memory\n"
    .. "members:models() is the list, members:model(net, data) their mean.",
    "local d, net = data.two_moons { n = 100, seed = 1 }, nn.mlp { 2, 8, 2 }\n"
    .. "local members = train.collect()\ntrain.fit(net, d, { steps = 60, batch = 25, lr = 0.5, optimiser = \"sgd\",\n"
    .. "  schedule = train.snapshot { cycles = 3 }, callbacks = { members } })\n"
    .. "print(members, #members:models())\n-- > train.collect of 3 models\t3",
    function(o)
      local name = "train.collect"
      o = average.options(name, o, { "at", "last", "folder" })
      average.whole(name, o, "last", 1)
      o.at = o.at or o.every and "step" or "low"
      if o.at ~= "low" and o.at ~= "epoch" and o.at ~= "step" then
        error(("%s: at is \"low\", \"epoch\" or \"step\", got %s"):format(name, tostring(o.at)), 2)
      end
      return average.new(name, o, collect)
    end)

  define("members:models", "members:models() -> {m, …}",
    "The models that train.collect keeps, in the order of their steps.",
    "local members = train.collect { last = 2 }\nfor _, m in ipairs { a, b, c } do members:add(m) end\n"
    .. "print(#members:models(), members:models()[1]:dot(b) == b:dot(b))\n-- > 2\ttrue", collect.methods.models)
end
