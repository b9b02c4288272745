-- SPDX-License-Identifier: Apache-2.0
-- Rounds: several runs of train.fit from one model, each on its own, and one model made of what they found.
-- Federated averaging, and under other names the same with the options of other papers. How the models
-- become one is a merge like any other.
return function(define, check, core, seeds_of)
  local leaves = require "train.leaves"(core)
  local average = require "train.average"(check, core)
  local checkpoint = require "train.checkpoint"(core)
  local early = require "train.early"(check)
  local log_file = require "train.log"(core)
  local given = require "train.given"(core)
  local nn_net = require "nn.net"
  local columns = { "round", "clients", "loss", "val_loss", "val_accuracy" } -- of a log

  local function without(o, names)
    local out = {}
    for key, v in pairs(o or {}) do out[key] = v end
    for _, key in ipairs(names) do out[key] = nil end
    return out
  end

  local function size_of(d) return d.n or d.x.shape[1] end

  -- {data =, net =, …options of its own} of what a script gives as a client.
  local function clients_of(what, net, list)
    if core.kind(list) ~= "table" or list[1] == nil then
      error(("%s: expected a list of clients: data sets, or {data =, net =, … options of their own}, got %s"):format(
        what, core.kind(list) == "table" and "an empty one" or core.kind(list)), 3)
    end
    local out = {}
    for k, c in ipairs(list) do
      if type(c) ~= "table" then error(("%s: client %d is a %s"):format(what, k, core.kind(c)), 3) end
      local nested = core.kind(c) ~= "dataset" and c.x == nil
      if nested and c.net ~= nil and not nn_net.is(c.net) then
        error(("%s: net of client %d is a %s, not a network"):format(what, k, core.kind(c.net)), 3)
      end
      if nested and type(c.data) ~= "table" then error(("%s: client %d has no data"):format(what, k), 3) end
      out[k] = { data = nested and c.data or c, net = nested and c.net or net, own_net = nested and c.net,
        options = nested and without(c, { "data", "net" }) or {} }
    end
    return out
  end

  -- Sum of w_i m_i, without a bound on the length of the list.
  local function weighted(models, w)
    local most, sum = 60, nil
    for first = 1, #models, most do
      local last = math.min(first + most - 1, #models)
      local part = { table.unpack(models, first, last) }
      part.weight, part.normalize = { table.unpack(w, first, last) }, false
      if sum then
        table.insert(part, 1, sum)
        table.insert(part.weight, 1, 1)
      end
      sum = merge.linear(part)
    end
    return sum
  end

  -- Names that stay with each client.
  local function private_names(m, selector)
    local names = {}
    if selector ~= nil then
      for _, name in ipairs(m:only(selector):names()) do names[name] = true end
    end
    return names
  end

  local function shared_part(m, private)
    if next(private) == nil then return m end
    return m:only(function(name) return not private[name] end)
  end

  -- m with the values of another for what is not private.
  local function with_shared(m, from, private)
    local values = {}
    for name, t in pairs(leaves.flatten(from, "train.federated")) do
      if not private[name] then values[name] = t end
    end
    return core.with_values(m, values)
  end

  local own = { "rounds", "fraction", "weights", "merge", "private", "server", "val", "start", "seed", "lr",
    "checkpoint", "resume", "early_stop", "log" }

  local function options_of(what, options)
    local o = without(given.options(what, options), {})
    average.whole(what, o, "rounds", 0)
    given.field(what, o, "merge", "a function", "function")
    given.field(what, o, "start", "a model", "model")
    given.field(what, o, "lr", "a number or a function of the round", "number", "function")
    given.seed(what, o.seed)
    average.number(what, o, "fraction", 0, 1)
    if o.callbacks ~= nil then error(what .. ": callbacks is not for rounds", 3) end
    o.checkpoint = checkpoint.options(what, o, check, "rounds")
    o.early_stop = early.of(o.early_stop, what, "rounds")
    log_file.check(o.log, what)
    o.rounds, o.fraction, o.weights = o.rounds or 1, o.fraction or 1, o.weights or "examples"
    if o.weights ~= "examples" and o.weights ~= "equal" then
      error(("%s: weights is \"examples\" or \"equal\", got %s"):format(what, given.shown(o.weights)), 3)
    end
    return o
  end

  -- The clients of a round, in their own order.
  local function chosen(n, fraction, seed)
    local m = math.max(1, math.floor(fraction * n + 0.5))
    local list = {}
    if m >= n then
      for k = 1, n do list[k] = k end
      return list
    end
    for i, k in ipairs(tensor.randperm(n, seed):totable()) do
      if i <= m then list[i] = k end
    end
    table.sort(list)
    return list
  end

  -- One client's work in a round: its model, and the loss of its last epoch.
  local function work(client, k, round, count, theta, private, o)
    local start = client.theta or theta
    if client.theta == nil and client.own_net then
      start = client.net:init { seed = seeds_of(o.seed, k - 1, true).init } -- its head; the rest is shared
    end
    if start ~= theta then start = with_shared(start, theta, private) end
    local options = without(o, own)
    options.start, options.seed = start, seeds_of(o.seed, (round - 1) * count + k - 1)
    options.lr = type(o.lr) == "function" and o.lr(round) or type(o.lr) == "number" and o.lr or nil
    for key, v in pairs(client.options) do options[key] = v end
    local m, log = train.fit(client.net, client.data, options)
    return m, #log > 0 and log[#log].loss or nil
  end

  -- ---- between two rounds ----

  -- The shared model, those of the clients, the best so far: states of one checkpoint, in the order of `order`.
  local function save(run, c)
    local states, order = { run.theta }, { "theta" }
    for k, m in pairs(run.log.clients) do states[#states + 1], order[#order + 1] = m, k end
    if run.best then states[#states + 1], order[#order + 1] = run.best, "best" end
    checkpoint.join(states, { round = run.round, clients = run.count, rows = { table.unpack(run.log) }, order = order,
      best = run.best_value, since = run.since }):save(c.path, { overwrite = true })
    if c.keep then
      run.theta:save(("%s/round-%06d.safetensors"):format(c.keep, run.round), { overwrite = true })
    end
  end

  local function restore(run, path, what, clients, private)
    local states, plain = checkpoint.split(path, what)
    if plain.clients ~= run.count then
      error(("%s: %s is of a run with %s clients, not %d"):format(what, path, tostring(plain.clients), run.count), 3)
    end
    for i, key in ipairs(plain.order) do
      if key == "theta" then
        run.theta = core.with_values(run.theta, leaves.flatten(states[i], what))
      elseif key == "best" then
        run.best = core.with_values(run.theta, leaves.flatten(states[i], what))
      else
        run.log.clients[key] = states[i]
        if next(private) ~= nil then clients[key].theta = states[i] end
      end
    end
    for i, row in ipairs(plain.rows) do run.log[i] = row end
    run.round, run.best_value, run.since = plain.round, plain.best, plain.since
  end

  -- One round: the row of the log.
  local function round_of(run, round, clients, private, o, net)
    local who = chosen(#clients, o.fraction, seeds_of(o.seed, round).order)
    local models, w, total, loss = {}, {}, 0, 0
    for i, k in ipairs(who) do
      local m, last = work(clients[k], k, round, #clients, run.theta, private, o)
      if next(private) ~= nil then clients[k].theta = m end
      run.log.clients[k], models[i] = m, shared_part(m, private)
      w[i] = o.weights == "equal" and 1 or size_of(clients[k].data)
      total, loss = total + w[i], loss + w[i] * (last or 0)
    end
    for i, v in ipairs(w) do w[i] = v / total end
    local one = o.merge and o.merge(models, w, shared_part(run.theta, private)) or weighted(models, w)
    run.theta = with_shared(run.theta, one:load(), private)
    local row = { round = round, clients = who, loss = loss / total }
    if o.val then
      local r = net:loss(o.val):report(run.theta)
      row.val_loss, row.val_accuracy = r.loss, r.accuracy
    end
    return row
  end

  local function federated(what, net, list, options)
    local o = options_of(what, options)
    local clients, c = clients_of(what, net, list), o.checkpoint
    local theta = o.start
    if not nn_net.is(net) and (type(net) ~= "function" or theta == nil) then
      error(("%s: expected a network, got %s"):format(what, core.kind(net)), 0)
    end
    if theta == nil then theta = net:init { seed = seeds_of(o.seed, 0).init } end
    local run = { theta = theta:load(), round = 0, count = #clients, since = 0, log = { clients = {} } }
    local private = private_names(run.theta, o.private)
    local from = o.resume == true and c.path or o.resume
    if from and (o.resume ~= true or checkpoint.exists(from)) then restore(run, from, what, clients, private) end
    if o.log then log_file.start(o.log, run.log, columns) end
    while run.round < o.rounds and not early.over(o.early_stop, run) do
      local row = round_of(run, run.round + 1, clients, private, o, net)
      run.round, run.log[run.round + 1] = run.round + 1, row
      if o.log then log_file.add(o.log, row, columns) end
      if o.early_stop and early.seen(o.early_stop, run, early.value(o.early_stop, row)) and o.early_stop.restore then
        run.best = run.theta
      end
      local last = run.round == o.rounds or early.over(o.early_stop, run)
      if c and (last or run.round % (c.every or 1) == 0) then save(run, c) end
    end
    if early.over(o.early_stop, run) then run.log.stopped = "early" end
    return o.early_stop and o.early_stop.restore and run.best or run.theta, run.log
  end

  define("train.federated",
    "train.federated(net, {d1, d2, …}, {rounds = 1, fraction = 1, weights = \"examples\", merge =, private =, …}) -> "
    .. "theta, log",
    "Federated averaging (McMahan et al. 2017, FedAvg, arXiv:1602.05629): in each round every client trains the shared "
    .. "model on its own data with train.fit, whose options these are (epochs or steps, batch, lr, optimiser …), and "
    .. "the new one is their mean, weighted by n_k / n. One round from a common start is lo-fi (Wortsman et al. 2022, "
    .. "arXiv:2210.11948); clients with the same data and a few steps are local SGD.\n"
    .. "  clients: data sets, or {data =, net =, … options of train.fit that differ}\n"
    .. "  rounds: how many; fraction: the share of clients that a round draws, at least one\n"
    .. "  lr: a number, or a function of the round, from 1\n"
    .. "  weights: \"examples\" or \"equal\"\n"
    .. "  merge: function({m, …}, {weight, …}, shared) -> model in the place of the mean: any merge method, or a step "
    .. "of a server's own\n"
    .. "  private: a selector as in m:only of what each client keeps: heads (ColD fusion), batch norms (FedBN, Li et "
    .. "al. 2021, arXiv:2102.07623)\n"
    .. "  start, seed: the first model; client k of round r of K has the seeds seed + (r - 1) K + k - 1\n"
    .. "  val: data that the shared model is measured on after each round\n"
    .. "  checkpoint: {path = \"run.safetensors\", every = rounds, keep = folder}: what there is between two rounds, "
    .. "after every so many (default: each) and at the end; keep: the shared model too, as "
    .. "folder/round-000003.safetensors. resume: true goes on from there, a path from that file, to the same bytes\n"
    .. "  early_stop: rounds without a better val_loss, or a table as in train.fit; log: a .csv or .jsonl file, a row "
    .. "a round\n"
    .. "log[r] is {round, clients, loss, val_loss, val_accuracy}; log.clients are the last models of the clients. "
    .. "Optimisers begin anew in each round. The mean needs new statistics of batch norms (eval.bn_reset).",
    "local a, b = data.two_moons({ n = 200, seed = 1 }):split { 0.3, 0.7, seed = 1 }\nlocal net = nn.mlp { 2, 16, 2 }\n"
    .. "local theta, log = train.federated(net, { a, b }, { rounds = 5, epochs = 5, batch = 20, lr = 0.05,\n"
    .. "  optimiser = \"sgd\", seed = 1 })\n"
    .. "print(#log, log[5].loss < log[1].loss)\n-- > 5\ttrue",
    function(net, list, o) return federated("train.federated", net, list, o) end)

  define("train.cold_fusion",
    "train.cold_fusion(net, {d1, {data =, net =}, …}, {rounds = 5, private = head, …}) -> theta, log",
    "ColD fusion (Don-Yehiya et al. 2023, arXiv:2212.01378): the loop of train.federated with whole data sets as "
    .. "clients that count the same. Each fine-tunes the shared body with a head of its own, which stays with it; "
    .. "bodies are averaged into the next. private: the head, by default the last layer of net; clients with other "
    .. "classes have a net of their own with the same body. theta has the head that it began with.",
    "local net = nn.mlp { 2, 16, 2 }\nlocal moons, clouds = data.two_moons { n = 100, seed = 1 }, data.gaussians {\n"
    .. "  n = 90, classes = 3, seed = 1 }\n"
    .. "local theta, log = train.cold_fusion(net, { moons, { data = clouds, net = nn.mlp { 2, 16, 3 } } },\n"
    .. "  { rounds = 3, epochs = 2, batch = 20, lr = 0.01 })\n"
    .. "local head = log.clients[2][\"fc2.bias\"]\nprint(#log, head:numel(), theta[\"fc2.bias\"]:numel())\n"
    .. "-- > 3\t3\t2",
    function(net, list, o)
      local options = without(given.options("train.cold_fusion", o), {})
      if not nn_net.is(net) then error("train.cold_fusion: expected a network, got " .. core.kind(net), 0) end
      options.weights, options.rounds = options.weights or "equal", options.rounds or 5
      if options.private == nil then
        local last = {}
        for _, q in ipairs(net:params()) do
          if q.layer == net.depth - 1 or q.place == "head" then last[q.name] = true end
        end
        options.private = function(name) return last[name] end
      end
      return federated("train.cold_fusion", net, list, options)
    end)

  -- The options of worker k: what it writes has its number.
  local function numbered(o, k)
    local out = without(o, {})
    if type(o.log) == "string" then out.log = checkpoint.numbered(o.log, k) end
    if type(o.resume) == "string" then out.resume = checkpoint.numbered(o.resume, k) end
    if type(o.checkpoint) == "string" then
      out.checkpoint = checkpoint.numbered(o.checkpoint, k)
    elseif type(o.checkpoint) == "table" and type(o.checkpoint.path) == "string" then
      local keep = o.checkpoint.keep
      out.checkpoint = without(o.checkpoint, {})
      out.checkpoint.path = checkpoint.numbered(o.checkpoint.path, k)
      out.checkpoint.keep = keep and ("%s/worker-%d"):format(keep, k)
    end
    return out
  end

  define("train.swap", "train.swap(net, data, {workers = 4, first = {…} or start =, bn = true, …}) -> theta, {m1, …}",
    "Averaging in parallel (Gupta et al. 2020, SWAP, arXiv:2001.02312): one run with large batches, whose options are "
    .. "first; from there each worker trains on its own, with the seeds seed + k - 1 and the other options, those of "
    .. "train.fit; and one mean, with batch norms reset on data (unless bn = false). With start, a model, in the place "
    .. "of first it is lo-fi fine-tuning (Wortsman et al. 2022, arXiv:2210.11948). Gives the mean and the workers. "
    .. "checkpoint, resume and log are of each worker: run.1.safetensors, run.2.safetensors, …",
    "local d, net = data.two_moons { n = 200, seed = 1 }, nn.mlp { 2, 16, 2 }\n"
    .. "local theta, workers = train.swap(net, d, { workers = 3, first = { epochs = 10, batch = 100, lr = 0.05 },\n"
    .. "  epochs = 5, batch = 20, lr = 0.01, seed = 1 })\n"
    .. "print(#workers, (theta - merge.linear(workers)):norm())\n-- > 3\t0.0",
    function(net, d, options)
      local what = "train.swap"
      options = given.options(what, options)
      local o = without(options, { "workers", "first", "bn" })
      given.seed(what, o.seed)
      given.options(what .. ": first", options.first)
      local count = options.workers or 4
      average.whole(what, { workers = count }, "workers", 1)
      if (o.start == nil) == (options.first == nil) then
        error(what .. ": give first, the options of the run before, or start, a model", 2)
      end
      local start = o.start or train.fit(net, d, options.first)
      local workers = {}
      for k = 1, count do
        local own_options = numbered(o, k)
        own_options.start, own_options.seed = start, seeds_of(o.seed, k - 1)
        workers[k] = train.fit(net, d, own_options)
      end
      local w = {}
      for k = 1, count do w[k] = 1 / count end
      local one = count <= 60 and merge.linear(workers) or weighted(workers, w)
      one = one:load()
      if options.bn ~= false and type(net) ~= "function" then one = eval.bn_reset(net, one, d) end
      return one, workers
    end)
end
