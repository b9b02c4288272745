-- SPDX-License-Identifier: Apache-2.0
-- Merging coefficients from inputs without labels: those that make the merged network sure of what it says
-- (Yang et al. 2024, arXiv:2310.02575). Low entropy stands in for low loss.
return function(define, check, core)
  local mix = require "train.mix"(check, core)
  local what = "train.ada_merging"

  -- What TIES keeps of the task vectors: for each the largest entries of the whole vector, then those whose
  -- sign is that of the sum over tasks (where that is zero: of most entries of the model).
  local function ties_of(m, list, tau, density)
    for k, x in ipairs(list) do
      local kept = mix.floats(what, merge.ties { base = list.base, x, density = density })
      for _, name in ipairs(m.names) do
        tau[k][name] = tau[k][name] * tensor.ne(kept[name], m.base[name]):to(tau[k][name].dtype)
      end
    end
    local signs, balance = {}, 0
    for _, name in ipairs(m.names) do
      local sum = tau[1][name]
      for k = 2, m.n do sum = sum + tau[k][name] end
      signs[name] = sum:sign()
      balance = balance + signs[name]:sum()
    end
    local most = balance >= 0 and 1 or -1
    for _, name in ipairs(m.names) do
      local s = signs[name]
      s = s + most * tensor.eq(s, 0):to(s.dtype)
      for k = 1, m.n do
        local t = tau[k][name]
        tau[k][name] = t * tensor.gt(t * s, 0):to(t.dtype)
      end
    end
  end

  local function ada_merging(net, list, inputs, o)
    o = o or {}
    check(what, o, { "by", "steps", "batch", "lr", "optimiser", "init", "low", "high", "density", "own", "seed" })
    local m = mix.opened(what, list, o.own, true)
    local nets, sets = mix.networks(what, net, m.n), {}
    if core.kind(inputs) ~= "table" or #inputs ~= m.n then
      mix.fail(what, "expected a list of data, one for each of the %d models", m.n)
    end
    for k, d in ipairs(inputs) do sets[k] = mix.set(what, d, k) end
    local low, high = mix.number(what, o, "low", 0), mix.number(what, o, "high", 1)
    if low >= high then mix.fail(what, "low is not below high") end
    local steps = mix.whole(what, o, "steps", 0, 500)
    local of, labels = mix.groups(what, nets[1], m.names, o.by or "layer")
    local tau = mix.task_vectors(m)
    if o.density then ties_of(m, list, tau, mix.number(what, o, "density", nil, 0, 1)) end

    local function merged(c) return mix.sum(m.names, of, c:clamp(low, high), m.base, tau) end
    local entropy = mix.objective(nil, "entropy")
    local function objective(p, batches)
      local theta, sum = merged(p.c), nil
      for k, batch in ipairs(batches) do
        local h = entropy((nets[k](mix.with(theta, m.own[k]), batch, { mode = "eval" })))
        sum = sum and sum + h or h
      end
      return sum
    end
    local c = tensor.full({ m.n, #labels }, mix.number(what, o, "init", 0.3), { dtype = m.dtype })
    local feed = mix.feed(sets, mix.whole(what, o, "batch", 1, 16), steps, mix.whole(what, o, "seed", 0, 0))
    local p, losses = mix.learn(what, { c = c }, objective, feed,
      { steps = steps, optimiser = mix.optimiser(what, o, train.adam, 1e-3) })
    local theta, tasks = merged(p.c), {}
    for k = 1, m.n do tasks[k] = mix.model(m, mix.with(theta, m.own[k])) end
    return mix.model(m, theta), { coefficients = p.c:clamp(low, high), groups = labels, losses = losses,
      tasks = tasks }
  end

  define(what, "train.ada_merging(net, {base =, a, b, …}, {data_a, data_b, …}, {by = \"layer\", steps = 500, "
    .. "batch = 16, lr = 1e-3, init = 0.3, low = 0, high = 1, density =, own =, seed = 0, optimiser =}) -> theta, info",
    "AdaMerging (Yang et al. 2024, arXiv:2310.02575): theta = base + sum_k c[k, group] (theta_k - base), with the "
    .. "coefficients that minimise the entropy of the predictions, summed over tasks, on inputs of each task without "
    .. "labels. The gradient of a coefficient is <dL/dtheta, tau_k> over its group, as it comes from the recorded "
    .. "merge. info has coefficients (a tensor [tasks, groups]), groups (their names), losses (a value a step) and "
    .. "tasks (a model for each task; they differ where own is given).\n"
    .. "  by: what shares a coefficient: \"task\" (a number for each model), \"layer\" (the network's layers, "
    .. "embedding and head are groups of their own), \"tensor\" (which the paper's code calls layer-wise)\n"
    .. "  init: where the coefficients start\n"
    .. "  low, high: they are clamped in the merge, so a coefficient outside gets no gradient\n"
    .. "  density: AdaMerging++; first TIES trims each task vector to this share of its entries (0.2 in the paper) and "
    .. "keeps the entries whose sign is elected\n"
    .. "  own: a selector of tensors that are not merged, as the heads of tasks with classes of their own; net may be "
    .. "a list of networks, one for each task\n"
    .. "  batch: examples of each task in a step",
    [[
local net, d, models = nn.mlp { 64, 128, 64, 10 }, data.digits().test, {}
for _, name in ipairs { "base", "low", "high" } do
  models[name] = model.load("examples/data/" .. name .. ".safetensors")
end
local tasks = { d:classes_only { 0, 1, 2, 3, 4 }, d:classes_only { 5, 6, 7, 8, 9 } }
local theta, info = train.ada_merging(net, { base = models.base, models.low, models.high }, tasks,
  { steps = 60, lr = 0.02, seed = 1 })
print(table.concat(info.groups, " "), info.losses[60] < info.losses[1])
-- > fc1 fc2 fc3	true]], ada_merging)
end
