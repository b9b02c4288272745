-- SPDX-License-Identifier: Apache-2.0
-- Training for probes: one parent run that is left at chosen steps, and children that go on from there with what is
-- to be different. train.fit does all of it; here are the states in between, and what a journal keeps of them.
return function(core)
  local journal = require "probe.journal"(core)
  local runs = {}

  local EVERY = 50 -- steps between two states of a training that may be kept

  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end
  runs.fail = fail
  local expect = require "expect"(core.kind)

  -- What a probe sets itself, and may not be given to it.
  local own = { "start", "seed", "resume", "checkpoint", "callbacks", "skip", "fork", "early_stop", "only" }

  -- Options of train.fit for all runs, steps of the whole schedule and of an epoch, as numbers.
  function runs.options(what, set, o)
    if o ~= nil and type(o) ~= "table" then fail(what, "train is a table of options of train.fit") end
    local out = {}
    for key, v in pairs(o or {}) do out[key] = v end
    for _, name in ipairs(own) do
      if out[name] ~= nil then fail(what, "train.%s is what the probe decides", name) end
    end
    if type(set) ~= "table" or core.kind(set.x) ~= "tensor" then
      fail(what, "expected a data set or { x =, y = }, got %s", core.kind(set))
    end
    expect(what .. ": train", out, { batch = "a number", epochs = "a number", steps = "a number" })
    local batch, n = out.batch or 128, type(set.n) == "number" and set.n or set.x.shape[1]
    local per_epoch = out.drop_last and n // batch or (n + batch - 1) // batch
    out.steps, out.epochs = out.steps or (out.epochs or 1) * per_epoch, nil
    if math.type(out.steps) ~= "integer" or out.steps < 1 then
      fail(what, "train: steps or epochs is a whole number")
    end
    return out, out.steps, per_epoch
  end

  -- Steps that are asked for: ascending, each once; unit: "steps" or "epochs".
  function runs.steps(what, at, unit, total, per_epoch)
    if type(at) == "number" then at = { at } end
    if type(at) ~= "table" or #at == 0 then fail(what, "at is a step or a list of steps") end
    if unit ~= nil and unit ~= "steps" and unit ~= "epochs" then fail(what, "unit is \"steps\" or \"epochs\"") end
    local seen, out = {}, {}
    for _, k in ipairs(at) do
      if type(k) ~= "number" then fail(what, "at is a step or a list of steps") end
      local step = unit == "epochs" and math.floor(k * per_epoch + 0.5) or math.tointeger(k)
      if not step or step < 0 or step > total then
        fail(what, "at: %s is not in the %d steps of the run", tostring(k), total)
      end
      if not seen[step] then out[#out + 1] = step end
      seen[step] = true
    end
    table.sort(out)
    return out
  end

  local kinds = { init = true, order = true, augment = true, dropout = true }

  -- Seeds of a child, where only what is listed differs from the parent's.
  function runs.child_seeds(what, seed, vary, child)
    local out = { init = seed, order = seed, augment = seed, dropout = seed }
    for _, name in ipairs(vary) do
      if not kinds[name] then fail(what, "vary: %s; expected order, augment, dropout", tostring(name)) end
      out[name] = seed * 10007 + 7919 * child
    end
    return out
  end

  local function with(o, more)
    local out = {}
    for key, v in pairs(o) do out[key] = v end
    for key, v in pairs(more) do out[key] = v end
    return out
  end
  runs.with = with

  -- train.fit as a loop of a journal: theta, and the state at the end.
  local function trained(loop, net, set, options)
    local last
    local o = with(options, { checkpoint = { every = loop.idle and math.maxinteger or EVERY, take = function(state)
      last = state
      loop.keep(function() return journal.parts(state) end)
    end } })
    if loop.state then o.resume, o.fork = model.new(loop.state), nil end
    return train.fit(net, set, o), last
  end

  -- A run from beginning to end, which journal j keeps under the key.
  function runs.fit(j, key, net, set, options)
    local parts = j.loop(key, function(loop) return journal.parts((trained(loop, net, set, options))) end)
    local seed = type(options.seed) == "table" and options.seed.init or options.seed
    return journal.whole(parts, (options.start or net:init { seed = seed }):load())
  end

  -- The run with these options, left at the given steps: an object with
  --   model(k)      the parameters after k steps
  --   child(k, o)   a run from there to the end: seeds, start (other parameters there), fresh (the optimiser begins
  --                 anew), key (in the journal j)
  -- Asked for ascending steps it trains each of them once.
  function runs.parent(j, net, set, options, seeds, start)
    local states, models, parent = {}, {}, {}
    models[0] = (start or net:init { seed = seeds.init }):load()

    local function reach(k)
      if states[k] then return end
      local from = 0
      for step in pairs(states) do from = step < k and math.max(from, step) or from end
      local got = j.loop({ "parent", k }, function(loop)
        local theta, state = trained(loop, net, set, with(options, { seed = seeds, start = models[0],
          resume = states[from],
          callbacks = { step = function(info) if info.step >= k then info.stop() end end } }))
        return { model = journal.parts(theta), state = journal.parts(state) }
      end)
      states[k], models[k] = model.new(got.state), journal.whole(got.model, models[0])
    end

    function parent.model(k)
      if not models[k] then reach(k) end
      return models[k]
    end

    function parent.child(k, o)
      if k == options.steps then return o.start or parent.model(k) end
      local how = { seed = o.seeds or seeds, start = o.start }
      if o.fresh or k == 0 then
        how.start, how.skip = o.start or parent.model(k), k
      else
        reach(k)
        how.resume, how.fork = states[k], true
      end
      return runs.fit(j, o.key, net, set, with(options, how))
    end
    return parent
  end

  -- Losses by name over the data sets of `on`, or of a single one; the loss is that of training.
  function runs.losses(what, net, on, size, fit)
    if on == nil then fail(what, "on = {test = data, …}: what models are measured on") end
    if type(on) ~= "table" then fail(what, "on is %s, expected a data set or {test = data, …}", expect.called(on)) end
    local sets, names, out = on, {}, {}
    if core.kind(on.x) == "tensor" then sets = { data = on } end
    for name in pairs(sets) do names[#names + 1] = name end
    table.sort(names)
    if #names == 0 then fail(what, "on holds no data") end
    for i, name in ipairs(names) do out[i] = { name = name, f = net:loss(sets[name], { batch = size, loss = fit.loss,
      ignore_index = fit.ignore_index }) } end
    return out
  end

  return runs
end
