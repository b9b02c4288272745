-- SPDX-License-Identifier: Apache-2.0
-- Merges learned through the merge: gradients of coefficients against inner products, toys whose best
-- coefficients are known, the tangent space against finite differences and sums.
local check = dofile "tests/stdlib/bind/check.lua"
local wide = { dtype = "f64" }

local function f64(m)
  local list = {}
  for _, name in ipairs(m:names()) do list[#list + 1] = { name, m:tensor(name):to "f64" } end
  return model.new(list, { mass = m:mass() })
end
local function one(t) return model.new { { "w", tensor(t, wide) } } end
local function same(a, b)
  for _, name in ipairs(a:names()) do
    if not a:tensor(name):equal(b:tensor(name)) then return false end
  end
  return true
end
local function x_of(x) return type(x) == "table" and x.x or x end
local function linear(theta, x)
  return x_of(x):matmul(type(theta) == "table" and theta.w or theta:tensor "w")
end

local net = nn.mlp { 4, 6, 5, 3, act = "tanh" }
local base, a, b = f64(net:init { seed = 1 }), f64(net:init { seed = 2 }), f64(net:init { seed = 3 })
local tau = { a - base, b - base }
local inputs = { { x = tensor.normal({ 24, 4 }, 1):to "f64" }, { x = tensor.normal({ 24, 4 }, 2):to "f64" } }
local function entropy(y) return y:entropy():mean() end

-- ---- AdaMerging: the gradient is <dL/dtheta, tau> over the group ----

do
  local theta = base + 0.3 * tau[1] + 0.3 * tau[2]
  local g = net:loss(inputs[1], { loss = entropy }):grad(theta) + net:loss(inputs[2], { loss = entropy }):grad(theta)
  local function member(by, name, group)
    return by == "task" or by == "tensor" and name == group or by == "layer" and name:match "^[^.]+" == group
  end
  for by, count in pairs { task = 1, layer = 3, tensor = 6 } do
    local _, info = train.ada_merging(net, { base = base, a, b }, inputs,
      { by = by, steps = 1, batch = 24, low = -9, high = 9, optimiser = train.sgd { lr = 1 } })
    check.equal(#info.groups, count)
    local c = info.coefficients:totable()
    for k = 1, 2 do
      for j, group in ipairs(info.groups) do
        local want = 0
        for _, name in ipairs(g:names()) do
          if member(by, name, group) then want = want + g:tensor(name):dot(tau[k]:tensor(name)) end
        end
        check.near(0.3 - c[k][j], want, 1e-12, by .. " " .. group)
      end
    end
  end
  local _, start = train.ada_merging(net, { base = base, a, b }, inputs, { steps = 1, batch = 24 })
  check.near(start.losses[1], net:loss(inputs[1], { loss = entropy })(theta) + net:loss(inputs[2], { loss = entropy })(theta), 1e-12)
end

do -- it falls; the model is the merge with the coefficients; seeds; the clamp
  local function run(o)
    o.lr, o.batch = 0.02, 8
    return train.ada_merging(net, { base = base, a, b }, inputs, o)
  end
  local m, info = run { steps = 60, seed = 1 }
  check.equal(#info.losses, 60)
  local function total(x) return net:loss(inputs[1], { loss = entropy })(x) + net:loss(inputs[2], { loss = entropy })(x) end
  assert(total(m) < total(base + 0.3 * tau[1] + 0.3 * tau[2]) - 0.01)
  local c = info.coefficients:totable()
  for j, layer in ipairs(info.groups) do
    for _, part in ipairs { ".weight", ".bias" } do
      local n = layer .. part
      check.near((m:tensor(n) - base:tensor(n) - c[1][j] * tau[1]:tensor(n) - c[2][j] * tau[2]:tensor(n)):norm(), 0, 1e-12)
    end
  end
  assert(same(m, (run { steps = 60, seed = 1 })) and not same(m, (run { steps = 60, seed = 2 })))
  assert(info.coefficients:min() >= 0 and info.coefficients:max() <= 1)
  local _, stuck = run { steps = 5, init = 1.5 }
  check.tensor(stuck.coefficients, { { 1.0, 1.0, 1.0 }, { 1.0, 1.0, 1.0 } })
  check.equal(stuck.losses[1] > 0, true)
end

do -- ++, on four entries: the trimmed vectors are {3, 0, 0, 2} and {-4, -2, 0, 0}, signs are -, -, (none: -), +
  local m = train.ada_merging(linear, { base = one { { 0 }, { 0 }, { 0 }, { 0 } }, one { { 3 }, { -1 }, { 0.5 }, { 2 } }, one { { -4 }, { -2 }, { 0.1 }, { -1 } } },
    { { x = tensor.eye(4, wide) }, { x = tensor.eye(4, wide) } }, { by = "task", steps = 0, init = 1, density = 0.5 })
  check.tensor(m:tensor "w", { { -4.0 }, { -2.0 }, { 0.0 }, { 2.0 } })
end

do -- heads of their own, of different widths
  local nets = { nn.sequential { nn.linear(4, 6), "tanh", nn.linear(6, 2) }, nn.sequential { nn.linear(4, 6), "tanh", nn.linear(6, 5) } }
  local m = { nets[1]:init { seed = 1 }, nets[2]:init { seed = 2 } }
  local start = nets[1]:init { seed = 3 }
  local d = { { x = tensor.normal({ 20, 4 }, 3) }, { x = tensor.normal({ 20, 4 }, 4) } }
  local theta, info = train.ada_merging(nets, { base = start, m[1], m[2] }, d, { own = "^2\\.", steps = 20, lr = 0.05 })
  check.equal(#info.groups, 1)
  assert(info.losses[20] < info.losses[1])
  check.equal(nets[2](info.tasks[2], d[2]).shape, { 20, 5 })
  for k = 1, 2 do
    assert(info.tasks[k]:tensor("2.weight"):equal(m[k]:tensor "2.weight"))
    assert(info.tasks[k]:tensor("0.weight"):equal(theta:tensor "0.weight"))
  end
  check.raises("another shape in model 2", train.ada_merging, nets, { base = start, m[1], m[2] }, d)
end

check.raises("need base", train.ada_merging, net, { a, b }, inputs)
check.raises("one for each of the 2 models", train.ada_merging, net, { base = base, a, b }, { inputs[1] })
check.raises("low is not below high", train.ada_merging, net, { base = base, a }, { inputs[1] }, { low = 1 })
check.raises("by is", train.ada_merging, net, { base = base, a }, { inputs[1] }, { by = "block" })
check.raises("needs a network of nn", train.ada_merging, linear, { base = one { { 1 } }, one { { 2 } } }, { { x = tensor { { 1 } } } })
check.raises("unknown option 'step'", train.ada_merging, net, { base = base, a }, { inputs[1] }, { step = 1 })
check.raises("lr belongs to the optimiser", train.ada_merging, net, { base = base, a }, { inputs[1] }, { lr = 1, optimiser = train.adam() })

-- ---- learned soup: on a convex toy, the mixture of the closed form ----

do
  local x, y = tensor.normal({ 40, 3 }, 5):to "f64", tensor.normal({ 40, 2 }, 6):to "f64"
  local w1, w2 = tensor.normal({ 3, 2 }, 7):to "f64", tensor.normal({ 3, 2 }, 8):to "f64"
  local function model_of(w) return model.new { { "w", w } } end
  local function best(target) -- of |x (s w1 + (1 - s) w2) - target|^2
    local d = x:matmul(w1 - w2)
    return d:dot(target - x:matmul(w2)) / d:dot(d)
  end
  for _, target in ipairs { x:matmul(0.3 * w1 + 0.7 * w2), 0.05 * y + x:matmul(0.6 * w1 + 0.4 * w2) } do
    local want = best(target)
    assert(want > 0.05 and want < 0.95)
    local m, info = train.learned_soup(linear, { model_of(w1), model_of(w2) }, { x = x, y = target },
      { loss = "mse", temperature = false, steps = 600, lr = 0.05, batch = 40 })
    check.near(info.weights:totable()[1][1], want, 1e-5)
    check.near(info.weights:sum(), 1, 1e-12)
    check.near((m:tensor "w" - want * w1 - (1 - want) * w2):norm(), 0, 1e-4)
  end
  -- Outside of the simplex only when asked.
  local far = x:matmul(1.5 * w1 - 0.5 * w2)
  local _, held = train.learned_soup(linear, { model_of(w1), model_of(w2) }, { x = x, y = far },
    { loss = "mse", temperature = false, steps = 300, batch = 40 })
  assert(held.weights:max() <= 1 and held.weights:max() > 0.98)
  local _, free = train.learned_soup(linear, { model_of(w1), model_of(w2) }, { x = x, y = far },
    { loss = "mse", temperature = false, steps = 600, batch = 40, simplex = false, lr = 0.05 })
  check.near(free.weights:totable()[1][1], 1.5, 1e-3)
  check.near(free.weights:totable()[2][1], -0.5, 1e-3)
end

do -- the temperature: logits 1 apart that are right four times of five want beta = log 4
  local x, y = tensor.ones({ 10, 1 }, wide), tensor({ 0, 0, 1, 0, 0, 0, 0, 1, 0, 0 }, { dtype = "i64" })
  local _, info = train.learned_soup(linear, { one { { 1, 0 } } }, { x = x, y = y }, { batch = 10, steps = 400, lr = 0.05 })
  check.near(info.temperature, math.log(4), 1e-4)
  check.near(info.losses[400], -0.8 * math.log(0.8) - 0.2 * math.log(0.2), 1e-6)
end

do -- a weight for each layer
  local _, info = train.learned_soup(net, { base, a, b }, { x = inputs[1].x, y = tensor.zeros({ 24 }, { dtype = "i64" }) },
    { by = "layer", steps = 30, batch = 24 })
  check.equal(info.weights.shape, { 3, 3 })
  check.near((info.weights:sum(1) - 1):abs():max(), 0, 1e-12)
  assert(info.losses[30] < info.losses[1])
  check.raises("train.atlas", train.learned_soup, net, { base = base, a }, inputs[1])
end

-- ---- aTLAS: planted coefficients ----

do
  local function affine(theta, x)
    local get = type(theta) == "table" and function(n) return theta[n] end or function(n) return theta:tensor(n) end
    return x_of(x):matmul(get "w") + get "b"
  end
  local function affine_model(seed)
    return model.new { { "b", tensor.normal({ 2 }, seed):to "f64" }, { "w", tensor.normal({ 3, 2 }, seed + 50):to "f64" } }
  end
  local zero, p, q = affine_model(1), affine_model(2), affine_model(3)
  local c = { { 0.7, -0.2 }, { 0.4, 1.3 } } -- for b and w
  local target = {}
  for j, name in ipairs { "b", "w" } do
    target[name] = zero:tensor(name) + c[1][j] * (p:tensor(name) - zero:tensor(name)) + c[2][j] * (q:tensor(name) - zero:tensor(name))
  end
  local x = tensor.normal({ 50, 3 }, 9):to "f64"
  local d = { x = x, y = affine(target, x) }
  local m, info = train.atlas(affine, { base = zero, p, q }, d,
    { objective = "mse", steps = 1500, batch = 50, optimiser = train.adam { lr = 0.02 } })
  check.equal(info.groups, { "b", "w" })
  check.raises("the loss is nan at step 1", train.atlas, affine, { base = zero, p }, d, { objective = function(y) return (0 * y):log():mean() * 0 end })
  for k = 1, 2 do
    for j = 1, 2 do check.near(info.coefficients:totable()[k][j], c[k][j], 1e-4) end
  end
  check.near((m:tensor "w" - target.w):norm(), 0, 1e-3)
  -- Parts of a block: together they are the block, and a step of one sums to the step of the whole.
  local function step(o)
    o.objective, o.batch, o.optimiser, o.init = "mse", 50, train.sgd { lr = 1 }, o.init or 0
    return train.atlas(affine, { base = zero, p, q }, d, o)
  end
  local whole, parts = step { steps = 0, init = 0.5 }, step { steps = 0, init = 0.5, partitions = 3 }
  check.near((whole:tensor "w" - parts:tensor "w"):norm(), 0, 1e-14)
  local _, single = step { steps = 1 }
  local _, several = step { steps = 1, partitions = 3, seed = 4 }
  check.equal(several.coefficients.shape, { 2, 3, 2 })
  check.near((several.coefficients:sum(2) - single.coefficients):abs():max(), 0, 1e-12)
  assert(several.coefficients:abs():min() < single.coefficients:abs():max())
  -- The default optimiser, by hand: at the first of 40 steps Adam moves each coefficient by the rate, 0.1.
  local _, first = train.atlas(affine, { base = zero, p, q }, d, { objective = "mse", batch = 50, steps = 1 })
  check.near((first.coefficients:abs() - 0.1):abs():max(), 0, 1e-6)
  local _, default = train.atlas(affine, { base = zero, p, q }, d, { objective = "mse", batch = 50, steps = 40 })
  local _, written = train.atlas(affine, { base = zero, p, q }, d, { objective = "mse", batch = 50, steps = 40,
    optimiser = train.adamw { schedule = train.cosine { base = 0.1, total = 40 }, weight_decay = 0.1, clip = 1 } })
  check.near((default.coefficients - written.coefficients):norm(), 0, 0)
end

-- ---- the tangent space ----

do
  local f, x = train.tangent(net, base), inputs[1].x
  check.equal(f(base, x):equal(net(base, x)), true)
  local eps = 1e-6
  local slope = (net(base + eps * tau[1], x) - net(base - eps * tau[1], x)) / (2 * eps)
  check.near((f(a, x) - net(base, x) - slope):abs():max(), 0, 1e-8, "the product with J is the slope")
  assert((f(a, x) - net(a, x)):abs():max() > 1e-2, "the network is not linear")
  local sum = net(base, x) + 0.4 * (f(a, x) - net(base, x)) - 1.5 * (f(b, x) - net(base, x))
  check.near((f(base + 0.4 * tau[1] - 1.5 * tau[2], x) - sum):abs():max(), 0, 1e-12, "outputs are sums")

  local path = os.tmpname() .. ".safetensors"
  train.tangent_save(path, base, a)
  local g, theta, again = train.tangent_load(net, path)
  assert(same(again, base))
  check.near((theta - a):norm(), 0, 1e-14)
  check.near((g(theta, x) - f(a, x)):abs():max(), 0, 1e-12)
  os.remove(path)
  check.raises("path of a .safetensors file", train.tangent_save, "x", base, a)
  check.raises("not a file of train.tangent_save", train.tangent_load, net, "examples/data/base.safetensors")
  check.raises("expected a network", train.tangent, {}, base)
  check.raises("expected a model to expand at", train.tangent, net, {})
end

do -- training there: the loss of a convex problem falls; task arithmetic of two tasks by algebra
  local moons = data.two_moons { n = 200, seed = 1 }
  local small = nn.mlp { 2, 16, 2 }
  local start = train.fit(small, moons, { epochs = 2, lr = 0.01, seed = 1 })
  local f = train.tangent(small, start)
  local tuned, log = train.fit(f, moons, { start = start, epochs = 15, lr = 0.02, batch = 50 })
  assert(log[15].loss < log[1].loss and not same(tuned, start))
  local score = eval.accuracy(f, moons)
  assert(score(tuned) > eval.accuracy(small, moons)(start))
  local half = start + 0.5 * (tuned - start)
  check.near((f(half, moons.x) - 0.5 * f(tuned, moons.x) - 0.5 * f(start, moons.x)):abs():max(), 0, 1e-5)
end

-- ---- surgery ----

do
  local d = { inputs[1], inputs[2] }
  local theta = 0.5 * a + 0.5 * b
  local still = train.surgery(net, theta, { a, b }, d, { at = "act2", steps = 0 })
  check.equal(still[1](theta, d[1].x):equal(net(theta, d[1].x)), true, "a module of zeros changes nothing")
  local nets, info = train.surgery(net, theta, { a, b }, d, { at = "act2", steps = 200, rank = 3, lr = 0.01, batch = 24 })
  local first, rest = net:upto "act2", net:from "act2"
  for k, m in ipairs { a, b } do
    local z, p = first(theta, d[k].x), info.modules[k]
    check.equal(p.down.shape, { 3, 5 })
    check.near(info.losses[k][1], (z - first(m, d[k].x)):abs():mean(), 1e-12)
    assert(info.losses[k][200] < 0.7 * info.losses[k][1])
    local repaired = z - z:matmul(p.down:t()):relu():matmul(p.up:t())
    check.near((nets[k](theta, d[k]) - rest(theta, repaired)):abs():max(), 0, 1e-14)
    local off = (repaired - first(m, d[k].x)):abs():mean()
    assert(off < 0.7 * info.losses[k][1])
  end
  check.raises("at is missing", train.surgery, net, theta, { a }, { d[1] })
  check.raises("can be cut", train.surgery, linear, theta, { a }, { d[1] }, { at = "act2" })
end

-- ---- concrete masks ----

do
  local function theta_of(o)
    o.batch = 24
    return train.concrete(net, { base = base, a, b }, inputs, o)
  end
  local plain = base + 0.3 * tau[1] + 0.3 * tau[2]
  check.near((theta_of { steps = 0, logits = 60 } - plain):norm(), 0, 1e-12, "a mask of ones is task arithmetic")
  check.near((theta_of { steps = 0 } - plain):norm(), 0, 1e-12, "rescaled, a mask of halves too")
  check.near((theta_of { steps = 0, rescale = false } - base - 0.5 * (plain - base)):norm(), 0, 1e-12)
  local m, info = theta_of { steps = 10, seed = 1, mask_lr = 0.1 }
  assert(same(m, (theta_of { steps = 10, seed = 1, mask_lr = 0.1 })) and not same(m, (theta_of { steps = 10, seed = 2, mask_lr = 0.1 })))
  check.tensor(info.coefficients, { { 0.3 }, { 0.3 } })
  local _, learned = theta_of { steps = 10, seed = 1, learn = true, by = "layer", lr = 0.05 }
  check.equal(learned.coefficients.shape, { 2, 3 })
  assert((learned.coefficients - 0.3):abs():min() > 1e-3)
  for _, name in ipairs { "fc1.weight", "fc3.bias" } do
    local mask, change = info.mask:tensor(name), 0.3 * (tau[1]:tensor(name) + tau[2]:tensor(name))
    check.near((m:tensor(name) - base:tensor(name) - change * mask / mask:mean()):norm(), 0, 1e-12, "a mean for each tensor")
    local whole, about = theta_of { steps = 10, seed = 1, mask_lr = 0.1, rescale = "model" }
    mask = about.mask:tensor(name)
    check.near((whole:tensor(name) - base:tensor(name) - change * mask / about.density):norm(), 0, 1e-12, "one for all")
    assert(math.abs(mask:mean() - about.density) > 1e-6, "which is not the same")
  end
end

check.raises("rescale is", train.concrete, net, { base = base, a, b }, inputs, { rescale = "layer" })

do -- the first feature says class 1, the second takes it back: the mask has to choose, and keeps the larger
  local x = tensor.ones({ 8, 2 }, wide)
  local list = { base = one { { 0, 0 }, { 0, 0 } }, one { { 6, 0 }, { 0, 6 } }, one { { 3, 0 }, { 0, 2 } } }
  local _, info = train.concrete(linear, list, { { x = x }, { x = x } }, { steps = 300, mask_lr = 0.1, rescale = false, seed = 1 })
  local mask = info.mask:tensor("w"):totable()
  assert(mask[1][1] > 0.9 and mask[2][2] < 0.1, tostring(info.mask:tensor "w"))
  local hard, cut = train.concrete(linear, list, { { x = x }, { x = x } }, { steps = 300, mask_lr = 0.1, rescale = false, seed = 1, hard = true })
  check.near(cut.mask:tensor("w"):totable()[1][1], 1, 0)
  check.near(cut.mask:tensor("w"):totable()[2][2], 0, 0)
  check.near(hard:tensor("w"):totable()[1][1], 0.3 * 9, 1e-12)
end

-- ---- by hand: coefficients learned through the merge, in a loop of one's own ----

do
  local m = { base = net:init { seed = 1 }, net:init { seed = 2 }, net:init { seed = 3 } }
  local vectors, x = { m[1] - m.base, m[2] - m.base }, inputs[1].x:to "f32"
  local c, opt = tensor.full({ 2, net.depth }, 0.3), train.sgd { lr = 0.2 }
  local function loss(at, y)
    local theta = m.base
    for k, t in ipairs(vectors) do theta = theta + by.depth(at[k]:clamp(0, 1)) * t end
    return net(theta, y):entropy():mean()
  end
  for _ = 1, 5 do c = opt:step(c, grad(loss, c, x)) end
  local _, info = train.ada_merging(net, { base = m.base, m[1], m[2] }, { { x = x }, { x = x } },
    { steps = 5, batch = 24, optimiser = train.sgd { lr = 0.1 } }) -- the sum over two tasks is twice the loss
  check.near((c - info.coefficients):abs():max(), 0, 1e-6)
  assert((c - 0.3):abs():max() > 1e-3)
end
