-- SPDX-License-Identifier: Apache-2.0
-- Optimisers against PyTorch's trajectories over 20 steps in f32 and f64, schedules on a grid, clipping,
-- decay groups, wrappers by hand.
local check = dofile "tests/stdlib/bind/check.lua"
local decode = require "json.decode".decode
local folder = "tests/golden/net/training/"
local start = model.load(folder .. "start.safetensors")

-- ---- trajectories ----

local function forward(p, x)
  for i = 1, 3 do
    x = x:matmul(p["fc" .. i .. ".weight"]:t()) + p["fc" .. i .. ".bias"]
    if i < 3 then x = x:relu() end
  end
  return x
end

local function batch(t, dtype)
  local x, y = start["in.x"][t], start["in.labels"][t]:totable()
  local onehot = {}
  for i, c in ipairs(y) do
    onehot[i] = {}
    for k = 0, 9 do onehot[i][k + 1] = k == c and 1 or 0 end
  end
  return x:to(dtype), tensor(onehot):to(dtype)
end

local function loss(p, x, y)
  return -(forward(p, x):log_softmax(-1) * y):sum() / x.shape[1]
end

local function parameters(dtype)
  local p = {}
  for _, name in ipairs(start:names "^param") do p[name:sub(7)] = start:tensor(name):to(dtype) end
  return p
end

local settings = {
  sgd = function(o) return train.sgd { lr = o.lr } end,
  sgd_momentum = function(o) return train.sgd { lr = o.lr, momentum = o.momentum, weight_decay = o.weight_decay } end,
  sgd_nesterov = function(o)
    return train.sgd { lr = o.lr, momentum = o.momentum, weight_decay = o.weight_decay, nesterov = true }
  end,
  adam = function(o) return train.adam { lr = o.lr, betas = o.betas, eps = o.eps } end,
  adam_l2 = function(o)
    return train.adam { lr = o.lr, betas = o.betas, eps = o.eps, weight_decay = o.weight_decay }
  end,
  adamw = function(o)
    return train.adamw { lr = o.lr, betas = o.betas, eps = o.eps, weight_decay = o.weight_decay }
  end,
  adamw_cosine_clip = function(o)
    return train.adamw { schedule = train.cosine { base = o.lr, total = 20 }, betas = o.betas, eps = o.eps,
      weight_decay = o.weight_decay, clip = 0.5 }
  end,
}

-- The largest difference of any parameter at steps 5, 10, 15, 20, and of any loss.
local function differences(name, dtype)
  local want = model.load(folder .. name .. ".safetensors")
  local meta = model.open(folder .. name .. ".safetensors"):metadata()
  local opt = settings[name](decode(meta.options))
  local p, worst, worst_loss = parameters(dtype), 0, 0
  for t = 1, 20 do
    local x, y = batch(t, dtype)
    local l, g = value_and_grad(loss, p, x, y)
    worst_loss = math.max(worst_loss, math.abs(l - want.losses[t]))
    check.near(opt:lr(t), want.rates[t], 1e-15, name .. ": rate of step " .. t)
    if dtype == "f64" then
      local _, norm = train.clip_norm(g, 1e9)
      check.near(norm, want.grad_norms_before_clip[t], 1e-11, name .. ": norm of step " .. t)
    end
    p = opt:step(p, g)
    if t % 5 == 0 then
      for key, v in pairs(p) do
        worst = math.max(worst, (v:to "f64" - want:tensor("step" .. t .. "." .. key)):abs():max())
      end
    end
  end
  return worst, worst_loss, tonumber(meta.f32_parameter_error_max_abs)
end

for name in pairs(settings) do
  local worst, worst_loss = differences(name, "f64")
  check.near(worst, 0, 1e-11, name .. " in f64: parameters")
  check.near(worst_loss, 0, 1e-11, name .. " in f64: losses")
  local low, _, f32_error = differences(name, "f32")
  check.near(low, 0, math.max(10 * f32_error, 1e-6), name .. " in f32: parameters")
end

-- ---- schedules ----

local grid = model.load(folder .. "schedules.safetensors")
local c = decode(model.open(folder .. "schedules.safetensors"):metadata().setting)
local schedules = {
  cosine_warmup = train.cosine { base = c.base, total = c.total, warmup = c.warmup },
  cosine = train.cosine { base = c.base, total = c.total },
  linear_warmup = train.linear { base = c.base, total = c.total, warmup = c.warmup },
  step = train.steps { base = c.base, every = c.step, gamma = c.gamma },
  one_cycle = train.one_cycle { peak = c.peak, total = c.total, pct = c.pct },
  cyclic_fge = train.fge { base = c.base, low = c.low, cycle = c.cycle },
  snapshot = train.snapshot { base = c.base, total = c.total, cycles = c.cycles },
}
for name, rate in pairs(schedules) do
  local want = grid:tensor(name)
  for t = 0, c.total - 1 do
    check.near(rate(t), want[t + 1], 1e-12 * math.abs(want[t + 1]) + 1e-17, name .. " at " .. t)
  end
end
check.equal(train.constant { base = 0.5 }(3), 0.5)
check.equal(train.constant { base = 0.5, warmup = 4 }(1), 0.125)
check.raises("total is not known yet", function() return train.cosine { base = 1 }(3) end)
check.raises("warmup must be a whole number", train.cosine, { warmup = 0.5 })
check.raises("did you mean 'warmup'", train.cosine, { warmpu = 5 })
check.equal(tostring(train.steps { every = 3 }), "train.steps { every = 3, gamma = 0.1 }")

