-- SPDX-License-Identifier: Apache-2.0
-- Optimisers as expressions. A rule says for one tensor what becomes of it and of what is kept beside
-- it; it is written over the rows of the operation table, so the same lines run on tensors at hand and
-- inside a recorded function, where the executor fuses them. Nothing here knows whether the rate and
-- the step number are numbers or recorded: both enter a compiled step as arguments. What must be
-- decided before (the first step, whether Lookahead synchronises) is the phase, a text, so that each
-- phase is a recording of its own.
return function(define, check, core)
  local leaves = require "train.leaves"(core)
  local given = require "train.given"(core)
  local Opt = {}
  local metatable = { __index = Opt, __name = "optimiser", __metatable = false }
  metatable.__tostring = function(self) return self.title end

  local function at_least(name, o, field, least)
    local v = o[field]
    if v ~= nil and (type(v) ~= "number" or v < least or v ~= v) then
      error(("%s: %s must be a number, at least %s, got %s"):format(name, field, tostring(least),
        type(v) == "number" and v or core.kind(v)), 4)
    end
  end

  -- ---- gradients ----

  local function sum_of_squares(g)
    local sum = 0.0
    for _, name in ipairs(leaves.names(g)) do
      local t = g[name]
      sum = sum + (type(t) == "number" and t * t or t:dot(t))
    end
    return sum
  end

  local function least(x, y)
    return type(x) == "number" and math.min(x, y) or x:minimum(y)
  end

  local function root(x)
    return type(x) == "number" and x ^ 0.5 or x:sqrt()
  end

  -- torch.nn.utils.clip_grad_norm_: by max / (norm + 1e-6), never up.
  local function clip_norm(g, max)
    local norm = root(sum_of_squares(g))
    local factor = least(max / (norm + 1e-6), 1)
    return leaves.map(g, function(t) return factor * t end), norm
  end

  local function clip_value(g, most)
    return leaves.map(g, function(t)
      return type(t) == "number" and math.max(-most, math.min(most, t)) or t:clamp(-most, most)
    end)
  end

  local function bound(name, v)
    local of = core.kind(v)
    if of == "number" or of == "tensor" then return v end
    error(("%s: expected a number as the bound, got %s"):format(name, of), 3)
  end

  define("train.clip_norm", "train.clip_norm(g, max) -> g, norm",
    "The gradient g (a tensor, a model or a table of tensors), scaled down as a whole to the norm max where it is "
    .. "longer: by min(1, max / (norm + 1e-6)), as in PyTorch; and the norm before. Works on recorded values too.",
    "local g, norm = train.clip_norm({ w = tensor { 3, 4 } }, 1)\nprint(norm, g.w:norm() < 1)\n-- > 5.0\ttrue",
    function(g, max)
      local flat, again = leaves.flatten(g, "train.clip_norm")
      local clipped, norm = clip_norm(flat, bound("train.clip_norm", max))
      return again(clipped), norm
    end)

  define("train.clip_value", "train.clip_value(g, most) -> g",
    "The gradient with every element brought into [-most, most].",
    "print(train.clip_value(tensor { -3, 0.5 }, 1))\n-- > f32[2]\n-- > [-1.0000,  0.5000]",
    function(g, most)
      local flat, again = leaves.flatten(g, "train.clip_value")
      return again(clip_value(flat, bound("train.clip_value", most)))
    end)

  -- ---- what every optimiser does ----

  -- The factor of the weight decay for a tensor.
  local function decay_of(self, name, t)
    local which = self.options.decay
    if which == nil or which == "all" then return 1 end
    if which == "weights" then return type(t) ~= "number" and #t.shape >= 2 and 1 or 0 end
    local factor = which(name, t)
    return factor == true and 1 or factor or 0
  end

  local function zeros(t)
    return type(t) == "number" and 0.0 or tensor.zeros_like(t)
  end

  function Opt:init(theta)
    local flat, state = leaves.flatten(theta, self.name), {}
    for _, slot in ipairs(self.rule.slots(self.options)) do
      state[slot] = leaves.map(flat, zeros)
    end
    return state
  end

  -- A text that tells apart the steps that are computed in different ways.
  function Opt:phase(t)
    return self.rule.phase and self.rule.phase(self.options, t) or ""
  end

  function Opt:lr(t)
    local o = self.options
    return o.schedule and o.schedule(t - 1) or o.lr
  end

  local function same_shape(x, y)
    if type(x) == "number" or type(y) == "number" then return type(x) == type(y) end
    return x.shape == y.shape
  end

  local function check_gradient(self, w, g)
    for _, name in ipairs(leaves.names(w)) do
      if g[name] == nil then
        error(("%s: the gradient has no %s"):format(self.name, name), 3)
      elseif not same_shape(w[name], g[name]) then
        error(("%s: the gradient of %s has another shape: %s, expected %s"):format(self.name, name,
          tostring(type(g[name]) == "number" and "a number" or g[name].shape),
          tostring(type(w[name]) == "number" and "a number" or w[name].shape)), 3)
      end
    end
  end

  -- On flat tables.
  function Opt:apply(w, g, state, rate, t, phase)
    local o, rule = self.options, self.rule
    if o.clip_value then g = clip_value(g, o.clip_value) end
    if o.clip then g = clip_norm(g, o.clip) end
    local k = rule.numbers(o, rate, t, phase)
    local new_w, new_state = {}, {}
    for slot in pairs(state) do new_state[slot] = {} end
    for _, name in ipairs(leaves.names(w)) do
      local s = {}
      for slot, values in pairs(state) do s[slot] = values[name] end
      local decay = (o.weight_decay or 0) * ((o.weight_decay or 0) ~= 0 and decay_of(self, name, w[name]) or 0)
      new_w[name], s = rule.leaf(o, w[name], g[name], s, k, decay)
      for slot in pairs(state) do new_state[slot][name] = s[slot] end
    end
    return new_w, new_state
  end

  function Opt:update(theta, g, state, rate, t, phase)
    local w, again = leaves.flatten(theta, self.name)
    local flat_g = leaves.flatten(g, self.name)
    check_gradient(self, w, flat_g)
    if phase == nil then
      if type(t) ~= "number" then
        error(self.name .. ":update: the step is recorded; give opt:phase(t) too, which is decided before", 2)
      end
      phase = self:phase(t)
    end
    local new, new_state = self:apply(w, flat_g, state, rate, t, phase)
    return again(new), new_state
  end

  -- The gradient of a function, twice where the optimiser wants that.
  local function two_gradients(self, theta, f)
    local g = f(theta)
    if not self.ascend then return g end
    return f(self:ascend(theta, g))
  end

  function Opt:step(theta, g)
    if type(g) == "function" then
      g = two_gradients(self, theta, g)
    elseif self.ascend then
      error(self.name .. ":step: two gradients are needed; give a function of theta that computes one", 2)
    end
    local w, again = leaves.flatten(theta, self.name)
    local flat_g = leaves.flatten(g, self.name)
    check_gradient(self, w, flat_g)
    if not self.state then self.state, self.t = self:init(theta), 0 end
    local t = self.t + 1
    local rate = self:lr(t)
    if not rate then error(self.name .. ":step: there is no rate; give lr or schedule", 2) end
    self.compiled = self.compiled or compile(function(...) return self:apply(...) end, { donate = { 3 } })
    local new
    new, self.state = self.compiled(w, flat_g, self.state, rate, t, self:phase(t))
    self.t = t
    return again(new)
  end

  for _, name in ipairs { "init", "update", "step" } do
    Opt[name] = given.of("optimiser", "optimiser:" .. name, Opt[name])
  end

  local function make(name, o, rule)
    local words = {}
    for _, key in ipairs(leaves.names(o or {})) do
      local v = o[key]
      words[#words + 1] = key .. " = " .. (type(v) == "function" and "function" or tostring(v))
    end
    return setmetatable({ name = name, options = o or {}, rule = rule,
      title = name .. " { " .. table.concat(words, ", ") .. " }" }, metatable)
  end

  local shared = { "lr", "schedule", "weight_decay", "decay", "clip", "clip_value" }

  local function options(name, o, own)
    local names = { table.unpack(shared) }
    for _, field in ipairs(own) do names[#names + 1] = field end
    check(name, o, names)
    o = o or {}
    for _, field in ipairs { "lr", "weight_decay", "clip", "clip_value", "eps", "momentum" } do
      at_least(name, o, field, 0)
    end
    local d = o.decay
    if d ~= nil and d ~= "all" and d ~= "weights" and type(d) ~= "function" then
      error(("%s: decay is \"all\", \"weights\" or function(name, tensor), got %s"):format(name, tostring(d)), 3)
    end
    if o.schedule ~= nil and type(o.schedule) ~= "function" and core.kind(o.schedule) ~= "rate" then
      error(("%s: schedule is a function of the step or one of train.cosine …, got %s"):format(name,
        core.kind(o.schedule)), 3)
    end
    local copy = {}
    for key, v in pairs(o) do copy[key] = v end
    return copy
  end

  -- ---- SGD ----

  local sgd = {
    slots = function(o) return (o.momentum or 0) ~= 0 and { "momentum" } or {} end,
    phase = function(o, t) return t == 1 and (o.dampening or 0) ~= 0 and "first" or "" end,
    numbers = function(o, rate, _, phase)
      return { rate = rate, new = phase == "first" and 1 or 1 - (o.dampening or 0) }
    end,
    leaf = function(o, w, g, s, k, decay)
      if decay ~= 0 then g = g + decay * w end
      if not s.momentum then return w - k.rate * g, s end
      local buffer = o.momentum * s.momentum + (k.new == 1 and g or k.new * g)
      return w - k.rate * (o.nesterov and g + o.momentum * buffer or buffer), { momentum = buffer }
    end,
  }

  local common = "Options of all optimisers: lr; schedule (train.cosine …, or a function of the step from 0) in its "
    .. "place; weight_decay; decay: which tensors that is for, \"all\" (default), \"weights\" (those of two and more "
    .. "dimensions: no biases, no norms) or function(name, tensor) -> true, false or a factor; clip: the gradient "
    .. "as a whole to this norm (train.clip_norm), clip_value: each element. opt:step(theta, g) is one update of a "
    .. "tensor, model or table of tensors and keeps the state; opt:init(theta) and opt:update(theta, g, state, rate, "
    .. "t) are the same without memory (t from 1), for recorded functions. Where theta has been recorded, t may be "
    .. "so too, and opt:phase(t) of the number follows it."

  local function define_sgd(o)
    local name = "train.sgd"
    o = options(name, o, { "momentum", "dampening", "nesterov" })
    if o.nesterov and ((o.momentum or 0) == 0 or (o.dampening or 0) ~= 0) then
      error(name .. ": nesterov needs a momentum and no dampening", 2)
    end
    return make(name, o, sgd)
  end
  define("train.sgd", "train.sgd {lr =, momentum = 0, dampening = 0, nesterov = false, weight_decay = 0, …} -> "
    .. "optimiser",
    "Stochastic gradient descent as torch.optim.SGD defines it: d = g + weight_decay w; buffer = momentum buffer + "
    .. "(1 - dampening) d, at first d itself; w = w - lr buffer, or w - lr (d + momentum buffer) with nesterov "
    .. "(Nesterov 1983; Sutskever et al. 2013). " .. common,
    "local opt = train.sgd { lr = 0.1 }\nprint(opt:step(tensor { 1, 2 }, tensor { 10, 0 }))\n-- > f32[2]\n-- > "
      .. "[0., 2.]",
    define_sgd)

  -- ---- Adam ----

  local function adam_numbers(o, rate, t)
    local b1, b2 = o.betas[1], o.betas[2]
    return { rate = rate, b1 = b1, b2 = b2, step = rate / (1 - b1 ^ t), scale = root(1 - b2 ^ t) }
  end

  local function adam_step(o, w, g, s, k)
    local m = s.m + (1 - k.b1) * (g - s.m)
    local v = k.b2 * s.v + (1 - k.b2) * (g * g)
    return w - k.step * (m / (root(v) / k.scale + o.eps)), { m = m, v = v }
  end

  local function moments() return { "m", "v" } end

  local adam = { slots = moments, numbers = adam_numbers, leaf = function(o, w, g, s, k, decay)
    return adam_step(o, w, decay ~= 0 and g + decay * w or g, s, k)
  end }

  local adamw = { slots = moments, numbers = adam_numbers, leaf = function(o, w, g, s, k, decay)
    return adam_step(o, decay ~= 0 and w * (1 - k.rate * decay) or w, g, s, k)
  end }

  local function of_adam(name, o, rule, decay)
    o = options(name, o, { "betas", "eps" })
    o.betas, o.eps, o.weight_decay = o.betas or { 0.9, 0.999 }, o.eps or 1e-8, o.weight_decay or decay
    for i = 1, 2 do
      local b = type(o.betas) == "table" and o.betas[i]
      if type(b) ~= "number" or b < 0 or b >= 1 then
        error(name .. ": betas are two numbers from 0 to below 1", 3)
      end
    end
    return make(name, o, rule)
  end

  define("train.adam", "train.adam {lr = 1e-3, betas = {0.9, 0.999}, eps = 1e-8, weight_decay = 0, …} -> optimiser",
    "Adam (Kingma & Ba 2015, arXiv:1412.6980) with PyTorch's place of eps: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) "
    .. "g^2, w = w - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps). The weight decay is added to the gradient; "
    .. "train.adamw keeps it apart. Other options as in train.sgd.",
    "local opt = train.adam { lr = 0.5 }\nprint(opt:step(tensor { 1, 2 }, tensor { 8, -3 }))\n"
      .. "-- > f32[2]\n-- > [0.5000, 2.5000]",
    function(o)
      local opt = of_adam("train.adam", o, adam, 0)
      opt.options.lr = opt.options.lr or not opt.options.schedule and 1e-3 or nil
      return opt
    end)

  define("train.adamw", "train.adamw {lr = 1e-3, betas = {0.9, 0.999}, eps = 1e-8, weight_decay = 0.01, …} -> "
    .. "optimiser",
    "AdamW (Loshchilov & Hutter 2019, Decoupled weight decay regularization, arXiv:1711.05101): the weights shrink "
    .. "by 1 - lr weight_decay before Adam's step, which does not see the decay. Other options as in train.sgd.",
    "local opt = train.adamw { lr = 0.1, weight_decay = 1 }\nprint(opt:step(tensor { 2.0 }, tensor { 0.0 }))\n"
    .. "-- > f32[1]\n-- > [1.8000]",
    function(o)
      local opt = of_adam("train.adamw", o, adamw, 0.01)
      opt.options.lr = opt.options.lr or not opt.options.schedule and 1e-3 or nil
      return opt
    end)

  -- ---- wrappers ----

  local function inner_of(name, inner)
    if core.kind(inner) ~= "optimiser" then
      error(("%s: expected an optimiser, as train.sgd makes, got %s"):format(name, core.kind(inner)), 3)
    end
    return inner
  end

  define("train.lookahead", "train.lookahead(opt, {k = 5, alpha = 0.5}) -> optimiser",
    "Lookahead (Zhang et al. 2019, arXiv:1907.08610) around another optimiser: every k steps the slow weights move "
    .. "by alpha towards the fast ones, which go on from there. The inner state stays.",
    "local opt = train.lookahead(train.sgd { lr = 1 }, { k = 2 })\nlocal w = tensor { 0.0 }\n"
    .. "for _ = 1, 2 do w = opt:step(w, tensor { -1.0 }) end\nprint(w)\n-- > f32[1]\n-- > [1.]",
    function(inner, o)
      local name = "train.lookahead"
      inner_of(name, inner)
      check(name, o, { "k", "alpha" })
      at_least(name, o or {}, "alpha", 0)
      local k, alpha = o and o.k or 5, o and o.alpha or 0.5
      if math.type(k) ~= "integer" or k < 1 then error(name .. ": k is a whole number of steps, at least 1", 2) end
      local self = make(name, { lr = inner.options.lr, schedule = inner.options.schedule }, inner.rule)
      self.title = ("%s(%s, { k = %d, alpha = %s })"):format(name, inner.title, k, alpha)
      self.ascend = inner.ascend and function(_, theta, g) return inner:ascend(theta, g) end
      function self.init(_, theta)
        local flat = leaves.flatten(theta, name)
        return { fast = inner:init(theta), slow = leaves.map(flat, function(t)
          return type(t) == "number" and t or t:clone()
        end) }
      end
      function self.phase(_, t) return (t % k == 0 and "join " or "walk ") .. inner:phase(t) end
      function self.apply(_, w, g, state, rate, t, phase)
        local new, fast = inner:apply(w, g, state.fast, rate, t, phase:sub(6))
        if phase:sub(1, 4) == "walk" then return new, { fast = fast, slow = state.slow } end
        local joined = leaves.map(new, function(x, key) return state.slow[key] + alpha * (x - state.slow[key]) end)
        return joined, { fast = fast, slow = leaves.map(joined, function(x) return x + 0 end) }
      end
      return self
    end)

  define("train.sam", "train.sam(opt, {rho = 0.05, adaptive = false, eta = 0.01}) -> optimiser",
    "Sharpness-aware minimisation (Foret et al. 2021, arXiv:2010.01412) around another optimiser: the gradient is "
    .. "taken at theta + rho g / |g|, where the loss is worst nearby to first order. adaptive: ASAM (Kwon et al. 2021, "
    .. "arXiv:2102.11600), theta + rho T^2 g / |T g| with T = |theta| + eta for every element (rho around 0.5 there). "
    .. "Two gradients a step: opt:step takes a function of theta that computes one, and opt:ascend(theta, g) is the "
    .. "point where the second is taken.",
    "local opt = train.sam(train.sgd { lr = 0.1 }, { rho = 1 })\n"
    .. "print(opt:step(tensor { 3.0 }, function(x) return x end))  -- of x^2/2\n-- > f32[1]\n-- > [2.6000]",
    function(inner, o)
      local name = "train.sam"
      inner_of(name, inner)
      check(name, o, { "rho", "adaptive", "eta" })
      o = o or {}
      at_least(name, o, "rho", 0)
      at_least(name, o, "eta", 0)
      local rho, eta = o.rho or 0.05, o.eta or 0.01
      local self = make(name, { lr = inner.options.lr, schedule = inner.options.schedule }, inner.rule)
      self.title = ("%s(%s, { rho = %s%s })"):format(name, inner.title, rho, o.adaptive and ", adaptive = true" or "")
      function self.init(_, theta) return inner:init(theta) end
      function self.phase(_, t) return inner:phase(t) end
      function self.apply(_, ...) return inner:apply(...) end
      function self.ascend(_, theta, g)
        local w, again = leaves.flatten(theta, name)
        local d = leaves.flatten(g, name)
        local size = o.adaptive and leaves.map(w, function(x)
          return (type(x) == "number" and math.abs(x) or x:abs()) + eta
        end)
        local scaled = size and leaves.map(d, function(x, key) return size[key] * x end) or d
        local factor = rho / (root(sum_of_squares(scaled)) + 1e-12)
        return again(leaves.map(w, function(x, key)
          local move = size and size[key] * scaled[key] or d[key]
          return x + factor * move
        end))
      end
      return self
    end)

  local kinds = { sgd = true, adam = true, adamw = true }
  -- What train.fit takes as optimiser: one, or a name.
  return function(opt, o, modules)
    if opt == nil then opt = "adam" end
    if type(opt) == "string" then
      if not kinds[opt] then
        local near = require "nearest"(opt, kinds)
        error(("train.fit: no optimiser is called '%s'%s"):format(opt,
          near and ("; did you mean '%s'?"):format(near) or " (sgd, adam, adamw)"), 3)
      end
      return modules[opt] { lr = o.lr, weight_decay = o.weight_decay }
    end
    if core.kind(opt) ~= "optimiser" then
      error("train.fit: optimiser is one of train.sgd …, or its name, got " .. core.kind(opt), 3)
    end
    if o.weight_decay then
      error("train.fit: weight_decay is an option of the optimiser that was given", 3)
    end
    return opt
  end
end
