-- SPDX-License-Identifier: Apache-2.0
-- A mask shared by all task vectors, learned where it is relaxed (Tang et al. 2023, arXiv:2312.06173; the
-- relaxation: Maddison et al. 2017, arXiv:1611.00712): entries on which tasks disturb one another are left out.
return function(define, check, core)
  local mix = require "train.mix"(check, core)
  local leaves = require "train.leaves"(core)
  local hash = require "nn.net".hash
  local what = "train.concrete"

  -- Uniform numbers for a step, by name; never 0 nor 1.
  local function uniform(m, seed, step)
    local out = {}
    for _, name in ipairs(m.names) do
      local t = m.base[name]
      local u = tensor.rand(t.shape, (hash(name) ~ (seed * 1000003 + step)) & 0x7fffffffffff, { dtype = t.dtype })
      out[name] = u:clamp(1e-6, 1 - 1e-6)
    end
    return out
  end

  -- sigmoid((logit(u) + x) / temperature) for each tensor; without u at the median of the noise.
  local function relaxed(x, u, temperature)
    return leaves.map(x, function(t, name)
      local noise = u and u[name]
      return ((noise and (noise / (1 - noise)):log() + t or t) / temperature):sigmoid()
    end)
  end

  local function options_of(o)
    check(what, o, { "by", "steps", "batch", "lr", "mask_lr", "learn", "init", "low", "high", "logits", "temperature",
      "rescale", "hard", "own", "seed" })
    local p = { steps = mix.whole(what, o, "steps", 0, 2000), batch = mix.whole(what, o, "batch", 1, 16),
      lr = mix.number(what, o, "lr", 1e-3, 0), mask_lr = mix.number(what, o, "mask_lr", 1e-3, 0),
      init = mix.number(what, o, "init", 0.3),
      low = mix.number(what, o, "low", 0), high = mix.number(what, o, "high", 1),
      logits = mix.number(what, o, "logits", 0), temperature = mix.number(what, o, "temperature", 0.5, 1e-6),
      seed = mix.whole(what, o, "seed", 0, 0),
      rescale = (o.rescale == nil or o.rescale == true) and "tensor" or o.rescale,
      learn = o.learn or false, hard = o.hard or false, by = o.by or "task" }
    if p.rescale and p.rescale ~= "tensor" and p.rescale ~= "model" then
      mix.fail(what, "rescale is \"tensor\", \"model\" or false, got %s", tostring(o.rescale))
    end
    if p.low >= p.high then mix.fail(what, "low is not below high") end
    return p
  end

  local function concrete(net, list, inputs, o)
    o = o or {}
    local p = options_of(o)
    local m = mix.opened(what, list, o.own, true)
    local nets, sets, total = mix.networks(what, net, m.n), {}, 0
    if core.kind(inputs) ~= "table" or #inputs ~= m.n then
      mix.fail(what, "expected a list of data, one for each of the %d models", m.n)
    end
    for k, d in ipairs(inputs) do sets[k] = mix.set(what, d, k) end
    for _, name in ipairs(m.names) do total = total + m.base[name]:numel() end
    local of, labels = mix.groups(what, nets[1], m.names, p.by)
    local tau = mix.task_vectors(m)

    local function mean_of(mask)
      local sum = 0
      for _, name in ipairs(m.names) do sum = sum + mask[name]:sum() end
      return sum / total
    end
    local function merged(c, mask)
      local change = mix.sum(m.names, of, c:clamp(p.low, p.high), nil, tau)
      local whole, out = p.rescale == "model" and mean_of(mask), {}
      for _, name in ipairs(m.names) do
        local share = whole or p.rescale and mask[name]:sum() / m.base[name]:numel() or 1
        if share ~= 1 then share = tensor.maximum(share, 1e-12) end -- where nothing is left, nothing is added
        out[name] = m.base[name] + change[name] * mask[name] / share
      end
      return out
    end
    local entropy = mix.objective(nil, "entropy")
    local function loss(c, x, u, batches)
      local theta, sum = merged(c, relaxed(x, u, p.temperature)), nil
      for k, batch in ipairs(batches) do
        local h = entropy((nets[k](mix.with(theta, m.own[k]), batch, { mode = "eval" })))
        sum = sum and sum + h or h
      end
      return sum
    end

    -- One step of the coefficients under this mask, then one of the mask under the new coefficients.
    local inner, outer = train.adam { lr = p.lr }, train.adam { lr = p.mask_lr }
    local step = compile(function(c, c_state, x, x_state, u, batches, t)
      if p.learn then
        local _, g = value_and_grad(function(q) return loss(q.c, x, u, batches) end, c)
        c, c_state = inner:apply(c, g, c_state, p.lr, t, "")
      end
      local value, g = value_and_grad(function(y) return loss(c.c, y, u, batches) end, x)
      x, x_state = outer:apply(x, g, x_state, p.mask_lr, t, "")
      return c, c_state, x, x_state, value
    end)
    local c = { c = tensor.full({ m.n, #labels }, p.init, { dtype = m.dtype }) }
    local x = {}
    for _, name in ipairs(m.names) do x[name] = m.base[name] * 0 + p.logits end
    local c_state, x_state, losses = inner:init(c), outer:init(x), {}
    local feed = mix.feed(sets, p.batch, p.steps, p.seed)
    for t = 1, p.steps do
      local value
      c, c_state, x, x_state, value = step(c, c_state, x, x_state, uniform(m, p.seed, t), feed(), t)
      if not (value == value and math.abs(value) < math.huge) then
        mix.fail(what, "the loss is %s at step %d; a smaller rate may help", tostring(value), t)
      end
      losses[t] = value
    end

    local mask = relaxed(x, nil, p.temperature)
    if p.hard then mask = leaves.map(x, function(t) return tensor.gt(t, 0):to(t.dtype) end) end
    local share = mean_of(mask)
    if p.rescale and share == 0 then mix.fail(what, "the mask leaves nothing; more logits or fewer steps may help") end
    local theta, tasks, rows = merged(c.c, mask), {}, {}
    for k = 1, m.n do tasks[k] = mix.model(m, mix.with(theta, m.own[k])) end
    for i, name in ipairs(m.names) do rows[i] = { name, mask[name] } end
    return mix.model(m, theta), { mask = model.new(rows, { mass = 0 }), density = share, losses = losses, tasks = tasks,
      coefficients = c.c:clamp(p.low, p.high), groups = labels }
  end

  define(what, "train.concrete(net, {base =, a, b, …}, {data_a, data_b, …}, {learn = false, by = \"task\", steps = "
    .. "2000, batch = 16, mask_lr = 1e-3, lr = 1e-3, init = 0.3, low = 0, high = 1, logits = 0, temperature = 0.5, "
    .. "rescale = \"tensor\", hard = false, own =, seed = 0}) -> theta, info",
    "Concrete subspace learning (Tang et al. 2023, arXiv:2312.06173): theta = base + m * sum_k c_k tau_k / mean(m), "
    .. "with one mask m for all task vectors that minimises the entropy of the predictions, summed over tasks, on "
    .. "inputs without labels. While it is learned the mask is a relaxed Bernoulli variable, sigmoid((log(u / (1 - "
    .. "u)) + x) / temperature) with new uniform u in each step; in the result it is sigmoid(x / temperature). learn "
    .. "= false is Concrete Task Arithmetic; learn = true is Concrete AdaMerging, where each step first moves the "
    .. "coefficients under the mask of the step, and then the mask under the new coefficients (the second does not "
    .. "differentiate through the first). info has mask (a model of mass 0), density (its mean), coefficients, "
    .. "groups, losses and tasks as in train.ada_merging.\n"
    .. "  by, init, low, high, own, batch: as in train.ada_merging; lr: of the coefficients, mask_lr: of the mask\n"
    .. "  logits: where x starts\n"
    .. "  rescale: divides by the mean of the mask, tensor by tensor or of the whole model; false: does not\n"
    .. "  hard: the result's mask is 1 where x > 0, else 0\n"
    .. "Adam, its rates, steps, scaling 0.3, logits, temperature and the mean by tensor are those of the official "
    .. "repository (tanganke/subspace_fusion), whose result takes one more random mask where this takes the noise's "
    .. "median. Small networks need fewer steps and a larger mask_lr.",
    [[
local net, d, m = nn.mlp { 64, 128, 64, 10 }, data.digits().test, {}
for _, name in ipairs { "base", "low", "high" } do m[name] = model.load("examples/data/" .. name .. ".safetensors") end
local tasks = { d:classes_only { 0, 1, 2, 3, 4 }, d:classes_only { 5, 6, 7, 8, 9 } }
local theta, info = train.concrete(net, { base = m.base, m.low, m.high }, tasks,
  { steps = 30, mask_lr = 0.1, seed = 1 })
print(info.losses[30] < info.losses[1], info.mask:mass(), info.density > 0 and info.density < 1)
-- > true	0.0	true]], concrete)
end
