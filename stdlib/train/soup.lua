-- SPDX-License-Identifier: Apache-2.0
-- Soups whose weights are learned (Wortsman et al. 2022, arXiv:2203.05482, section 3 and appendix).
return function(define, check, core)
  local mix = require "train.mix"(check, core)
  local what = "train.learned_soup"

  -- [n, groups] of numbers that sum to one over the models.
  local function weights_of(z, simplex)
    if simplex then return z:softmax(1) end
    return z
  end

  local function learned_soup(net, list, d, o)
    o = o or {}
    check(what, o, { "by", "steps", "batch", "lr", "optimiser", "simplex", "temperature", "loss", "seed" })
    if core.kind(list) == "table" and list.base ~= nil then
      mix.fail(what, "a soup is a mean of models; for task vectors on a base there is train.atlas")
    end
    local m = mix.opened(what, list)
    mix.runs(what, net)
    local set, steps = mix.set(what, d), mix.whole(what, o, "steps", 0, 200)
    local by = o.by == "model" and "task" or o.by or "task"
    local of, labels = mix.groups(what, net, m.names, by)
    local simplex, warm = o.simplex ~= false, o.temperature ~= false
    local kind = o.loss or "cross_entropy"
    local loss = mix.objective(net, kind)

    local function merged(z) return mix.sum(m.names, of, weights_of(z, simplex), nil, m.models) end
    local function objective(p, batches)
      local y = net(merged(p.z), batches[1], { mode = "eval" })
      return loss(p.beta and y * p.beta or y, batches[1])
    end
    local start = simplex and 0 or 1 / m.n
    local p = { z = tensor.full({ m.n, #labels }, start, { dtype = m.dtype }),
      beta = warm and tensor.full({ 1 }, 1, { dtype = m.dtype }) or nil }
    local feed = mix.feed({ set }, mix.whole(what, o, "batch", 1, 256), steps, mix.whole(what, o, "seed", 0, 0))
    local losses
    p, losses = mix.learn(what, p, objective, feed, { steps = steps,
      optimiser = mix.optimiser(what, o, function(a) return train.adamw { lr = a.lr, weight_decay = 0 } end, 0.1) })
    return mix.model(m, merged(p.z)), { weights = weights_of(p.z, simplex), groups = labels, losses = losses,
      temperature = p.beta and p.beta:totable()[1] or 1.0 }
  end

  define(what, "train.learned_soup(net, {a, b, …}, data, {by = \"model\", steps = 200, batch = 256, lr = 0.1, "
    .. "simplex = true, temperature = true, loss = \"cross_entropy\", seed = 0, optimiser =}) -> theta, info",
    "A learned soup (Wortsman et al. 2022, arXiv:2203.05482): the weights a and the temperature beta that minimise "
    .. "the cross entropy of softmax(beta f(x; sum_k a_k theta_k)) on held-out data, by AdamW through the mean "
    .. "itself. The weights are a softmax over the models, so that they stay a mean; all models are in memory at "
    .. "once. info has weights (a tensor [models, groups]), groups, temperature and losses.\n"
    .. "  by: \"model\": one weight for a model; \"layer\" or \"tensor\": one for each layer or tensor of it\n"
    .. "  simplex: false lets the weights be any numbers, from 1 / n on\n"
    .. "  temperature: false keeps beta at 1\n"
    .. "  loss: as in net:loss, or function(y, batch)",
    [[
local net, d = nn.mlp { 64, 128, 64, 10 }, data.digits()
local models = {}
for k, name in ipairs { "base", "low", "high" } do
  models[k] = model.load("examples/data/" .. name .. ".safetensors")
end
local theta, info = train.learned_soup(net, models, d.train, { steps = 40, temperature = false, seed = 1 })
local f = net:loss(d.train)
print(f(theta) < f(merge.linear(models)), math.abs(info.weights:sum() - 1) < 1e-6)
-- > true	true]], learned_soup)
end
