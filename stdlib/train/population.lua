-- SPDX-License-Identifier: Apache-2.0
-- Networks that train side by side and meet every few steps. Each member is a run of train.fit in a
-- coroutine of its own, which stops in a callback behind every step; when all have arrived, the rule of the
-- population sees their weights and may give them others. So a member trains exactly as it would alone. They meet in
-- the same way where early stop judges (the mean of what they have), and where a checkpoint is due: all states are one
-- file.
return function(define, check, core, fit)
  local leaves = require "train.leaves"(core)
  local average = require "train.average"(check, core)
  local checkpoint = require "train.checkpoint"(core)
  local nn_net = require "nn.net"
  local what = "train.population"

  local given = require "train.given"(core)
  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- ---- rules: apply(members, info) -> members; a member is a flat table name -> tensor ----

  local function rule(name, o, title, apply)
    return setmetatable({ name = name, options = o, every = o.every, apply = apply },
      { __tostring = function() return title end, __name = "rule", __metatable = false })
  end

  local pulled = compile(function(members, keep, take)
    local out = {}
    for i = 1, #members do out[i] = {} end
    for _, name in ipairs(leaves.names(members[1])) do
      local sum = members[1][name]
      for i = 2, #members do sum = sum + members[i][name] end
      local mean = sum / #members
      for i, x in ipairs(members) do out[i][name] = keep * x[name] + take * mean end
    end
    return out
  end)

  define("train.papa", "train.papa {alpha = 0.99, every = 10, scaled = true} -> rule",
    "For train.population: every so many steps each member moves towards the mean of all, theta = alpha theta + (1 - "
    .. "alpha) mean (Jolicoeur-Martineau et al. 2023, PAPA, arXiv:2304.03094). alpha = 1 leaves the members alone; "
    .. "alpha = 0 makes them the mean: with every = the steps of some epochs PAPA-all, with a few steps local SGD "
    .. "(Stich 2019, arXiv:1805.09767), with 1 what one machine would do with the batches of all.\n"
    .. "alpha and every are the paper's and the official repository's (SamsungSAILMontreal/PAPA) for training from "
    .. "scratch; for fine-tuning it recommends alpha = 0.9995.\n"
    .. "  scaled: 1 - alpha falls with the rate, in proportion to the highest so far; false: the same alpha "
    .. "throughout, as in the official code",
    "print(train.papa { alpha = 0.9 })\n-- > train.papa { alpha = 0.9, every = 10 }",
    function(o)
      local name = "train.papa"
      check(name, o, { "alpha", "every", "scaled" })
      average.number(name, o, "alpha", 0, 1)
      average.whole(name, o, "every", 1)
      o = o or {}
      local alpha, every, scaled = o.alpha or 0.99, o.every or 10, o.scaled ~= false
      return rule(name, { every = every }, ("%s { alpha = %g, every = %d }"):format(name, alpha, every),
        function(members, info)
          local take = (1 - alpha) * (scaled and info.peak > 0 and info.rate / info.peak or 1)
          return pulled(members, 1 - take, take)
        end)
    end)

  local function mixed(seed, k)
    return (seed * 0x9E3779B97F4A7C15 + k * 0xD1B54A32D192ED03) & 0x7FFFFFFFFFFFFFFF
  end

  -- The tensors of the members after a share p of the coordinates was dealt out anew.
  local function shuffled(list, p, g)
    local shape, n = list[1].shape, list[1]:numel()
    if n == 0 then return list end
    local mask = tensor.rand({ n }, g):lt(p)
    local chosen = tensor.range(n):masked_select(mask)
    local k = chosen:numel()
    if k == 0 then return list end
    local rows, taken, out = {}, {}, {}
    for i, t in ipairs(list) do
      rows[i] = t:reshape { n }
      taken[i] = rows[i]:index_select(1, chosen)
    end
    local order = tensor.rand({ k, #list }, g):argsort(2)
    local dealt = tensor.stack(taken, 2):gather(2, order)
    for i, t in ipairs(rows) do
      out[i] = tensor.where(mask, 0, t):scatter_add(1, chosen, dealt[{ {}, i }]):reshape(shape)
    end
    return out
  end

  -- name -> its share: p (1 - l / (L - 1)) in layer l of L; what is before the first counts as it, what is
  -- behind the last as that.
  local function shares_of(net, names, p, decreasing)
    local share, depth = {}, nn_net.is(net) and net.depth or 0
    local place = {}
    for _, q in ipairs(nn_net.is(net) and net:params() or {}) do
      place[q.name] = q.layer or q.place == "embed" and 0 or depth - 1
    end
    for _, name in ipairs(names) do
      local l = place[name]
      share[name] = decreasing and l and depth > 1 and p * (1 - l / (depth - 1)) or p
    end
    return share
  end

  define("train.wash", "train.wash {p = 0.001, every = 1, decreasing = true} -> rule",
    "For train.population: after every step (or so many) each coordinate of the weights is drawn with probability p, "
    .. "and its values are dealt out anew among the members, at random (Fournier et al. 2024, WASH, arXiv:2405.17517). "
    .. "The mean of the members does not change by that, and little has to travel; they stay in one basin. Statistics "
    .. "of batch norms stay where they are.\n"
    .. "  decreasing: p falls by depth, p (1 - l / (L - 1)) in layer l of L, so that the last keeps to itself",
    "print(train.wash { p = 0.01 })\n-- > train.wash { p = 0.01, every = 1 }",
    function(o)
      local name = "train.wash"
      check(name, o, { "p", "every", "decreasing" })
      average.number(name, o, "p", 0, 1)
      average.whole(name, o, "every", 1)
      o = o or {}
      local p, every, decreasing = o.p or 0.001, o.every or 1, o.decreasing ~= false
      return rule(name, { every = every }, ("%s { p = %g, every = %d }"):format(name, p, every),
        function(members, info)
          local out, g = {}, tensor.generator(mixed(info.seed, info.step))
          local names = leaves.names(members[1])
          local share = shares_of(info.net, names, p, decreasing)
          for i in ipairs(members) do out[i] = {} end
          for _, key in ipairs(names) do
            local list = {}
            for i, x in ipairs(members) do list[i] = x[key] end
            if not info.buffer[key] and share[key] > 0 then list = shuffled(list, share[key], g) end
            for i, t in ipairs(list) do out[i][key] = t end
          end
          return out
        end)
    end)

  -- ---- the population ----

  local own = { "members", "share", "vary", "init", "checkpoint", "resume" }
  local common = { "checkpoint", "resume", "early_stop", "log" } -- not for single members

  -- seed or table of seeds, for the k-th (from 0) of several runs: other orders, augmentations, dropout.
  local function seeds_of(seed, k, init)
    if type(seed) ~= "table" then
      seed = seed or 0
      seed = { init = seed, order = seed, augment = seed, dropout = seed }
    end
    return { init = (seed.init or 0) + (init and k or 0), order = (seed.order or 0) + k,
      augment = (seed.augment or 0) + k, dropout = (seed.dropout or 0) + k }
  end

  local function data_of(d, i, n)
    if core.kind(d) == "table" and not d.batches and not d.x and #d > 0 then
      if #d ~= n then fail("%d data sets for %d members", #d, n) end
      return d[i]
    end
    return d
  end

  local function options_of(o, i)
    local out = {}
    for key, v in pairs(o) do out[key] = v end
    for _, key in ipairs(own) do out[key] = nil end
    out.seed, out.quiet = seeds_of(o.seed, i - 1, o.init == "each"), true
    if type(o.log) == "string" then out.log = checkpoint.numbered(o.log, i) end
    local varied = given.options(what .. ": vary", o.vary and o.vary(i) or nil)
    for _, key in ipairs(common) do
      if varied[key] ~= nil then fail("vary: %s is one for all members", key) end
    end
    for key, v in pairs(varied) do out[key] = v end
    if out.callbacks ~= nil then fail "callbacks is not for a population; share sees the members after every step" end
    out.callbacks = { step = function(info) coroutine.yield("step", info) end }
    return out
  end

  -- All members on to where they meet next, given `reply`: "step", "judge" or "state" and what each has to say, or
  -- "end" and what the runs gave.
  local function advance(threads, reply, kept)
    local kind, said = nil, {}
    for i, t in ipairs(threads) do
      local ok, where, x, log = coroutine.resume(t, reply)
      if not ok then error(("member %d: %s%s"):format(i, tostring(where), kept), 0) end
      if coroutine.status(t) == "dead" then where, x = "end", { where, x, log } end
      if kind and kind ~= where then fail "the members take different numbers of steps; give steps" end
      kind, said[i] = where, x
    end
    return kind, said
  end

  local function share_of(o)
    local share = o.share
    if share == nil then share = train.papa() end
    if type(share) == "function" then return { every = 1, models = share } end
    if type(share) ~= "table" or not rawget(share, "apply") then
      fail("share is train.papa {…}, train.wash {…} or a function of the models, got %s", core.kind(share))
    end
    return share
  end

  local function replace(infos, values)
    for i, info in ipairs(infos) do info.replace(values[i]) end
  end

  -- What a function of models gives: others for some or all of them.
  local function by_function(f, infos, about)
    local models = {}
    for i, info in ipairs(infos) do models[i] = info.theta() end
    local others = f(models, about) or {}
    if core.kind(others) ~= "table" then fail("share gave a %s, not a list of models", core.kind(others)) end
    for i, m in pairs(others) do infos[i].replace(leaves.flatten(m, what)) end
  end

  -- One step is done: the members share what the rule says.
  local function meet(infos, share, about)
    about.step, about.epoch, about.rate = infos[1].step, infos[1].epoch, infos[1].rate
    about.peak = math.max(about.peak, about.rate)
    about.stopping = core.stopping()
    if about.step % share.every ~= 0 then return end
    if share.models then
      by_function(share.models, infos, about)
    else
      local values = {}
      for i, info in ipairs(infos) do values[i] = leaves.flatten(info.theta(), what) end
      replace(infos, share.apply(values, about))
    end
  end

  local function mean(list)
    local sum = 0
    for _, v in ipairs(list) do sum = sum + v end
    return sum / #list
  end

  -- ---- checkpoints of all ----

  -- {state of each member}, the highest rate so far; nil where there is nothing to go on from.
  local function read(c, o, about)
    local from = o.resume == true and c.path or o.resume
    if not from or (o.resume == true and not checkpoint.exists(from)) then return nil end
    local states, plain = checkpoint.split(from, what)
    for _, key in ipairs { "members", "share" } do
      if plain[key] ~= about[key] then
        fail("%s is of another population: its %s is %s, not %s", from, key, tostring(plain[key]), tostring(about[key]))
      end
    end
    about.peak, about.saved = plain.peak, plain.step
    return states
  end

  local function write(states, c, about)
    checkpoint.join(states, { members = about.members, share = about.share, step = about.step, peak = about.peak })
      :save(c.path, { overwrite = true })
    about.saved = about.step
  end

  -- What member i has of the population, for train.fit.
  local function among_of(i, c, about)
    local among = { judge = function(v) return coroutine.yield("judge", v) end,
      stopping = function() return about.stopping end }
    among.checkpoint = c and { every = c.every, keep = c.keep and ("%s/member-%d"):format(c.keep, i),
      take = function(state) coroutine.yield("state", state) end }
    return among
  end

  local function population(net, d, options)
    local o = {}
    for key, v in pairs(given.options(what, options)) do o[key] = v end
    given.field(what, o, "vary", "a function", "function")
    given.seed(what, o.seed)
    local n, share = o.members or 4, share_of(o)
    average.whole(what, { members = n }, "members", 1)
    if o.init ~= nil and o.init ~= "same" and o.init ~= "each" then
      fail("init is \"same\" or \"each\", got %s", given.shown(o.init))
    end
    local threads, buffer = {}, {}
    for _, q in ipairs(nn_net.is(net) and net:params() or {}) do buffer[q.name] = q.buffer or nil end
    local about = { net = net, buffer = buffer, seed = seeds_of(o.seed, 0).order, peak = 0, members = n,
      share = share.models and "a function" or tostring(share), stopping = false }
    local c = checkpoint.options(what, o, check, "steps")
    local states = read(c, o, about) or {}
    for i = 1, n do
      local set, own_options = data_of(d, i, n), options_of(o, i)
      own_options.resume = states[i]
      threads[i] = coroutine.create(function() return fit(net, set, own_options, among_of(i, c, about)) end)
    end
    local _ <close> = core.run(c ~= nil) -- stops wait for the checkpoint after the step
    local reply
    while true do
      local kept = c and about.saved and ("; %s holds step %d"):format(c.path, about.saved) or ""
      local kind, said = advance(threads, reply, kept)
      reply = nil
      if kind == "step" then
        meet(said, share, about)
      elseif kind == "judge" then
        reply = mean(said)
      elseif kind == "state" then
        write(said, c, about)
      else
        local models, logs = {}, {}
        for i, r in ipairs(said) do models[i], logs[i] = r[1], r[2] end
        return models, logs
      end
    end
  end

  define("train.population",
    "train.population(net, data or {d1, …}, {members = 4, share = train.papa {}, vary =, init = \"same\", …}) -> "
    .. "{m1, …}, {log1, …}",
    "Trains several networks side by side that share their weights now and then, and gives them all: for their mean, a "
    .. "soup or an ensemble. Each is a run of train.fit, whose options these are, with its own seeds of order, "
    .. "augmentation and dropout: the k-th has seed + k - 1.\n"
    .. "  share: train.papa {…}, train.wash {…}, or function({m1, …}, info) -> {m1, …} after every step; info has "
    .. "step, epoch, rate\n"
    .. "  vary: function(k) -> options of member k that differ (augment, weight_decay, …)\n"
    .. "  init: \"same\" first weights, or \"each\" its own\n"
    .. "  checkpoint, resume: as in train.fit; all members are in one file, and of the same step. keep: a folder, with "
    .. "folders member-1, member-2, … in it\n"
    .. "  early_stop: as in train.fit; the mean of what the members reach is judged, and all stop at once, each with "
    .. "its weights of the best epoch\n"
    .. "  log: \"run.csv\" gives run.1.csv, run.2.csv, …\n"
    .. "The steps of optimisers are kept through a meeting. The mean needs new statistics of batch norms "
    .. "(eval.bn_reset).",
    "local d, net = data.two_moons { n = 200, seed = 1 }, nn.mlp { 2, 16, 2 }\n"
    .. "local models = train.population(net, d, { members = 3, epochs = 20, batch = 50, lr = 0.02, seed = 1 })\n"
    .. "print(#models, eval.accuracy(net, d)(merge.linear(models)) > 0.9)\n-- > 3\ttrue",
    population)

  return seeds_of
end