-- ---- gradients ----

local g, norm = train.clip_norm({ a = tensor { 3, 0 }, b = { tensor { 4.0 } } }, 1)
check.equal(norm, 5.0)
check.near(g.a[1], 3 / (5 + 1e-6), 1e-7)
check.near(g.b[1][1], 4 / (5 + 1e-6), 1e-7)
check.tensor(train.clip_norm(tensor { 3, 4 }, 100), { 3.0, 4.0 }, "a short gradient stays")
check.tensor(train.clip_value(tensor { -3, 0.5, 7 }, 2), { -2.0, 0.5, 2.0 })

-- ---- decay groups ----

local function decayed(decay)
  local opt = train.sgd { lr = 1, weight_decay = 0.5, decay = decay }
  local p = opt:step({ w = tensor { { 2, 4 } }, b = tensor { 2, 4 } }, { w = tensor { { 0, 0 } }, b = tensor { 0, 0 } })
  return p.w:totable()[1][2], p.b[2]
end
check.equal({ decayed() }, { 2.0, 2.0 })
check.equal({ decayed "weights" }, { 2.0, 4.0 })
check.equal({ decayed(function(name) return name == "b" end) }, { 4.0, 2.0 })
check.equal({ decayed(function(name) return name == "w" and 0.5 or 1 end) }, { 3.0, 2.0 })

-- ---- SGD by hand ----

local opt = train.sgd { lr = 1, momentum = 0.5, dampening = 0.5 }
local w = tensor { 0.0 }
for _, want in ipairs { -1, -2, -3 } do -- buffers 1, 1/2 + 1/2, 1
  w = opt:step(w, tensor { 1.0 })
  check.equal(w[1], want + 0.0)
end
check.raises("nesterov needs a momentum", train.sgd, { nesterov = true })
check.raises("the gradient has no w", function() train.sgd { lr = 1 }:step({ w = tensor { 1 } }, { v = tensor { 1 } }) end)
check.raises("another shape", function() train.sgd { lr = 1 }:step(tensor { 1 }, tensor { 1, 2 }) end)
check.raises("there is no rate", function() train.sgd {}:step(tensor { 1 }, tensor { 1 }) end)
check.raises("did you mean 'momentum'", train.sgd, { momentun = 0.9 })
check.raises("betas are two numbers", train.adam, { betas = { 0.9, 1 } })

-- ---- tensors, tables, models, numbers; recorded ----

local m = model.new { { "fc.weight", tensor { { 1, 2 } } }, { "fc.bias", tensor { 3 } } }
local stepped = train.sgd { lr = 0.5 }:step(m, model.new({ { "fc.bias", tensor { 2 } }, { "fc.weight", tensor { { 2, 4 } } } }, { mass = 0 }))
check.equal(table.concat(stepped:names(), " "), "fc.weight fc.bias")
check.tensor(stepped["fc.weight"], { { 0.0, 0.0 } })
check.equal(stepped["fc.bias"][1], 2.0)
check.equal(stepped:mass(), 1.0)
check.equal(train.sgd { lr = 0.5 }:step({ 4.0, { 2.0 } }, { 2.0, { 2.0 } }), { 3.0, { 1.0 } })

-- The step of an optimiser is itself differentiable: d/dw (w - rate w) = 1 - rate.
local pure = train.sgd { lr = 0.1 }
check.near(grad(function(x) return pure:update(x, x, pure:init(tensor { 1.0 }), 0.25, 1):sum() end, tensor { 2.0 })[1], 0.75, 1e-7)

-- ---- wrappers ----

local ahead, x = train.lookahead(train.sgd { lr = 1 }, { k = 3, alpha = 0.25 }), { w = tensor { 0.0 } }
for _, want in ipairs { 1, 2, 0.75, 1.75, 2.75, 1.5 } do
  x = ahead:step(x, { w = tensor { -1.0 } })
  check.equal(x.w[1], want + 0.0, "lookahead")
end

local sam = train.sam(train.sgd { lr = 0.5 }, { rho = 0.5 })
local y = sam:step(tensor { 3, 4 }, function(v) return 2 * v end) -- up by (0.3, 0.4), then down
check.near(y[1], 3 - 0.5 * 2 * 3.3, 1e-6)
check.near(y[2], 4 - 0.5 * 2 * 4.4, 1e-6)
check.raises("two gradients are needed", function() sam:step(tensor { 1 }, tensor { 1 }) end)

-- ASAM: T = |w| + eta; here eta = 0, w = (1, 2), g = (3, 1): T g = (3, 2), |T g| = sqrt 13, move T^2 g rho / sqrt 13.
local asam = train.sam(train.sgd { lr = 1 }, { rho = 0.1, adaptive = true, eta = 0 })
local up = asam:ascend(tensor { 1, -2 }, tensor { 3, 1 })
check.near(up[1], 1 + 0.1 * 3 / math.sqrt(13), 1e-6)
check.near(up[2], -2 + 0.1 * 4 / math.sqrt(13), 1e-6)
check.raises("expected an optimiser", train.sam, train.cosine {})
