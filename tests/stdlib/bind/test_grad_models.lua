-- SPDX-License-Identifier: Apache-2.0
-- Derivatives by models: closed forms, finite differences in f64, merges inside recorded functions, what a
-- gradient is, and every message.
local check = require "check"
local equal, near, raises, same = check.equal, check.near, check.raises, check.tensor

local function f64(t) return tensor(t, { dtype = "f64" }) end
local function close(a, b, tolerance, what)
  local d = (a - b):abs():max()
  local size = b:abs():max()
  assert(d <= (tolerance or 1e-12) * (1 + size), string.format("%s: differs by %g", what or "tensors", d))
end
local function models_close(a, b, tolerance, what)
  equal(#a, #b)
  for n, t in pairs(a) do close(t, b[n], tolerance, (what or "") .. " " .. n) end
end

-- ---- closed forms ----
-- f(m) = sum c_i m_i^2 / 2: gradient c m, Hessian diag(c).
do
  local m = model.new { w = f64 { { 1, 2 }, { 3, 4 } }, b = f64 { 5, 6 } }
  local c = model.new { w = f64 { { 2, 3 }, { 4, 5 } }, b = f64 { 6, 7 } }
  local function f(x) return (c.w * x.w * x.w):sum() / 2 + (c.b * x.b * x.b):sum() / 2 end
  local g = grad(f, m)
  same(g.w, { { 2.0, 6.0 }, { 12.0, 20.0 } })
  same(g.b, { 30.0, 42.0 })
  equal(g:mass(), 0.0)
  equal(#g, 2)
  local h = hvp(f, m, m)
  models_close(h, g)
  local value, again = value_and_grad(f, m)
  equal(value, 0.5 * (2 * 1 + 3 * 4 + 4 * 9 + 5 * 16 + 6 * 25 + 7 * 36))
  models_close(again, g)
  -- a gradient is a vector: algebra, norms, saving
  local down = m - 0.1 * g
  equal(down:mass(), 1.0)
  close(down.b, f64 { 5 - 3, 6 - 4.2 })
  near(g:dot(m), m:dot(g), 1e-9)
  near(g:norm(), math.sqrt(g:dot(g)), 1e-9)
  local path = os.tmpname()
  g:save(path .. ".safetensors")
  models_close(model.open(path .. ".safetensors"):load(), g)
  os.remove(path)
  os.remove(path .. ".safetensors")
end

-- Logistic regression by hand: dL/dw = X'(p - y) / n.
do
  local x, y = tensor.normal({ 6, 3 }, 1, { dtype = "f64" }), f64 { 1, 0, 1, 1, 0, 1 }
  local m = model.new { w = f64 { 0.3, -0.2, 0.5 }, b = f64 { 0.1 } }
  local function logits(t) return x:matmul(t.w:reshape { 3, 1 }):reshape { 6 } + t.b end
  local function loss(t)
    local z = logits(t)
    return ((-1 * z):exp() + 1):log():mean() + ((1 - y) * z):mean()
  end
  local p = 1 / ((-1 * logits(m)):exp() + 1)
  local g = grad(loss, m)
  close(g.w, x:transpose(1, 2):matmul((p - y):reshape { 6, 1 }):reshape { 3 } / 6)
  close(g.b, (p - y):mean { 1, keepdim = true })
  -- H = X' diag(p (1 - p)) X / n, with b's column of ones
  local v = model.new { w = f64 { 1, -2, 0.5 }, b = f64 { 0.7 } }
  local u = x:matmul(v.w:reshape { 3, 1 }):reshape { 6 } + v.b
  local h = hvp(loss, m, v)
  local s = p * (1 - p) * u
  close(h.w, x:transpose(1, 2):matmul(s:reshape { 6, 1 }):reshape { 3 } / 6)
  close(h.b, s:mean { 1, keepdim = true })
  -- symmetry, and forward against reverse
  local w = model.new { w = f64 { 0.2, 0.4, -1 }, b = f64 { 1 } }
  near(hvp(loss, m, v):dot(w), hvp(loss, m, w):dot(v), 1e-13)
  near(jvp(loss, m, v), g:dot(v), 1e-13)
  near(grad(function(t) return jvp(loss, m + t * v, v) end, 0.0), h:dot(v), 1e-12)
end

-- ---- merges inside a recorded function, against central differences ----
local a = model.new { ["layers.0.w"] = tensor.normal({ 4, 3 }, 1, { dtype = "f64" }),
  ["layers.1.w"] = tensor.normal({ 3, 3 }, 2, { dtype = "f64" }), head = tensor.normal({ 3 }, 3, { dtype = "f64" }) }
local b = model.new { ["layers.0.w"] = tensor.normal({ 4, 3 }, 4, { dtype = "f64" }),
  ["layers.1.w"] = tensor.normal({ 3, 3 }, 5, { dtype = "f64" }), head = tensor.normal({ 3 }, 6, { dtype = "f64" }) }
local x = tensor.normal({ 5, 4 }, 7, { dtype = "f64" })
local function net(m) return (x:matmul(m["layers.0.w"]):tanh():matmul(m["layers.1.w"]) * m.head):sin():sum() end

local function central(f, m, v, h) return (f(m + h * v) - f(m - h * v)) / (2 * h) end
local function along(what, f, m, v)
  near(grad(f, m):dot(v), central(f, m, v, 1e-5), 1e-7, what)
  near(jvp(f, m, v), central(f, m, v, 1e-5), 1e-7, what)
  local h = hvp(f, m, v)
  local by_difference = (grad(f, m + 1e-5 * v) - grad(f, m - 1e-5 * v)) / 2e-5
  models_close(h, by_difference, 1e-5, what)
end
along("net", net, a, b)
along("algebra", function(m) return net(2 * m - 0.5 * (b - m) / 3 + (-m)) end, a, b)
along("linear", function(m) return net(merge.linear { m, b, weight = { 0.3, 0.7 } }) end, a, b)
along("slerp", function(m) return net(merge.slerp { m, b, t = 0.3 }) end, a, b)
along("arithmetic", function(m) return net(merge.task_arithmetic { base = b, m, a, weight = { 0.4, 0.2 } }) end, a, b)
along("only, rename, join", function(m)
  local r = m:only("layers"):rename(function(n) return "x." .. n end)
  return model.join({ r, m:only "head" })["x.layers.0.w"]:cos():sum() + net(m)
end, a, b)
along("map", function(m) return net(m:map(function(t) return t * t + 1 end)) end, a, b)
along("norms", function(m) return m:norm() + m:norm(1) + m:dot(b) + m:cosine(b) + (m - b):norm() end, a, b)
along("largest", function(m) return m:norm(math.huge) end, a, b)
along("model.new", function(m) return net(model.new { ["layers.0.w"] = m["layers.0.w"] * 2,
  ["layers.1.w"] = m["layers.1.w"], head = a.head }) end, a, b)
along("pairs", function(m)
  local sum = 0
  for _, t in pairs(m) do sum = sum + t:sin():sum() end
  return sum
end, a, b)

-- Reductions over the whole model are the same inside, to the bit, and pass derivatives on.
for what, f in pairs {
  ties = function(m) return merge.ties { base = b, m, 0.5 * m + 0.5 * a, density = 0.4, trim = "global" } end,
  model_stock = function(m) return merge.model_stock { base = b, m, m * m * b + a - m * m * b * 0.9 } end,
  dare = function(m) return merge.dare_linear { base = b, m, a, density = 0.5, seed = 1 } end,
} do
  local inside, g = value_and_grad(function(m) return net(f(m)) end, a)
  equal(inside, net(f(a)), what)
  near(g:dot(b), central(function(m) return net(f(m)) end, a, b, 1e-6), 1e-6, what)
end

-- The value inside a recording is that outside.
do
  local inside = value_and_grad(function(m) return net(merge.slerp { m, b, t = 0.3 }) end, a)
  near(inside, net(merge.slerp { a, b, t = 0.3 }), 1e-14)
end

-- ---- curves of models: recorded numbers times models ----
do
  local function curve(t) return (1 - t) ^ 2 * a + 2 * t * (1 - t) * merge.linear { a, b } + t ^ 2 * b end
  local velocity, point = jvp(curve, 0.3, 1.0)
  equal(velocity:mass(), 0.0)
  models_close(point, curve(0.3), 1e-15)
  models_close(velocity, (curve(0.3 + 1e-5) - curve(0.3 - 1e-5)) / 2e-5, 1e-8)
  local function f(t) return net(curve(t)) end
  near(grad(f, 0.3), (f(0.3 + 1e-5) - f(0.3 - 1e-5)) / 2e-5, 1e-7)
  near(grad(function(t) return grad(f, t) end, 0.3), (grad(f, 0.3 + 1e-5) - grad(f, 0.3 - 1e-5)) / 2e-5, 1e-7)
  local by_t, g = vjp(curve, 0.3, b)
  near(by_t, velocity:dot(b), 1e-13)
  models_close(g, point)
end

-- ---- recorded numbers as options of a merge ----
do
  local function alike(what, f, by_hand, c)
    close(grad(f, c), grad(by_hand, c), 1e-11)
    near(f(c), by_hand(c), 1e-12, what) -- numbers outside, recorded inside
    close(hvp(f, c, f64 { 1, -2 }), hvp(by_hand, c, f64 { 1, -2 }), 1e-10)
    near(jvp(f, c, f64 { 1, -2 }), grad(by_hand, c):dot(f64 { 1, -2 }), 1e-10)
  end
  local c = f64 { 0.3, 0.6 }
  alike("linear", function(w) return net(merge.linear { a, b, weight = { w[1], w[2] } }) end,
    function(w) return net((1 / (w[1] + w[2])) * (w[1] * a + w[2] * b)) end, c)
  alike("linear, a sum", function(w) return net(merge.linear { a, b, weight = { w[1], w[2] }, normalize = false }) end,
    function(w) return net(w[1] * a + w[2] * b) end, c)
  alike("linear, one number", function(w) return net(merge.linear { a, b, weight = { w[1] * w[2], 2 } }) end,
    function(w) return net((1 / (w[1] * w[2] + 2)) * (w[1] * w[2] * a + 2 * b)) end, c)
  alike("task arithmetic", function(w) return net(merge.task_arithmetic { base = a, b, lambda = w[1], weight = w[2] }) end,
    function(w) return net(a + w[1] * w[2] * (b - a)) end, c)
  alike("task arithmetic, a mean", function(w)
    return net(merge.task_arithmetic { base = a, b, 2 * a, lambda = w[1], weight = { w[2], 1.5 }, normalize = true })
  end, function(w) return net(a + (w[1] / (w[2] + 1.5)) * (w[2] * (b - a) + 1.5 * a)) end, c)
  -- of the models as well
  local v = model.new { ["layers.0.w"] = tensor.ones({ 4, 3 }, { dtype = "f64" }),
    ["layers.1.w"] = tensor.ones({ 3, 3 }, { dtype = "f64" }), head = tensor.ones({ 3 }, { dtype = "f64" }) }
  near(grad(function(t) return net(merge.linear { a + t * v, b, weight = { t, 1 } }) end, 0.4),
    grad(function(t) return net((1 / (t + 1)) * (t * (a + t * v) + b)) end, 0.4), 1e-11)
  local ended
  grad(function(w)
    ended = w[1]
    equal(merge.linear({ a, b, weight = { w[1], w[2] } }):mass(), 1.0)
    return net(w[1] * a)
  end, c)
  raises("a tensor of a recording that has ended", merge.linear, { a, b, weight = { ended, 1 } })
  raises("t takes no recorded number", grad, function(w) return net(merge.slerp { a, b, t = w[1] }) end, c)
  raises("normalize' must be true or false", grad, function(w) return net(merge.linear { a, b, normalize = w[1] }) end, c)
  raises("expected one number, got a tensor of shape [2]", grad, function(w) return net(merge.linear { a, b, weight = w }) end, c)
end

-- ---- AdaMerging by layer: one recorded number a layer ----
do
  local base = b
  local tau = { a - b, 0.3 * b - a + 0.7 * b }
  local c = f64 { { 0.3, 0.6 }, { 0.2, 0.9 } }
  local function f(w)
    local m = base
    for k, t in ipairs(tau) do m = m + by.depth(w[k]:clamp(0, 1)) * t end
    return net(m)
  end
  local g = grad(f, c)
  -- by hand: d f / d c[k][l] = < grad net, tau_k of layer l >; the head goes with the last layer, nothing with the first
  local m = base
  for k, t in ipairs(tau) do m = m + by.depth(c[k]:clamp(0, 1)) * t end
  local at = grad(net, m)
  for k, t in ipairs(tau) do
    near(g[{ k, 1 }], (at["layers.0.w"] * t["layers.0.w"]):sum(), 1e-12)
    near(g[{ k, 2 }], (at["layers.1.w"] * t["layers.1.w"]):sum() + (at.head * t.head):sum(), 1e-12)
  end
  -- other schedules of recorded numbers
  local function named(w) return net(base + by.name { { "^layers\\.0", w[1] }, { ".", 2 } } * tau[1]) end
  near(grad(named, f64 { 0.5 })[1], central(function(v) return named(v) end, f64 { 0.5 }, f64 { 1 }, 1e-5), 1e-7)
  local function ramp(w) return net(base + by.depth { w, 1, head = w * 2 } * tau[1]) end
  near(grad(ramp, 0.5), (ramp(0.5 + 1e-5) - ramp(0.5 - 1e-5)) / 2e-5, 1e-7)
end

-- ---- what takes part ----
do
  local m = model.new { w = tensor { 1, 2 }, ["bn.running_mean"] = tensor { 3 }, n = tensor({ 4 }, { dtype = "i64" }),
    unused = tensor { 7 } }
  local g = grad(function(t) return (t.w * t["bn.running_mean"] * t.n):sum() end, m)
  equal(table.concat(g:names(), " "), "unused w")
  same(g.w, { 12.0, 12.0 })
  same(g.unused, { 0.0 })
  local next_ = m - 0.5 * g
  same(next_.w, { -5.0, -4.0 })
  same(next_.n, { 4 })
  same(next_["bn.running_mean"], { 3.0 })
  -- only =
  local part = grad { function(t, k) return (t.w * t.unused):sum() * k end, m, 2, only = "^w$" }
  equal(table.concat(part:names(), " "), "w")
  same(part.w, { 14.0, 14.0 })
  equal(#grad { function(t) return t.w:sum() end, m, only = function(n) return n == "unused" end }, 1)
  -- the direction of a model: by name, what it lacks is zero, buffers in it do not count
  equal(jvp(function(t) return t.w:sum() + t.unused:sum() end, m, model.new { w = tensor { 1, 1 } }), 2.0)
  equal(jvp(function(t) return t.w:sum() end, m, m), 3.0)
  raises("a tensor z, which memory lacks", jvp, function(t) return t.w:sum() end, m, model.new { z = tensor { 1 } })
  raises("direction for w has the shape [1]; expected [2]", jvp, function(t) return t.w:sum() end, m,
    model.new { w = tensor { 1 } })
  raises("where a model is expected", jvp, function(t) return t.w:sum() end, m, tensor { 1 })
end

-- models among tables, tensors and numbers; two slots of one storage are two coordinates
do
  local t = tensor { 1, 2 }
  local p = { m = model.new { u = t, v = t }, s = 3.0, list = { tensor { 1 } } }
  local g = grad(function(q) return (q.m.u * q.m.v * q.s):sum() + q.list[1]:sum() end, p)
  same(g.m.u, { 3.0, 6.0 })
  same(g.m.v, { 3.0, 6.0 })
  equal(g.s, 5.0)
  same(g.list[1], { 1.0 })
  local _, _, extra = value_and_grad(function(q) return q.m:norm(), { double = 2 * q.m } end, p)
  same(extra.double.u, { 2.0, 4.0 })
  equal(extra.double:mass(), 2.0)
end

-- stored dtypes: a model kept in bf16 is differentiated in f32
do
  local m = model.new { w = tensor({ 1, 2 }, { dtype = "bf16" }) }
  local g = grad(function(t) return (t.w * t.w):sum() end, m)
  equal(g.w.dtype, "f32")
  same(g.w, { 2.0, 4.0 })
end

-- ---- messages ----
local disk = model.open "examples/data/base.safetensors"
local memory = disk:load()
raises("grad: base is a plan over files; :load() it first (68.9 kB)", grad, function(m) return m:norm() end, disk)
raises("base is a plan over files and meets a recorded model: :load() it before", grad,
  function(m) return (m + disk):norm() end, memory)
raises("not known yet", grad, function(m) return m:norm():item() end, memory)
raises("no values yet", grad, function(m) m:save "never.safetensors" end, memory)
raises("no values yet", grad, function(m) return m:plan() end, memory)
raises("the function returned model", grad, function(m) return m end, memory)
raises("nothing to differentiate by", grad, function() return 1 end, model.new { n = tensor({ 1 }, { dtype = "i64" }) })
raises("did you mean", grad, { function() return 1 end, memory, onl = "x" })
raises("one number, a model, or by.depth", grad, function(t) return (t * memory):norm() end, tensor { 1, 2 })
raises("may only multiply a model", grad, function(t)
  return merge.linear({ memory, memory, weight = by.depth { t, 1 } }):norm()
end, 1.0)
do
  local kept
  grad(function(m) kept = m; return m:norm() end, memory)
  raises("a recording that has ended", grad, function(m) return (m + kept):norm() end, memory)
  raises("no values yet", kept.save, kept, "never.safetensors")
end
raises("part of a model", function() memory["fc1.bias"]:fill_(0) end)
