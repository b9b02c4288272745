-- SPDX-License-Identifier: Apache-2.0
-- What is learned about a merge: a few numbers, by gradients through the merge itself. This file has what
-- those methods share: models as flat tables of tensors, the groups of tensors that share a coefficient,
-- batches of one or several data sets, and the loop. Theta is an expression of the coefficients inside one
-- compiled step, so dL/dc = <dL/dtheta, tau> comes from the recording and nothing of theta's size is kept
-- but the gradient of a step.
return function(check, core)
  local leaves = require "train.leaves"(core)
  local set_of = require "train.set"(core)
  local loss = require "nn.loss"
  local net_of = require "nn.net"
  local mix = {}

  local given = require "train.given"(core)
  local function fail(what, text, ...)
    error(what .. ": " .. text:format(...), 0)
  end
  mix.fail = fail

  function mix.whole(what, o, field, least, default)
    local v = o[field]
    if v == nil then return default end
    if math.type(v) ~= "integer" or v < least then
      fail(what, "%s is a whole number, at least %d, got %s", field, least, tostring(v))
    end
    return v
  end

  function mix.number(what, o, field, default, low, high)
    local v = o[field]
    if v == nil then return default end
    if type(v) ~= "number" or not (v >= (low or -math.huge) and v <= (high or math.huge)) then
      fail(what, "%s is a number%s, got %s", field,
        low and (" from %g to %g"):format(low, high or math.huge) or "", tostring(v))
    end
    return v
  end

  -- ---- models ----

  -- The floating tensors of a model in memory, by name; half precisions are widened, as train.fit does.
  function mix.floats(what, m)
    if core.kind(m) ~= "model" then fail(what, "expected a model, got %s", core.kind(m)) end
    return leaves.map((leaves.flatten(m, what)), function(t)
      return t.dtype ~= "f64" and t.dtype ~= "f32" and t:to "f32" or t
    end)
  end

  -- Opens { base =, a, b, … }. own: a selector of tensors that are not merged, each task has those of its
  -- model. Gives n, names (of what is merged, in byte order), base, models, own (for each model).
  function mix.opened(what, list, own, wants_base)
    if core.kind(list) ~= "table" or #list == 0 then
      fail(what, "expected models: { %sa, b }, got %s", wants_base and "base = base, " or "",
        core.kind(list) == "table" and "an empty list" or core.kind(list))
    end
    check(what, list, { "base" }, true)
    if wants_base and list.base == nil then fail(what, "the task vectors need base = the model they start from") end
    local root = list.base or list[1]
    if core.kind(root) ~= "model" then
      fail(what, "%s is a %s, expected a model", list.base and "base" or "model 1", core.kind(root))
    end
    local m = { root = root:load(), n = #list, models = {}, own = {}, names = {}, dtype = "f32" }
    for k, x in ipairs(list) do m.models[k] = mix.floats(what, x) end
    m.base = list.base and mix.floats(what, list.base)
    local apart = {}
    if own ~= nil then
      for _, name in ipairs(list[1]:only(own):names()) do apart[name] = true end
      if next(apart) == nil then fail(what, "own selects no tensor") end
    end
    local first = m.base or m.models[1]
    for k, model in ipairs(m.models) do
      m.own[k] = {}
      for name in pairs(apart) do
        if not model[name] then fail(what, "model %d has no %s", k, name) end
        m.own[k][name] = model[name]
      end
    end
    for _, name in ipairs(leaves.names(first)) do
      if not apart[name] then
        m.names[#m.names + 1] = name
        if first[name].dtype == "f64" then m.dtype = "f64" end
        for k, model in ipairs(m.models) do
          if not model[name] then fail(what, "model %d has no %s", k, name) end
          if model[name].shape ~= first[name].shape then
            fail(what, "%s has another shape in model %d than in the %s", name, k, m.base and "base" or "first")
          end
        end
      end
    end
    return m
  end

  -- tau[k][name] of what was opened with a base.
  function mix.task_vectors(m)
    local tau = {}
    for k, model in ipairs(m.models) do
      tau[k] = {}
      for _, name in ipairs(m.names) do tau[k][name] = model[name] - m.base[name] end
    end
    return tau
  end

  -- values over the names of the root, as a model like it.
  function mix.model(m, values)
    local have, out = {}, {}
    for _, name in ipairs(m.root:names()) do have[name] = true end
    for name, t in pairs(values) do out[name] = have[name] and t or nil end
    return core.with_values(m.root, out)
  end

  -- ---- groups of tensors that share a coefficient ----

  -- name -> number of its group, and the groups' names in order. by: "task" (all are one), "layer" (as
  -- net:layers() sees them), "tensor".
  function mix.groups(what, net, names, by)
    local of, labels, index = {}, {}, {}
    local layers
    if by == "layer" then
      if not net_of.is(net) then fail(what, "by = \"layer\" needs a network of nn; a function has no layers") end
      layers = net_of.structure(net)
    elseif by ~= "task" and by ~= "tensor" then
      fail(what, "by is \"task\", \"layer\" or \"tensor\", got %s", given.shown(by))
    end
    local function put(name, label)
      if not index[label] then
        labels[#labels + 1] = label
        index[label] = #labels
      end
      of[name] = index[label]
    end
    if not layers then
      for _, name in ipairs(names) do put(name, by == "task" and "all" or name) end
      return of, labels
    end
    local wanted = {}
    for _, name in ipairs(names) do wanted[name] = true end
    for _, g in ipairs(layers.groups) do
      for _, name in ipairs(g.names) do
        if wanted[name] then
          put(name, g.name)
          wanted[name] = nil
        end
      end
    end
    for _, name in ipairs(names) do
      if wanted[name] then
        fail(what, "the network has no %s, so it is in no layer; by = \"tensor\" asks no network", name)
      end
    end
    return of, labels
  end

  -- sum_k c[k, group] x[k] for every name, on top of base where there is one. c may be recorded.
  function mix.sum(names, of, c, base, x)
    local out = {}
    for _, name in ipairs(names) do
      local t = base and base[name]
      for k = 1, #x do
        local part = c[{ k, of[name] }] * x[k][name]
        t = t and t + part or part
      end
      out[name] = t
    end
    return out
  end

  -- values, and the tensors that task k has of its own.
  function mix.with(values, own)
    if next(own) == nil then return values end
    local out = {}
    for name, t in pairs(values) do out[name] = t end
    for name, t in pairs(own) do out[name] = t end
    return out
  end

  -- ---- data ----

  -- A data set, { x =, y = } or a tensor, as something with batches.
  function mix.set(what, d, k)
    if core.kind(d) == "tensor" then d = { x = d } end
    return set_of(d) or fail(what, "data%s: expected a data set, { x =, y = } or a tensor, got %s",
      k and (" of task %d"):format(k) or "", core.kind(d))
  end

  -- A function that gives the next batches, one of each set, all of whole size.
  function mix.feed(sets, size, steps, seed)
    local streams = {}
    for k, set in ipairs(sets) do
      local next_of, state, i = set:batches { size = math.min(size, set.n), steps = steps, seed = seed,
        dropout_seed = seed, drop_last = true, start = 1 }
      streams[k] = function()
        local batch
        i, batch = next_of(state, i)
        return { x = batch.x, y = batch.y }
      end
    end
    return function()
      local list = {}
      for k, one in ipairs(streams) do list[k] = one() end
      return list
    end
  end

  -- ---- objectives ----

  -- "entropy" (of the predictions, no labels are needed), a loss as net:loss takes it, or function(y, batch).
  function mix.objective(net, kind)
    if kind == "entropy" then
      return function(y)
        if core.kind(y) ~= "tensor" then fail("train", "the network gives a %s, not a tensor", core.kind(y)) end
        return y:entropy():mean()
      end
    end
    return loss.loss_of(net_of.is(net) and net or {}, { loss = kind })
  end

  function mix.runs(what, net)
    if not net_of.is(net) and type(net) ~= "function" then
      fail(what, "expected a network, got %s", core.kind(net))
    end
    return net
  end

  -- One network for all tasks, or a list of one for each.
  function mix.networks(what, net, n)
    local list = {}
    for k = 1, n do
      list[k] = mix.runs(what, type(net) == "table" and not net_of.is(net) and net[k] or net)
    end
    return list
  end

  -- ---- the loop ----

  -- Minimises objective(p, batches) -> loss over the flat table p. Gives p and the loss before each step.
  -- o: steps, optimiser.
  function mix.learn(what, p, objective, feed, o)
    local opt, losses = o.optimiser, {}
    local state = opt:init(p)
    local function gradient(q, batches)
      return value_and_grad(function(at) return objective(at, batches) end, q)
    end
    local step = compile(function(q, s, batches, rate, t, phase)
      local value, g = gradient(q, batches)
      if opt.ascend then
        local _, there = gradient(opt:ascend(q, g), batches)
        g = there
      end
      local new, new_state = opt:apply(q, g, s, rate, t, phase)
      return new, new_state, value
    end, { donate = { 2 } })
    for t = 1, o.steps do
      local new, value
      new, state, value = step(p, state, feed(), opt:lr(t), t, opt:phase(t))
      if not (value == value and math.abs(value) < math.huge) then
        fail(what, "the loss is %s at step %d; a smaller rate may help", value ~= value and "nan" or tostring(value), t)
      end
      p, losses[t] = new, value
    end
    return p, losses
  end

  -- The optimiser of the options: one that was given, or Adam at lr.
  function mix.optimiser(what, o, make, lr)
    local opt = o.optimiser
    if opt ~= nil then
      if core.kind(opt) ~= "optimiser" then
        fail(what, "optimiser is one as train.adam makes, got %s", core.kind(opt))
      elseif o.lr ~= nil then
        fail(what, "lr belongs to the optimiser that is given")
      end
      return opt
    end
    return make { lr = mix.number(what, o, "lr", lr, 0) }
  end

  return mix
end
