-- SPDX-License-Identifier: Apache-2.0
-- The training loop. One step is one compiled function of (parameters, buffers, the optimiser's state, the
-- batch, rate, step number, key of dropout); the state is given away, the parameters are not, so that a
-- step whose loss is not finite leaves what it started from. All of a run is a function of its options and
-- seeds, and between two steps a handful of tensors and numbers, which is what a checkpoint holds.
return function(define, check, core, schedule_of, optimiser_of)
  local nn_loss = require "nn.loss"
  local nn_net = require "nn.net"
  local leaves = require "train.leaves"(core)
  local set_of = require "train.set"(core)
  local checkpoint = require "train.checkpoint"(core)
  local log = require "train.log"(core)
  local early = require "train.early"(check)
  local given = require "train.given"(core)
  local what = "train.fit"

  local function fail(text, ...)
    error(what .. ": " .. text:format(...), 0)
  end

  -- ---- options ----

  local names = { "epochs", "steps", "batch", "lr", "optimiser", "schedule", "seed", "start", "only", "augment", "val",
    "callbacks", "early_stop", "checkpoint", "resume", "log", "loss", "label_smoothing", "ignore_index", "clip",
    "weight_decay", "drop_last", "accuracy", "quiet", "skip", "fork" }

  local function whole(name, v, least, default)
    if v == nil then return default end
    if math.type(v) ~= "integer" or v < least then
      fail("%s is a whole number, at least %d, got %s", name, least, given.shown(v))
    end
    return v
  end

  local function seeds_of(seed)
    if seed == nil then seed = 0 end
    if type(seed) == "number" then
      whole("seed", seed, 0)
      return { init = seed, order = seed, augment = seed, dropout = seed }
    end
    if type(seed) ~= "table" then
      fail("seed is a number or {init =, order =, augment =, dropout =}, got %s", given.shown(seed))
    end
    check(what .. ": seed", seed, { "init", "order", "augment", "dropout" })
    local out = {}
    for _, name in ipairs { "init", "order", "augment", "dropout" } do
      out[name] = whole("seed." .. name, seed[name], 0, 0)
    end
    return out
  end

  local function callbacks_of(o)
    local lists = { step = {}, epoch = {}, averages = {} }
    if o == nil then return lists end
    if type(o) == "function" then o = { epoch = o } elseif core.kind(o) == "average" then o = { o } end
    if core.kind(o) ~= "table" then
      fail "callbacks is a function of what is known at the end of an epoch, or {step =, epoch =}"
    end
    check(what .. ": callbacks", o, { "step", "epoch" }, true)
    for key, f in pairs(o) do
      if core.kind(f) == "average" then -- train.swa and its relatives
        f:watch(lists)
        table.insert(lists.averages, f)
      elseif type(f) == "function" then
        local list = key == "step" and lists.step or lists.epoch
        list[#list + 1] = f
      else
        fail("callbacks: expected functions, or averages as train.swa, got a %s", core.kind(f))
      end
    end
    return lists
  end

  local function checkpoint_of(o)
    if o == nil then return nil end
    if type(o) == "function" then o = { take = o, every = math.maxinteger } end
    if core.kind(o) == "table" and o.take then
      check(what .. ": checkpoint", o, { "take", "every" })
      if type(o.take) ~= "function" then fail "checkpoint.take is a function of the state" end
      return { take = o.take, every = whole("checkpoint.every", o.every, 1) }
    end
    if type(o) == "string" then o = { path = o } end
    if core.kind(o) ~= "table" or type(o.path) ~= "string" or not o.path:find "%.safetensors$" then
      fail "checkpoint is {path = \"….safetensors\", every = steps, keep = folder}"
    end
    check(what .. ": checkpoint", o, { "path", "every", "keep" })
    given.field(what, o, "keep", "the path of a folder", "string")
    return { path = o.path, every = whole("checkpoint.every", o.every, 1), keep = o.keep }
  end

  local function data_set(d, which)
    return set_of(d) or fail("%s: expected a data set or { x =, y = }, got %s", which, core.kind(d))
  end

  -- ---- parameters ----

  local function is_network(net) return nn_net.is(net) end

  -- The model that the run begins with, and its tensors, apart by what becomes of them.
  local function opened(net, o, seeds)
    local base = o.start
    if base == nil then
      if not is_network(net) then fail "a network that is a function has no first values; give start = a model" end
      base = net:init { seed = seeds.init }
    elseif core.kind(base) ~= "model" then
      fail("start is a model, got %s", core.kind(base))
    end
    base = base:load()
    local is_buffer, trained = {}, nil
    for _, p in ipairs(is_network(net) and net:params() or {}) do is_buffer[p.name] = p.buffer end
    if o.only ~= nil then
      trained = {}
      for _, name in ipairs(base:only(o.only):names()) do trained[name] = true end
    end
    local params, buffers = {}, {}
    for _, name in ipairs(base:names()) do
      local t = base:tensor(name)
      local floats = leaves.floating[t.dtype]
      if #t.shape == 0 then t = t:reshape { 1 } end -- core.with_values takes the axis off again
      if floats and t.dtype ~= "f64" and t.dtype ~= "f32" then t = t:to "f32" end
      if floats and not is_buffer[name] and (not trained or trained[name]) then
        params[name] = t
      else
        buffers[name] = t
      end
    end
    if next(params) == nil then fail "there is nothing to train" end
    return base, params, buffers
  end

  local function merged(params, buffers)
    local all = {}
    for name, t in pairs(buffers) do all[name] = t end
    for name, t in pairs(params) do all[name] = t end
    return all
  end

  -- ---- the step ----

  local function counts_right(o)
    return o.accuracy ~= false and (o.loss == nil or o.loss == "cross_entropy")
  end

  -- objective(params, buffers, batch, key) -> loss, next buffers, how many rows it is the mean of, number right or nil
  local function objective_of(net, o)
    local root = is_network(net) and net or {}
    local options = { loss = o.loss or "cross_entropy", label_smoothing = o.label_smoothing,
      ignore_index = o.ignore_index }
    local loss = nn_loss.loss_of(root, options)
    local right = counts_right(o)
    return function(params, buffers, batch, key)
      local y, updates = net(merged(params, buffers), batch, { mode = "train", key = key })
      return loss(y, batch), updates or {}, nn_loss.weight_of(root, options, batch),
        right and nn_loss.correct(root, y, batch, options) or nil
    end
  end

  local function step_of(objective, opt, clip)
    local function gradient(params, buffers, batch, key)
      return value_and_grad(function(p) return objective(p, buffers, batch, key) end, params)
    end
    local function step(params, buffers, state, batch, rate, t, key, phase)
      local loss, g, updates, rows, right = gradient(params, buffers, batch, key)
      if opt.ascend then
        local _, there = gradient(opt:ascend(params, g), buffers, batch, key)
        g = there
      end
      if clip then g = clip(g) end
      local new, new_state = opt:apply(params, g, state, rate, t, phase)
      local new_buffers = {}
      for name, v in pairs(buffers) do new_buffers[name] = updates[name] or v end
      return new, new_buffers, new_state, loss, rows, right
    end
    return compile(step, { donate = { 3 } }), gradient
  end

  local function clip_of(clip)
    if clip == nil then return nil end
    if type(clip) == "number" then return function(g) return (train.clip_norm(g, clip)) end end
    if type(clip) ~= "table" then fail "clip is the longest norm of the gradient, or {norm =} or {value =}" end
    check(what .. ": clip", clip, { "norm", "value" })
    given.field(what, clip, "norm", "a number", "number")
    given.field(what, clip, "value", "a number", "number")
    return function(g)
      if clip.value then g = train.clip_value(g, clip.value) end
      return clip.norm and (train.clip_norm(g, clip.norm)) or g
    end
  end

  -- ---- when a step does not fit ----

  local function out_of_memory(e) return type(e) == "userdata" and e.code == "OutOfMemory" end

  -- n rows like those of t, in the memory of one.
  local function rows_of(t, n)
    if not t then return nil end
    local shape = { n }
    for k = 2, t.rank do shape[k] = t.shape[k] end
    return t:expand(shape)
  end

  local function bytes_of(t) return t and t:numel() * (tonumber(t.dtype:match "%d+") or 8) // 8 or 0 end

  local function in_use() return select(2, core.memory()) end

  -- The largest batch whose rows and step there is room for, and for what recording it takes; e: the error of the step
  -- that found none.
  local function largest_batch(e, set, run, o, step, opt, rate)
    local _, one = set:batches { size = 1, steps = 1, start = 1, seed = 0, dropout_seed = 0 } ()
    local each, key = bytes_of(one.x) + bytes_of(one.y) + 8, tensor({ 0 }, { dtype = "i64" }) -- 8: its position
    local fits, over, t, recording = 0, math.min(o.batch, set.n), run.step + 1 - o.skip, 0
    collectgarbage()
    local room = (core.memory() - in_use()) * 31 // 32 -- later steps find a little less
    while over - fits > 1 do
      local n, before = (fits + over) // 2, in_use()
      local known, need = pcall(compile.memory, step, run.params, run.buffers, run.state,
        { x = rows_of(one.x, n), y = rows_of(one.y, n) }, rate, t, key, opt:phase(t))
      if not known and not out_of_memory(need) then error(e, 0) end
      recording = math.max(recording, in_use() - before)
      if known and need + n * each + recording <= room then fits = n else over = n end
    end
    return fits
  end

  local function no_room(e, set, run, o, ...)
    local n = largest_batch(e, set, run, o, ...)
    local takes = e.message:match "this (takes up to .-);" -- else: a tensor did not fit
    core.no_room(("%s: %s; %s; checkpoint(f, …) around parts of the network or --memory with more lets more fit")
      :format(what, takes and ("a step of a batch of %d %s"):format(math.min(o.batch, set.n), takes) or e.message,
      n > 0 and ("a batch of %d would fit"):format(n) or "not even a batch of 1 would fit"))
  end

  -- ---- when the loss is not finite ----

  local function finite(t)
    return type(t) == "number" and t == t and math.abs(t) < math.huge or type(t) ~= "number" and t:isfinite():all()
  end

  local function first_bad(values, order)
    for _, name in ipairs(order) do
      if values[name] and not finite(values[name]) then return name end
    end
  end

  -- What is not finite first: a parameter, the output of a layer, a gradient.
  local function culprit(net, run, batch, key, gradient)
    local order = leaves.names(merged(run.params, run.buffers))
    if is_network(net) then
      order = {}
      for i, p in ipairs(net:params()) do order[i] = p.name end
    end
    local name = first_bad(run.params, order) or first_bad(run.buffers, order)
    if name then return ("%s was not finite before it"):format(name) end
    if not finite(batch.x) then return "the batch holds values that are not finite" end
    if is_network(net) then
      local paths, first = {}, nil
      nn_net.walk(net, function(part, path)
        if path ~= "" and #part.children == 0 then paths[#paths + 1] = path end
      end)
      local ok, seen = pcall(function()
        return net:capture(merged(run.params, run.buffers), batch, paths, { mode = "train", key = key })
      end)
      if ok then first = first_bad(seen, paths) end
      if first then return ("the first value that is not finite comes out of layer %s"):format(first) end
    end
    local ok, _, g = pcall(gradient, run.params, run.buffers, batch, key)
    name = ok and first_bad(g, order)
    return name and ("the gradient of %s is not finite"):format(name) or "the layers' outputs are finite; the "
      .. "loss is not"
  end

  local function kept_of(run)
    return run.kept_at and ("; %s holds step %d"):format(run.kept_at, run.saved) or ""
  end

  local function stop_at_nan(net, run, o, loss, batch, key, gradient)
    local why = culprit(net, run, batch, key, gradient)
    fail("the loss is %s at step %d (epoch %d): %s%s. A smaller rate, clip = 1 or warm-up may help",
      loss ~= loss and "nan" or tostring(loss), run.step + 1, run.epoch, why, kept_of(run))
  end

  -- ---- the run between two steps ----

  local function description(o, seeds, opt, n, averages)
    local titles = {}
    for i, a in ipairs(averages) do titles[i] = a.name end
    return { averages = titles[1] and table.concat(titles, ", "), optimiser = opt.title, batch = o.batch,
      examples = n, seeds = ("%d %d %d %d"):format(seeds.init, seeds.order, seeds.augment, seeds.dropout) }
  end

  local function save(run, o)
    if run.saved == run.step then return end
    local bad = first_bad(run.params, leaves.names(run.params))
    if bad then -- the loss was finite, its gradient was not: the last good checkpoint stays
      fail("%s is not finite after step %d (epoch %d)%s. A smaller rate, clip = 1 or warm-up may help", bad, run.step,
        run.epoch, kept_of(run))
    end
    run.plain = { step = run.step, epoch = run.epoch, sum = run.sum, count = run.count, right = run.right,
      rows = #run.log > 0 and { table.unpack(run.log) } or nil, best = run.best_value, since = run.since,
      about = run.about, averages = {} }
    run.kept = {}
    for i, a in ipairs(run.averages) do run.kept[tostring(i)], run.plain.averages[i] = a:state() end
    local state = checkpoint.pack(run)
    if o.checkpoint.take then o.checkpoint.take(state) else state:save(o.checkpoint.path, { overwrite = true }) end
    run.saved, run.kept_at = run.step, o.checkpoint.path
    if o.checkpoint.keep then
      run.model():save(("%s/step-%06d.safetensors"):format(o.checkpoint.keep, run.step), { overwrite = true })
    end
  end

  -- A fork goes its own way from there: other seeds, and the parameters of `start` where they are given.
  local function resume(run, path, fork, start)
    local kept = checkpoint.read(path)
    local p = kept.plain
    for key, v in pairs(run.about) do
      if p.about[key] ~= v and not (fork and key == "seeds") then
        fail("%s is of another run: its %s is %s, not %s", tostring(path), key, tostring(p.about[key]), tostring(v))
      end
    end
    for _, values in ipairs { run.params, run.buffers } do
      for name in pairs(start and {} or values) do
        values[name] = kept.theta[name] or fail("%s is of another network: it has no %s", tostring(path), name)
      end
    end
    for slot in pairs(run.state) do run.state[slot] = kept.state[slot] or run.state[slot] end
    run.best, run.best_value, run.since = kept.best, p.best, p.since or 0
    run.step, run.epoch, run.sum, run.count, run.right = p.step, p.epoch, p.sum, p.count, p.right
    run.log.losses, run.log.rates = kept.log.losses, kept.log.rates
    for i, row in ipairs(p.rows or {}) do run.log[i] = row end
    for i, a in ipairs(run.averages) do a:restore(kept.averages[tostring(i)] or {}, p.averages[i], run.model()) end
    run.saved, run.first, run.kept_at = run.step, run.step, type(path) == "string" and path or nil
  end

  -- ---- the ends of epochs ----

  local function stops_early(run, o, row)
    local v = early.value(o, row)
    if run.among then v = run.among.judge(v) end
    if early.seen(o, run, v) and o.restore then run.best = merged(run.params, run.buffers) end
    return early.over(o, run)
  end

  local function end_of_epoch(run, o, rate)
    local row = { epoch = run.epoch, step = run.step, loss = run.sum / run.count,
      accuracy = run.right and run.right / run.count, rate = rate, seconds = core.now() - run.began + run.before }
    if o.val then
      local r = run.measure(merged(run.params, run.buffers))
      row.val_loss, row.val_accuracy = r.loss, r.accuracy
    end
    run.log[#run.log + 1] = row
    if o.log then log.add(o.log, row) end
    run.sum, run.count, run.right = 0.0, 0, counts_right(o) and 0 or nil
    return row
  end

  local function call(list, run, row)
    local stop = false
    for _, f in ipairs(list) do
      local info = { step = run.step, epoch = row.epoch or run.epoch, loss = row.loss, accuracy = row.accuracy,
        rate = row.rate, next_rate = function() return run.rate_of(run.step) end,
        val_loss = row.val_loss, val_accuracy = row.val_accuracy, log = run.log, theta = run.model,
        replace = run.replace, stop = function() stop = true end }
      f(info)
    end
    return stop
  end

  -- Networks of nn have their loss on data as a value; functions are measured by eval.
  local function measure_of(net, o)
    if not o.val then return nil end
    if is_network(net) then
      local f = net:loss(o.val, { loss = o.loss, label_smoothing = o.label_smoothing, ignore_index = o.ignore_index })
      return function(theta) return f:report(theta) end
    end
    local report = eval.report(net, o.val, { ignore_index = o.ignore_index })
    return function(theta)
      local r = report(theta)
      return { loss = r.nll, accuracy = r.accuracy }
    end
  end

  -- ---- the loop ----

  -- An iterator: number, batch, rate, key, and what the step gives. The first says which batch fits if it does not.
  local function steps_of(set, run, o, step, opt, rate_of, seeds)
    local batches = set:batches { size = o.batch, steps = run.total, seed = seeds.order, augment = o.augment,
      augment_seed = seeds.augment, dropout_seed = seeds.dropout, drop_last = o.drop_last, start = run.step + 1 }
    local function take()
      local i, batch = batches()
      if not i then return nil end
      run.epoch = batch.epoch
      local rate, key = rate_of(i - 1), tensor({ batch.key }, { dtype = "i64" })
      return i, batch, rate, key, step(run.params, run.buffers, run.state, { x = batch.x, y = batch.y }, rate,
        i - o.skip, key, opt:phase(i - o.skip))
    end
    return function()
      if run.step > run.first then return take() end
      local results = table.pack(pcall(take))
      if results[1] then return table.unpack(results, 2, results.n) end
      local e = results[2]
      if not out_of_memory(e) then error(e, 0) end
      no_room(e, set, run, o, step, opt, rate_of(run.step))
    end
  end

  local function loop(net, set, run, o, step, gradient, opt, rate_of, seeds, callbacks)
    local draw = log.line(o.quiet)
    local per_epoch = run.per_epoch
    local ends = false
    for i, batch, rate, key, params, buffers, state, loss, rows, right in
      steps_of(set, run, o, step, opt, rate_of, seeds) do
      if not (loss == loss and math.abs(loss) < math.huge) then
        stop_at_nan(net, run, o, loss, { x = batch.x, y = batch.y }, key, gradient)
      end
      run.params, run.buffers, run.state, run.step = params, buffers, state, i
      run.log.losses[i - o.skip], run.log.rates[i - o.skip] = loss, rate
      run.sum, run.count = run.sum + rows * loss, run.count + (rows // 1 | 0)
      if right then run.right = run.right + right end
      draw(run, loss, rate)
      if #callbacks.step > 0 then
        ends = call(callbacks.step, run, { loss = loss, rate = rate, accuracy = right and right / rows })
      end
      if i % per_epoch == 0 or i == run.total then
        local row = end_of_epoch(run, o, rate)
        ends = o.early_stop and stops_early(run, o.early_stop, row) or ends
        if #callbacks.epoch > 0 then ends = call(callbacks.epoch, run, row) or ends end
        if ends and early.over(o.early_stop, run) then run.log.stopped = "early" end
      end
      if o.checkpoint then
        local due = o.checkpoint.every and i % o.checkpoint.every == 0 or not o.checkpoint.every and i % per_epoch == 0
        local stopping = (run.among or core).stopping()
        if due or ends or i == run.total or stopping then save(run, o) end
        if stopping then break end
      end
      if ends then
        run.log.stopped = run.log.stopped or "callback"
        break
      end
    end
    draw(nil)
  end

  -- among: what a member of a population has of it: judge(v) -> what early stop sees, stopping(), and, where the
  -- population keeps checkpoints, checkpoint = {take = function(state), every =, keep =}.
  local function fit(net, d, options, among)
    if type(net) ~= "function" and not is_network(net) then fail("expected a network, got %s", core.kind(net)) end
    check(what, options, names)
    local o = {}
    for key, v in pairs(options or {}) do o[key] = v end
    local set, seeds = data_set(d, "data"), seeds_of(o.seed)
    if set.n == 0 then fail "data: the data set has no examples" end
    if o.epochs and o.steps then fail "give epochs or steps, not both" end
    o.batch = whole("batch", o.batch, 1, 128)
    if o.drop_last and set.n < o.batch then fail("with drop_last, %d examples make no batch of %d", set.n, o.batch) end
    o.epochs, o.steps = whole("epochs", o.epochs, 0), whole("steps", o.steps, 0)
    o.early_stop, o.checkpoint = early.of(o.early_stop, what, "epochs"), checkpoint_of(o.checkpoint)
    if among and among.checkpoint then o.checkpoint = among.checkpoint end
    log.check(o.log)
    given.field(what, o, "lr", "a number", "number")
    given.field(what, o, "resume", "true, a path or a checkpoint", "string", "model", "boolean")
    o.skip = whole("skip", o.skip, 0, 0)
    if o.fork and (o.resume == nil or o.resume == true) then
      fail "fork = true goes from a checkpoint: resume = its path"
    end
    if o.resume == true and not (o.checkpoint and o.checkpoint.path) then
      fail "resume = true goes on from checkpoint.path; there is none"
    end
    if o.val then o.val = data_set(o.val, "val") end
    local callbacks, clip = callbacks_of(o.callbacks), clip_of(o.clip)
    local per_epoch = o.drop_last and set.n // o.batch or (set.n + o.batch - 1) // o.batch
    local total = o.steps or (o.epochs or 1) * per_epoch
    local opt = optimiser_of(o.optimiser, o, train)
    local lr = o.lr or opt.options.lr
    local rate_of = opt.options.schedule and not o.schedule and schedule_of(opt.options.schedule, lr, total)
      or schedule_of(o.schedule, lr, total)
    if not lr and type(rate_of) == "table" and rate_of.options.base == nil and rate_of.options.peak == nil then
      fail "there is no rate; give lr"
    end

    local base, params, buffers = opened(net, o, seeds)
    local run = { params = params, buffers = buffers, state = opt:init(params), step = o.skip, epoch = 1, sum = 0.0,
      count = 0, right = counts_right(o) and 0 or nil, log = { losses = {}, rates = {} }, since = 0, total = total,
      per_epoch = math.max(per_epoch, 1), epochs = -(-total // math.max(per_epoch, 1)), first = o.skip, before = 0.0,
      began = core.now(), about = description(o, seeds, opt, set.n, callbacks.averages),
      averages = callbacks.averages, measure = measure_of(net, o), among = among }
    function run.model() return core.with_values(base, merged(run.params, run.buffers)) end
    function run.replace(values) -- name -> tensor: what the run goes on from
      for name, t in pairs(values) do
        local list = run.params[name] and run.params or run.buffers[name] and run.buffers
        if not list then fail("replace: the network has no %s", name) end
        list[name] = t
      end
    end
    run.rate_of = rate_of
    local from = o.resume == true and o.checkpoint.path or o.resume
    if from and (o.resume ~= true or checkpoint.exists(from)) then
      resume(run, from, o.fork, o.fork and o.start)
      run.before = #run.log > 0 and run.log[#run.log].seconds or 0.0
    end
    if o.log then log.start(o.log, run.log) end
    local step, gradient = step_of(objective_of(net, o), opt, clip)

    -- Stops wait for the checkpoint after the step.
    local _ <close> = core.run((o.checkpoint and o.checkpoint.path) ~= nil)
    if run.step < total and not early.over(o.early_stop, run) then
      loop(net, set, run, o, step, gradient, opt, rate_of, seeds, callbacks)
    end
    if o.early_stop and o.early_stop.restore and run.best then
      return core.with_values(base, run.best), run.log
    end
    return run.model(), run.log
  end

  local digits = "local d = data.two_moons { n = 200, seed = 1 }\nlocal net = nn.mlp { 2, 16, 2 }\n"

  define("train.fit",
    "train.fit(net, data, {epochs = 1 or steps =, batch = 128, lr =, optimiser = \"adam\", schedule = \"constant\", "
    .. "seed = 0, …}) -> theta, log",
    "Trains a network on a data set and gives the model, and what happened: log[i] is {epoch, step, loss, accuracy, "
    .. "rate, val_loss, val_accuracy, seconds} of an epoch, log.losses and log.rates have a value for each step. The "
    .. "same options and seeds give the same bytes for any number of threads.\n"
    .. "  epochs or steps: how long; the last batch of an epoch may be shorter, unless drop_last\n"
    .. "  batch: examples of a batch\n"
    .. "  lr: the base rate; the optimiser's own where not given (Adam: 1e-3)\n"
    .. "  optimiser: train.sgd {…}, train.adam {…}, train.adamw {…}, one wrapped in train.sam or train.lookahead; or "
    .. "a name\n"
    .. "  schedule: train.cosine { warmup = 100 } and its relatives, whose base and total are filled in; a name; or a "
    .. "function of the step, from 0, that gives the rate\n"
    .. "  seed: a number, or {init =, order =, augment =, dropout =}, each of which changes nothing but its part\n"
    .. "  start: the model to begin with (default: net:init with seed.init)\n"
    .. "  only: what is trained, as in m:only; the rest stays as it is\n"
    .. "  augment: as in d:batches\n"
    .. "  val: a data set that loss and accuracy are measured on after each epoch\n"
    .. "  loss: \"cross_entropy\", \"mse\", \"bce\" or function(y, batch) -> mean loss; label_smoothing and "
    .. "ignore_index as in tensor:cross_entropy\n"
    .. "  clip: the longest norm of the gradient, or {norm =, value =}; weight_decay: of an optimiser that is a name\n"
    .. "  accuracy: false leaves the count of right answers out\n"
    .. "  callbacks: function(info) after each epoch, or {step = f, epoch = f}; info has step, epoch, loss, accuracy, "
    .. "rate, next_rate(), val_loss, val_accuracy, log, theta() (the model), replace{[name] = tensor} (what the run "
    .. "goes on from) and stop(). train.swa and other averages stand in the list as they are\n"
    .. "  early_stop: epochs without a better val_loss, or {patience = 5, metric = \"loss\" or \"accuracy\", "
    .. "min_delta = 0, restore = true}: the best model is what comes back\n"
    .. "  checkpoint: {path = \"run.safetensors\", every = steps, keep = folder}: the state of the run after every so "
    .. "many steps (default: after each epoch), at the end, and when the program is stopped; keep: the model of each "
    .. "too, as folder/step-000500.safetensors. Or a function, which is given the state at the end as a model, or "
    .. "{take = function, every = steps}\n"
    .. "  resume: true goes on from checkpoint.path if it is there, a path from that file, or such a model; the result "
    .. "has the bytes of a run that never stopped\n"
    .. "  fork: with resume, a child of that run: with the state of its optimiser, but other seeds where seed says so, "
    .. "and the parameters of start where it is given; with equal seeds it has the bytes of the run\n"
    .. "  skip: as if so many steps were done: rates, epochs and batches are those behind them, the optimiser begins "
    .. "anew\n"
    .. "  log: the path of a .csv or .jsonl file, a row an epoch\n"
    .. "  quiet: no progress line\n"
    .. "A loss that is NaN or infinite is an error that says at which step, and where the first such value is.",
    digits .. "local theta, log = train.fit(net, d, { epochs = 30, batch = 20, lr = 0.01, seed = 1 })\n"
    .. "print(eval.accuracy(net, d)(theta) > 0.95, #log)\n-- > true\t30",
    function(net, d, options) return fit(net, d, options) end)

  return fit
end
