-- SPDX-License-Identifier: Apache-2.0
-- Training points of parameter space whose loss is taken between them: bends of curves, vertices of simplexes, star
-- models. Points are vectors; a step draws combinations of them, takes the gradient there, and hands each free point
-- its share of it (the chain rule: its coefficient). One step is one compiled function where the loss is a network's.
return function(check, core)
  local net_of = require "nn.net"
  local nn_loss = require "nn.loss"
  local leaves = require "train.leaves"(core)
  local set_of = require "train.set"(core)
  local log = require "train.log"(core)
  local over = require "probe.over"(core)
  local flat_of = require "probe.flat"(core)
  local points = require "probe.points"(core)
  local progress = require "probe.progress"(core)
  local descent = {}

  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end
  descent.fail = fail

  -- Options that all of these probes take.
  local shared = { "data", "epochs", "steps", "batch", "optimiser", "lr", "schedule", "weight_decay", "seed", "log",
    "loss", "label_smoothing", "ignore_index", "journal" }

  function descent.check(what, o, own)
    local names = { table.unpack(shared) }
    for _, name in ipairs(own) do names[#names + 1] = name end
    check(what, o, names)
    local out = {}
    for key, v in pairs(o or {}) do out[key] = v end
    return out
  end

  -- ---- where gradients come from ----

  local function data_set(what, d)
    return set_of(d) or fail(what, "data: expected a data set or { x =, y = }, got %s", core.kind(d))
  end

  -- Points as vectors and back, for the parameters of a network: buffers stay what they are.
  local function network_space(what, net, like)
    like = points.loaded(what, like)
    local parameters, rest = over.opened(what, net, like)
    local space = flat_of(what, parameters)
    local s = { n = space.n, dtype = space.dtype, rest = rest, unpack = space.unpack, tree = space.pack }
    function s.pack(m)
      m = points.loaded(what, m)
      if core.kind(m) ~= "model" then fail(what, "expected models of the network, got a %s", core.kind(m)) end
      return space.pack((over.opened(what, net, m)))
    end
    -- The model with these parameters; its buffers lie between those of a and b.
    function s.point(v, a, b, t)
      local values = space.unpack(v)
      for name, x in pairs(rest) do
        if leaves.floating[x.dtype] and a ~= b then
          values[name] = (1 - t) * a:tensor(name) + t * b:tensor(name)
        elseif a then
          values[name] = a:tensor(name)
        end
      end
      return core.with_values(a or like, values)
    end
    return s
  end

  -- A point in memory: a model, a tensor or a table of tensors.
  function descent.loaded(what, m, whose)
    return core.kind(m) == "table" and m or points.loaded(what, m, whose)
  end

  local function plain_space(what, like)
    if core.kind(like) == "model" then like = like:load() end
    local space = flat_of(what, like)
    local s = { n = space.n, dtype = space.dtype, tree = space.pack }
    function s.pack(x)
      if core.kind(x) ~= core.kind(like) then
        fail(what, "the points are a %s and a %s", core.kind(like), core.kind(x))
      end
      for _, name in ipairs(core.kind(x) == "table" and space.names or {}) do
        if core.kind(x[name]) ~= "tensor" then fail(what, "the points have other names: no tensor %s", name) end
      end
      local v = space.pack(core.kind(x) == "model" and x:load() or x)
      if v:numel() ~= space.n then fail(what, "the points have %d and %d numbers", space.n, v:numel()) end
      return v
    end
    function s.point(v)
      if core.kind(like) ~= "model" then return space.unpack(v) end
      local part, values = space.unpack(v), {}
      for _, name in ipairs(space.names) do values[name] = part:tensor(name) end
      return core.with_values(like, values)
    end
    return s
  end

  -- source(what, f, like, o) -> where losses and gradients come from, and how points become vectors:
  --   space {n, dtype, pack(x) -> vector, point(vector, a, b, t) -> x}
  --   both(v, rest, batch, key) -> value, gradient (a vector)
  --   value: f over all of its data, for evaluation
  -- f: a network with o.data, net:loss(data), or a function of a point (and of a batch, with o.data).
  function descent.source(what, f, like, o)
    local s, set = { what = what }, nil
    if net_of.is(f) then
      if o.data == nil then fail(what, "a network needs data; or give net:loss(data)") end
      set, s.net = data_set(what, o.data), f
      s.options = { loss = o.loss or "cross_entropy", label_smoothing = o.label_smoothing,
        ignore_index = o.ignore_index }
      s.value = f:loss(o.data, s.options)
    elseif core.kind(f) == "loss" then
      for _, name in ipairs { "loss", "label_smoothing", "ignore_index" } do
        if o[name] ~= nil then fail(what, "%s is what the loss says already", name) end
      end
      set, s.net, s.options, s.value = data_set(what, o.data or f.data), f.net, f.options, f
    elseif type(f) == "function" then
      set, s.value = o.data and data_set(what, o.data), f
    else
      fail(what, "expected a network, net:loss(data) or a function, got %s", core.kind(f))
    end

    if s.net then
      local space, root = network_space(what, s.net, like), s.net
      s.space, s.compiled, s.rest = space, true, space.rest
      local loss = nn_loss.loss_of(root, s.options)
      local function objective(parameters, rest, batch, key)
        return loss((net_of.run(root, over.joined(parameters, rest), batch, { mode = "train", key = key })), batch)
      end
      function s.both(v, rest, batch, key)
        local value, g = value_and_grad(objective, space.unpack(v), rest, batch, key)
        return value, space.tree(g)
      end
    else
      local space = plain_space(what, like)
      s.space = space
      function s.both(v, _, batch)
        local value, g
        if batch then value, g = value_and_grad(f, space.point(v), batch)
        else value, g = value_and_grad(f, space.point(v)) end
        return value, space.tree(g)
      end
    end

    local size = points.count(what, "batch", o.batch or 128, 1)
    if o.batch and not set then fail(what, "batch: a function without data has none") end
    s.per_epoch = set and math.max((set.n + size - 1) // size, 1) or nil
    -- i, batch, key: as many as there are steps, from `start` (1) on
    function s.batches(steps, seed, start)
      if not set then
        local i = (start or 1) - 1
        return function()
          i = i + 1
          if i <= steps then return i end
        end
      end
      local next_batch = set:batches { size = size, steps = steps, seed = seed, dropout_seed = seed,
        start = start or 1 }
      return function()
        local i, b = next_batch()
        if i then return i, { x = b.x, y = b.y }, tensor({ b.key }, { dtype = "i64" }) end
      end
    end
    return s
  end

  function descent.steps(what, o, source, default)
    if o.epochs and o.steps then fail(what, "give epochs or steps, not both") end
    if o.epochs and not source.per_epoch then fail(what, "epochs are of data; give steps") end
    if o.steps then return points.count(what, "steps", o.steps, 0) end
    if source.per_epoch then return points.count(what, "epochs", o.epochs or default, 0) * source.per_epoch end
    return 1000
  end

  -- ---- random numbers: functions of seed and step ----

  -- n numbers from 0 to 1 for one step.
  function descent.uniform(seed, step, n)
    local mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x7A11) & 0x7FFFFFFFFFFFFFFF
    return tensor.uniform({ n }, mixed, { dtype = "f64" }):totable()
  end

  -- Weights uniformly from the simplex of n corners.
  function descent.dirichlet(seed, step, n)
    local u, sum = descent.uniform(seed, step, n), 0
    for k = 1, n do
      u[k] = -math.log(1 - u[k] + 1e-300)
      sum = sum + u[k]
    end
    for k = 1, n do u[k] = sum > 0 and u[k] / sum or 1 / n end
    return u
  end

  -- ---- the loop ----

  -- As the authors of curve finding train: full rate for half of the run, a line down to a hundredth at nine tenths.
  local function in_thirds(lr, total)
    return function(t)
      local at = (t + 1) / total
      if at <= 0.5 then return lr end
      return lr * (at <= 0.9 and 1 - (at - 0.5) / 0.4 * 0.99 or 0.01)
    end
  end

  function descent.optimiser(what, o, total, lr)
    local opt = o.optimiser
    if opt == nil then
      opt = train.sgd { lr = o.lr or lr, momentum = 0.9 }
    elseif opt == "sgd" or opt == "adam" or opt == "adamw" then
      opt = train[opt] { lr = o.lr }
    elseif core.kind(opt) ~= "optimiser" then
      fail(what, "optimiser is one of train.sgd …, or sgd, adam, adamw, got %s", core.kind(opt))
    end
    local rate, s = o.lr or opt.options.lr, o.schedule or opt.options.schedule
    if type(s) == "string" then
      if not ({ constant = true, cosine = true, linear = true })[s] then
        fail(what, "schedule is constant, cosine or linear, one of train.cosine …, or a function of the step")
      end
      s = train[s] {}
    end
    if core.kind(s) == "rate" then return opt, s:of(rate, total) end
    if type(s) == "function" then
      return opt, function(i)
        local v = s(i)
        return type(v) == "number" and v or fail(what, "the schedule gives a %s, not a number", core.kind(v))
      end
    end
    if s ~= nil then fail(what, "schedule is a %s", core.kind(s)) end
    if not rate then fail(what, "there is no rate; give lr") end
    return opt, in_thirds(rate, total)
  end

  -- (free, state, fixed, samples, push, rest, batch, rate, t, key, phase) -> free, state, loss. A sample is
  -- {weight, coefficients of the free points, then of the fixed ones}; push: gradients of what is added to the loss.
  local function step_of(source, opt, decay)
    local function gradient(free, fixed, samples, push, rest, batch, key)
      local value, g = 0.0, {}
      for _, sample in ipairs(samples) do
        local theta, at = nil, 2
        for _, list in ipairs { free, fixed } do
          for k = 1, #list do
            local part = sample[at] * list[k]
            theta, at = theta and theta + part or part, at + 1
          end
        end
        local v, d = source.both(theta, rest, batch, key)
        if decay ~= 0 then
          v, d = v + 0.5 * decay * theta:dot(theta), d + decay * theta
        end
        value = value + sample[1] * v
        for k = 1, #free do
          local part = (sample[1] * sample[k + 1]) * d
          g[k] = g[k] and g[k] + part or part
        end
      end
      for k = 1, push and #free or 0 do g[k] = g[k] + push[k] end
      return value, g
    end
    -- Optimisers know points by name.
    local function named(list)
      local out = {}
      for k, v in ipairs(list) do out[tostring(k)] = v end
      return out
    end
    local function listed(names, n)
      local out = {}
      for k = 1, n do out[k] = names[tostring(k)] end
      return out
    end
    local function step(free, state, fixed, samples, push, rest, batch, rate, t, key, phase)
      local value, g = gradient(free, fixed, samples, push, rest, batch, key)
      if opt.ascend then
        local there = listed(opt:ascend(named(free), named(g)), #free)
        local _
        _, g = gradient(there, fixed, samples, push, rest, batch, key)
      end
      local new, new_state = opt:apply(named(free), named(g), state, rate, t, phase)
      return listed(new, #free), new_state, value
    end
    return source.compiled and compile(step, { donate = { 2 } }) or step, named
  end

  -- descent.train(source, opt, rate, { free, fixed, steps, seed, draw, penalty, epoch, log, weight_decay, journal,
  -- key }) -> free, losses:
  --   draw(i) -> { {weight, coefficient, …}, … }
  --   penalty(free) -> value, { gradient, … }: what is added to the loss
  --   epoch(number, free, fixed): called before each epoch; may replace what is fixed
  --   journal, key: where its state is kept; save() and load(values): of what epoch changes besides
  function descent.train(source, opt, rate, run)
    local what, fixed = source.what, run.fixed
    local log_path = run.log
    local named_well = type(log_path) == "string" and (log_path:find "%.csv$" or log_path:find "%.jsonl$")
    if log_path ~= nil and not named_well then
      fail(what, "log is the path of a .csv or .jsonl file, got %s", tostring(log_path))
    end
    local step, named = step_of(source, opt, run.weight_decay or 0)
    local began, per = core.now(), source.per_epoch or 100
    local draw <close> = progress(what, run.steps, "steps")
    run.journal.follow(draw)

    local function loop(l)
      local s = l.state or { done = 0, free = run.free, state = opt:init(named(run.free)), losses = {}, sum = 0,
        count = 0, rows = {} }
      for k, v in ipairs(s.fixed or {}) do fixed[k] = v end
      if s.more then run.load(s.more) end
      if log_path then log.start(log_path, s.rows) end
      for i, batch, key in source.batches(run.steps, run.seed, s.done + 1) do
        local epoch = (i - 1) // per + 1
        if run.epoch and (i - 1) % per == 0 then run.epoch(epoch, s.free, fixed) end
        local added, push = 0, nil
        if run.penalty then added, push = run.penalty(s.free, i) end
        local value
        s.free, s.state, value = step(s.free, s.state, fixed, run.draw(i), push, source.rest, batch, rate(i - 1) + 0.0,
          i, key, opt:phase(i))
        if type(value) ~= "number" then value = value:item() end
        value = value + added
        if value ~= value or math.abs(value) == math.huge then
          fail(what, "the loss is %s at step %d; a smaller rate may help", value ~= value and "nan" or tostring(value),
            i)
        end
        s.losses[i], s.sum, s.count = value, s.sum + value, s.count + 1
        if log_path and (i % per == 0 or i == run.steps) then
          local row = { epoch = epoch, step = i, loss = s.sum / s.count, rate = rate(i - 1),
            seconds = core.now() - began }
          log.add(log_path, row)
          s.rows[#s.rows + 1], s.sum, s.count = row, 0, 0
        end
        s.done = i
        draw(i)
        l.keep(function()
          s.fixed, s.more = run.epoch and fixed, run.save and run.save()
          return s
        end)
      end
      return { free = s.free, losses = s.losses, more = run.save and run.save() }
    end

    local got = run.journal.loop(run.key, loop)
    if run.load then run.load(got.more) end
    return got.free, got.losses
  end

  -- ---- vectors ----

  function descent.mean(list)
    local sum
    for _, v in ipairs(list) do sum = sum and sum + v or v end
    return sum * (1 / #list)
  end

  function descent.dot(u, v) return (u:to "f64" * v:to "f64"):sum() end

  function descent.distance(u, v)
    local d = u:to "f64" - v:to "f64"
    return math.sqrt((d * d):sum())
  end

  return descent
end
