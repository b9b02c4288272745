-- SPDX-License-Identifier: Apache-2.0
-- Task vectors scaled block by block, with coefficients learned on a target task (Zhang et al. 2024,
-- arXiv:2407.02880): base + sum_k L_k tau_k, where L_k is diagonal and constant on each block.
return function(define, check, core)
  local mix = require "train.mix"(check, core)
  local hash = require "nn.net".hash
  local what = "train.atlas"

  -- Each task vector as `count` of them, among which its entries are dealt at random, the same way for all.
  local function dealt(tau, names, count, seed)
    if count == 1 then return tau end
    local out = {}
    for i = 1, #tau * count do out[i] = {} end
    for _, name in ipairs(names) do
      local t = tau[1][name]
      local hand = (tensor.rand(t.shape, (seed ~ hash(name)) & 0x7fffffffffff) * count):floor():clamp(0, count - 1)
      for j = 1, count do
        local mask = tensor.eq(hand, j - 1):to(t.dtype)
        for k = 1, #tau do out[(k - 1) * count + j][name] = tau[k][name] * mask end
      end
    end
    return out
  end

  local function atlas(net, list, d, o)
    o = o or {}
    check(what, o, { "by", "partitions", "objective", "steps", "batch", "lr", "optimiser", "init", "seed" })
    local m = mix.opened(what, list, nil, true)
    mix.runs(what, net)
    local set, seed = mix.set(what, d), mix.whole(what, o, "seed", 0, 0)
    local steps, count = mix.whole(what, o, "steps", 0, 200), mix.whole(what, o, "partitions", 1, 1)
    local of, labels = mix.groups(what, net, m.names, o.by or "tensor")
    local tau = dealt(mix.task_vectors(m), m.names, count, seed)
    local loss = mix.objective(net, o.objective or "cross_entropy")

    local function merged(c) return mix.sum(m.names, of, c, m.base, tau) end
    local function objective(p, batches)
      return loss((net(merged(p.c), batches[1], { mode = "eval" })), batches[1])
    end
    local c = tensor.full({ #tau, #labels }, mix.number(what, o, "init", 0), { dtype = m.dtype })
    local feed = mix.feed({ set }, mix.whole(what, o, "batch", 1, 128), steps, seed)
    local function annealed(p)
      return train.adamw { schedule = train.cosine { base = p.lr, total = math.max(steps, 1) }, weight_decay = 0.1,
        clip = 1 }
    end
    local p, losses = mix.learn(what, { c = c }, objective, feed,
      { steps = steps, optimiser = mix.optimiser(what, o, annealed, 0.1) })
    local coefficients = count > 1 and p.c:reshape { m.n, count, #labels } or p.c
    return mix.model(m, merged(p.c)), { coefficients = coefficients, groups = labels, losses = losses }
  end

  define(what, "train.atlas(net, {base =, a, b, …}, data, {by = \"tensor\", partitions = 1, objective = "
    .. "\"cross_entropy\", steps = 200, batch = 128, lr = 0.1, init = 0, seed = 0, optimiser =}) -> theta, info",
    "aTLAS (Zhang et al. 2024, arXiv:2407.02880): knowledge composition by anisotropic scaling. theta = base + sum_k "
    .. "L_k tau_k; L_k is a diagonal matrix with one coefficient for each block of parameters, and the coefficients "
    .. "are learned on data of the target task. Tens of numbers are learned, so few examples are enough, "
    .. "and the task vectors of other tasks serve as a basis. The defaults are those of the official few-shot script "
    .. "(fredzzhang/atlas): AdamW with weight decay 0.1, a rate that falls from lr along a cosine, gradients clipped "
    .. "to norm 1, coefficients that start at 0. info has coefficients (a tensor [models, blocks], or "
    .. "[models, partitions, blocks]), groups (the blocks' names) and losses.\n"
    .. "  by: the blocks: \"tensor\", \"layer\" or \"task\" (one number for each model)\n"
    .. "  partitions: the entries of each block are dealt into so many parts at random, each with a coefficient of "
    .. "its own (aTLAS x K); takes as many times the memory\n"
    .. "  objective: a loss as in net:loss, \"entropy\" for data without labels, or function(y, batch)",
    [[
local net, d, models = nn.mlp { 64, 128, 64, 10 }, data.digits(), {}
for _, name in ipairs { "base", "low", "high" } do
  models[name] = model.load("examples/data/" .. name .. ".safetensors")
end
local few = d.train:take(200)
local theta = train.atlas(net, { base = models.base, models.low, models.high }, few, { steps = 40, seed = 1 })
local f = net:loss(d.test)
print(f(theta) < f(models.base))
-- > true]], atlas)
end
