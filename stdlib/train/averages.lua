-- SPDX-License-Identifier: Apache-2.0
-- Averages of the weights along a run, as values (train.average): the mean from a step on, of the latest
-- few, with fading memory, and of the valley of a validation loss. The numbers are those that merge.swa,
-- merge.lawa and merge.linear give for the same models in files: a sum in the order of the steps, divided once.
return function(define, check, core)
  local leaves = require "train.leaves"(core)
  local average = require "train.average"(check, core)
  local whole, number = average.whole, average.number

  -- ---- on flat tables; the first is given away ----

  local added = compile(function(s, x)
    return leaves.map(s, function(v, name) return v + x[name] end)
  end, { donate = { 1 } })

  local faded = compile(function(e, x, keep, take)
    return leaves.map(e, function(v, name) return keep * v + take * x[name] end)
  end, { donate = { 1 } })

  local copied = average.copied
  local function sum(s, x) return s and added(s, x) or copied(x) end
  local function divided(s, n) return leaves.map(s, function(t) return t / n end) end

  -- ---- the mean from a step on ----

  local swa = {
    add = function(self, x)
      self.kept.sum, self.n = sum(self.kept.sum, x), self.n + 1
    end,
    value = function(self) return divided(self.kept.sum, self.n) end,
  }

  define("train.swa", "train.swa {from = 0, every =} -> average",
    "Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407): the mean of the weights from a step on, in "
    .. "a run whose rate stays high or goes in cycles. It is one of the callbacks of train.fit, and takes the model at "
    .. "the end of each epoch:\n"
    .. "  from: the first step that counts\n"
    .. "  every: so many steps apart in place of epochs: those of a number that every divides\n"
    .. "avg:model() is the mean, avg:model(net, data) has its batch norms reset, avg:add(m) shows it a model by hand, "
    .. "avg:over(folder) those of files. merge.swa gives the same numbers, and streams files of any size.",
    "local d, net = data.two_moons { n = 100, seed = 1 }, nn.mlp { 2, 8, 2 }\n"
    .. "local swa = train.swa { from = 10 }\n"
    .. "train.fit(net, d, { epochs = 8, batch = 25, callbacks = { swa }, optimiser = train.sgd { lr = 0.5 } })\n"
    .. "print(swa, swa:model():numel())\n-- > train.swa of 6 models\t42",
    function(o)
      return average.new("train.swa", average.options("train.swa", o, {}), swa)
    end)

  -- ---- the latest few ----

  local lawa = {
    add = function(self, _, m)
      local list = self.kept
      list[#list + 1] = m
      if #list > self.options.window then table.remove(list, 1) end
      self.n = #list
    end,
    value = function(self) return merge.linear(self.kept):load() end,
    restore = function(_, kept, m) return average.models(kept, m) end,
  }

  define("train.lawa", "train.lawa {window = 5, every =, from = 0} -> average",
    "Latest weight averaging (Kaddour 2022, arXiv:2209.14981; Sanyal et al. 2023, arXiv:2306.03241): the mean of the "
    .. "last models, at ends of epochs or every so many steps. Far apart and with a high rate it helps most; the run "
    .. "itself goes on from its own weights. Memory: one model each. merge.lawa is the same over files; see train.swa.",
    "local lawa = train.lawa { window = 2 }\nfor _, m in ipairs { base, a, b } do lawa:add(m) end\n"
    .. "print(lawa, lawa:model():norm() == merge.lawa({ base, a, b }, { window = 2 }):norm())\n"
    .. "-- > train.lawa of 2 models\ttrue",
    function(o)
      local name = "train.lawa"
      o = average.options(name, o, { "window" })
      whole(name, o, "window", 1)
      o.window = o.window or 5
      return average.new(name, o, lawa)
    end)

  -- ---- fading memory ----

  local ema = {
    add = function(self, x)
      local o, p, t = self.options, self.plain, self.n
      self.n = t + 1
      if o.start == "first" and t == 0 then
        self.kept.mean = copied(x)
        return
      end
      if o.start == "zero" then
        t = t + 1
        self.kept.mean = self.kept.mean or leaves.map(x, function(v) return tensor.zeros_like(v) end)
      end
      local keep = o.warmup and math.min(o.decay, (1 + t) / (10 + t)) or o.decay
      self.kept.mean = faded(self.kept.mean, x, keep, 1 - keep)
      p.left = (p.left or 1) * keep
    end,
    value = function(self)
      return divided(self.kept.mean, self.options.start == "zero" and 1 - self.plain.left or 1)
    end,
  }

  define("train.ema", "train.ema {decay = 0.999, start = \"zero\", warmup = false, every = 1, from = 0} -> average",
    "Exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017, "
    .. "arXiv:1703.01780): e = decay e + (1 - decay) theta after every step.\n"
    .. "  start: \"zero\" begins at nothing and divides by 1 - decay^t, as Adam does; \"first\" begins with the first "
    .. "model\n"
    .. "  warmup: step t decays by min(decay, (1 + t) / (10 + t))\n"
    .. "  every: steps from one model to the next; from: the first that counts\n"
    .. "Statistics of batch norms are averaged like the weights; avg:model(net, data) takes them anew. merge.ema is "
    .. "the same sum over files, written out; see train.swa for the rest.",
    "local ema = train.ema { decay = 0.5 }\n"
    .. "for v = 1, 3 do ema:add(model.new { { \"w\", tensor { v } } }) end\n"
    .. "print(ema:model().w)  -- (1/8 + 2/4 + 3/2) / (1 - 1/8)\n-- > f32[1]\n-- > [2.4286]",
    function(o)
      local name = "train.ema"
      o = average.options(name, o, { "decay", "start", "warmup" })
      number(name, o, "decay", 0, 1 - 1e-12)
      o.decay, o.start, o.every = o.decay or 0.999, o.start or "zero", o.every or 1
      if o.start ~= "zero" and o.start ~= "first" then
        error(("%s: start is \"zero\" or \"first\", got %s"):format(name, tostring(o.start)), 2)
      end
      return average.new(name, o, ema)
    end)

  -- ---- the valley of a validation loss ----

  -- Which of the values seen so far are inside: told one loss after the other. `first` and `last` are numbers
  -- of losses, from 1; before the valley is found the latest of `converge` losses may yet be its first.
  local function valley(o) return { losses = {}, converge = o.converge, tolerate = o.tolerate, ratio = o.ratio } end

  local function least(list, i, j)
    local v = math.huge
    for k = i, j do v = math.min(v, list[k]) end
    return v
  end

  local function told(v, loss)
    local l = v.losses
    l[#l + 1] = loss
    local n = #l
    if not v.first then
      local i = n - v.converge + 1
      if i >= 1 and l[i] == least(l, i, n) then
        local total = 0
        for k = i, n do total = total + l[k] end
        v.first, v.last, v.limit = i, i, v.ratio * total / v.converge
      end
    end
    -- A loss is inside once one of the `tolerate` from it on is within the limit.
    while v.first and not v.over and v.last + v.tolerate <= n do
      if least(l, v.last + 1, v.last + v.tolerate) > v.limit then
        v.over = true
      else
        v.last = v.last + 1
      end
    end
  end

  -- At the end of a run: those that nothing speaks against yet.
  local function ended(v)
    local l, last = v.losses, v.last
    if not v.first then return nil end
    while not v.over and last < #l and least(l, last + 1, #l) <= v.limit do last = last + 1 end
    return v.first, last
  end

  -- kept[k]: the sum over the steps of the k-th loss, counts in plain; joined into kept.sum when it is inside.
  local function joined(self, last, s)
    local v, p = self.valley, self.plain
    local n = p.inside or 0
    for k = math.max(v.first, (p.upto or 0) + 1), last do
      local key = "part" .. k
      if self.kept[key] then s, n = sum(s, self.kept[key]), n + p.counts[key] end
    end
    return s, n
  end

  local function forget(self, upto)
    for key in pairs(self.kept) do
      local k = tonumber(key:match "^part(%d+)$")
      if k and k <= upto then self.kept[key], self.plain.counts[key] = nil, nil end
    end
  end

  local function judged(self, loss)
    local v, p = self.valley, self.plain
    if v.over then return end
    told(v, loss)
    p.losses = v.losses
    if not v.first then
      forget(self, #v.losses - v.converge + 1)
    elseif v.last > (p.upto or 0) then
      self.kept.sum, p.inside = joined(self, v.last, self.kept.sum)
      p.upto = v.last
      forget(self, v.last)
    end
    if v.over then forget(self, math.huge) end
  end

  local swad = {
    dense = true,
    add = function(self, x, m, step, loss)
      local v, p, o = self.valley, self.plain, self.options
      if v.over then return end
      local key = "part" .. #v.losses + 1
      self.kept[key] = sum(self.kept[key], x)
      p.counts = p.counts or {}
      p.counts[key] = (p.counts[key] or 0) + 1
      self.n = self.n + 1
      if loss == nil and o.loss and step % (o.every or 1) == 0 then loss = o.loss(m) end
      if loss then judged(self, loss) end
    end,
    value = function(self)
      local first, last = ended(self.valley)
      if not first then
        error(("%s: the loss has no valley yet; %d were seen, converge = %d"):format(self.name, #self.valley.losses,
          self.valley.converge), 3)
      end
      return divided(joined(self, last, self.kept.sum and copied(self.kept.sum)))
    end,
    watch = function(self, lists)
      local o = self.options
      table.insert(lists.step, function(info)
        if average.due(self, info.step) and not self.valley.over then self:add(info.theta(), info.step) end
        if o.stop and self.valley.over then info.stop() end
      end)
      if o.loss then return end
      table.insert(lists.epoch, function(info)
        if not info.val_loss then
          error("train.swad: there is no validation loss; give val to train.fit, or loss", 0)
        end
        if average.due(self, info.step) then judged(self, info.val_loss) end
        if o.stop and self.valley.over then info.stop() end
      end)
    end,
    restore = function(self, kept)
      self.valley = valley(self.options)
      for _, loss in ipairs(self.plain.losses or {}) do told(self.valley, loss) end
      return kept
    end,
    methods = {
      window = function(self) return ended(self.valley) end,
    },
  }

  define("train.swad",
    "train.swad {loss =, every =, from = 0, converge = 3, tolerate = 6, ratio = 1.3, stop = false} -> average",
    "Dense averaging in the valley of the validation loss (Cha et al. 2021, SWAD, arXiv:2102.08604). Every step "
    .. "counts from the first loss that is the least of `converge`, itself and the next, until the loss stays above "
    .. "`ratio` times the mean of those for `tolerate` losses in a row, which are left out. The losses are val_loss of "
    .. "train.fit at the end of each epoch, or loss(theta) every so many steps. This is Algorithm 1 of the paper; the "
    .. "defaults are those of the official repository (khanrc/swad: 3, 6 and 0.3; 0.2 on VLCS), which at the end of a "
    .. "run goes on to the last loss within the limit as well, but counts some segments twice.\n"
    .. "  loss: net:loss(held_out), or another function of the model; every: steps from one to the next\n"
    .. "  stop: ends the run behind the valley\n"
    .. "A loss is that of all steps since the one before. avg:window() -> first, last of the losses, from 1; "
    .. "avg:add(m, step, loss) tells it a loss by hand. Memory: a sum for each of the last max(converge, tolerate) "
    .. "losses. See train.swa for the rest.",
    "local swad = train.swad { converge = 2, tolerate = 2, ratio = 1.2 }\n"
    .. "for step, loss in ipairs { 5, 3, 1, 1.1, 2, 1, 4, 5 } do\n"
    .. "  swad:add(model.new { { \"w\", tensor { step } } }, step, loss)\nend\n"
    .. "print(swad:window())\nprint(swad:model().w:item())  -- (3 + 4 + 5 + 6) / 4\n-- > 3\t6\n-- > 4.5",
    function(o)
      local name = "train.swad"
      o = average.options(name, o, { "loss", "converge", "tolerate", "ratio", "stop" })
      whole(name, o, "converge", 1)
      whole(name, o, "tolerate", 1)
      number(name, o, "ratio", 1, math.huge)
      local of = core.kind(o.loss)
      if o.loss ~= nil and of ~= "function" and of ~= "loss" and of ~= "metric" and of ~= "table" then
        error(name .. ": loss is a function of the model, as net:loss(data), got " .. of, 2)
      end
      o.converge, o.tolerate, o.ratio = o.converge or 3, o.tolerate or 6, o.ratio or 1.3
      local self = average.new(name, o, swad)
      self.valley = valley(o)
      return self
    end)

  -- ---- what they share ----

  define("average:add", "avg:add(m, step, loss) -> avg",
    "Shows an average one more model, in memory or in files (then it is loaded). step: its number, by default one "
    .. "more than the last; loss: for train.swad. What is no floating tensor is taken from the last model.",
    "local swa = train.swa():add(a):add(b)\nprint(swa:model():norm() == merge.linear({ a, b }):norm())\n-- > true",
    average.class.add)

  define("average:over", "avg:over(folder or {m1, m2, …}, {step =}) -> avg",
    "Shows an average the checkpoints of a folder, in the order of their steps (as model.checkpoints finds them), or "
    .. "the models of a list, whose steps are 1, 2, …: those that from and every let count. One is in memory at a "
    .. "time.",
    "print(train.swa({ from = 2 }):over({ a, b, c }))\n-- > train.swa of 2 models", average.class.over)

  define("average:model", "avg:model() or avg:model(net, data) -> model",
    "The average so far; more may be added afterwards. With a network and data the statistics of its batch norms are "
    .. "taken anew (eval.bn_reset), which averaged weights need; a network without any is not changed by that.",
    "local net = nn.mlp { 2, 4, 2 }\nlocal swa = train.swa():add(net:init { seed = 1 }):add(net:init { seed = 2 })\n"
    .. "local d = data.two_moons { n = 50, seed = 1 }\nprint((swa:model(net, d) - swa:model()):norm())\n-- > 0.0",
    average.class.model)
end
