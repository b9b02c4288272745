-- SPDX-License-Identifier: Apache-2.0
-- Per-example gradients and Fisher information: PyTorch's float64, closed forms, and what must not matter.
local check = dofile "tests/stdlib/bind/check.lua"
local oracle = dofile "tests/stdlib/probe/oracle.lua"

local function close(what, got, want, most)
  local off = oracle.distance(got, want)
  assert(off <= most, ("%s: off by %.3e, allowed %.1e"):format(what, off, most))
end
local function tensors(m)
  local out = {}
  for _, name in ipairs(m:names()) do out[name] = m:tensor(name) end
  return out
end

-- A transformer: class token, positions, attention, norms.
do
  local path = "tests/golden/net/networks/vit.safetensors"
  local _, about = oracle.read(path)
  local s = about.setting
  oracle.check_examples(path,
    nn.vit { width = s.hidden, layers = s.layers, heads = s.heads, inner = s.inner, patch = s.patch, eps = s.eps })
end

-- A network of 214 parameters, whose gradients are there one by one.
local small_net, small, small_data
do
  local m, about = oracle.read "tests/golden/net/curvature/small.safetensors"
  small_net, small = nn.mlp { 8, 10, 8, 4, act = about.setting.act }, oracle.theta(m, "f64")
  small_data = { x = m:tensor "in.x":to "f64", y = m:tensor "in.labels" }
  local each = m:tensor "example_grad"
  close("norms", { n = probe.example_norms(small_net, small, small_data) }, { n = (each * each):sum(2):sqrt() }, 1e-12)
  local parts = {}
  local f = probe.fisher(small_net, small, small_data, { kind = "empirical" })
  for i, name in ipairs(require "json.decode".decode(about.meta.order)) do parts[i] = f:tensor(name):reshape { -1 } end
  local n = each.shape[2]
  local diagonal = (m:tensor "fisher_empirical" * tensor.eye(n):to "f64"):sum(2)
  close("empirical Fisher", { f = tensor.cat(parts) }, { f = diagonal }, 1e-12)
end

-- The batch does not matter, nor does the form of theta; labels are drawn for each example.
do
  local whole = { batch = 1000 }
  for _, kind in ipairs { "exact", "empirical", "sampled" } do
    local function fisher(batch) return probe.fisher(small_net, small, small_data, { kind = kind, seed = 3, batch = batch }) end
    local want = tensors(fisher(whole.batch))
    close(kind .. " in batches of 7", tensors(fisher(7)), want, 1e-13)
    close(kind .. " one by one", tensors(fisher(1)), want, 1e-13)
    local t = {}
    for _, name in ipairs(small:names()) do t[name] = small:tensor(name) end
    close(kind .. " of a table", probe.fisher(small_net, t, small_data, { kind = kind, seed = 3 }), want, 1e-13)
  end
  -- Squaring the batch's gradient is another thing.
  local function total(theta) return small_net:loss(small_data)(theta) end
  local g, f = grad(total, small), probe.fisher(small_net, small, small_data, { kind = "empirical" })
  local squared = {}
  for _, name in ipairs(f:names()) do squared[name] = g:tensor(name) ^ 2 end
  assert(oracle.distance(squared, tensors(f)) > 0.1)
end

-- Sampled labels have the exact information as their mean, and a seed each.
do
  local exact = probe.fisher(small_net, small, small_data)
  local sum, squares, n = nil, nil, 100
  for seed = 1, n do
    local s = probe.fisher(small_net, small, small_data, { kind = "sampled", seed = seed, batch = 64 }):tensor "fc3.bias"
    sum, squares = sum and sum + s or s, squares and squares + s * s or s * s
  end
  local mean = sum / n
  local deviation = ((squares / n - mean * mean) / n):sqrt()
  local z = ((mean - exact:tensor "fc3.bias") / deviation):abs():max()
  assert(z < 4, "sampled labels are off by " .. z .. " standard errors")
  assert(deviation:max() > 0)
end

-- Logistic regression: F of the weight to class c from input i is the mean of x_i^2 p_c (1 - p_c).
do
  local net = nn.sequential { nn.linear(3, 2) }
  local theta = net:init { seed = 5 }
  local x = tensor.normal({ 50, 3 }, 6)
  local p = net(theta, x):softmax(-1):to "f64"
  local v = p * (1 - p)
  local want = { ["0.weight"] = v:t():matmul(x:to "f64" ^ 2) / 50, ["0.bias"] = v:sum(1) / 50 }
  close("logistic regression", tensors(probe.fisher(net, theta, { x = x })), want, 1e-6)
end

-- A network that turns the examples away from the first dimension has no closed form: one at a time, the same.
do
  local turned = nn.layer { params = { weight = { 2, 3 } },
    forward = function(s, x) return s.weight:matmul(x:t()):t() end }
  local straight = nn.sequential { nn.linear(3, 2, { bias = false }) }
  local w = tensor.normal({ 2, 3 }, 1, { dtype = "f64" })
  local d = { x = tensor.normal({ 6, 3 }, 2, { dtype = "f64" }), y = tensor({ 0, 1, 1, 0, 1, 0 }, { dtype = "i64" }) }
  for _, kind in ipairs { "exact", "empirical", "sampled" } do
    local got = probe.fisher(turned, { weight = w }, d, { kind = kind })
    close("without closed form", got, { weight = probe.fisher(straight, { ["0.weight"] = w }, d, { kind = kind })["0.weight"] }, 1e-13)
  end
  close("norms without closed form", { n = probe.example_norms(turned, { weight = w }, d) },
    { n = probe.example_norms(straight, { ["0.weight"] = w }, d) }, 1e-13)
end

-- Buffers count for nothing, so that whole models merge; half precision is taken as f32.
do
  local net = nn.sequential { nn.conv2d(1, 2, 3), nn.batch_norm(2), nn.activation "relu", nn.flatten(), nn.linear(8, 3) }
  local a, b = net:init { seed = 1 }, net:init { seed = 2 }
  local d = { x = tensor.normal({ 5, 4, 4, 1 }, 3) }
  local fa, fb = probe.fisher(net, a, d), probe.fisher(net, b, d)
  assert(fa:mass() == 0 and fa:tensor "1.running_var":max() == 0 and fa:tensor "0.weight":min() >= 0)
  local m = merge.fisher { a, b, fisher = { fa, fb } }
  check.near(m:tensor "1.running_var"[1]:item(), 1, 1e-6)
  -- Equal information is the mean, none of b is a.
  assert((merge.fisher { a, b, fisher = { fa, fa } } - merge.linear { a, b }):norm() < 1e-6)
  local sure = merge.fisher { a, b, fisher = { fa, 0 * fa }, floor = 0 }
  for _, name in ipairs(a:names()) do
    local known = fa:tensor(name):gt(0):to "f32"
    assert(((sure:tensor(name):load() - a:tensor(name)) * known):abs():max() < 1e-6, name)
  end
  local half = probe.fisher(net, a:cast "bf16", d)
  assert(oracle.distance(tensors(half), tensors(fa)) < 0.05)
end

-- ---- what is refused ----

check.raises("expected a network", probe.fisher, 1, small, small_data)
check.raises('kind = "true"', probe.fisher, small_net, small, small_data, { kind = "true" })
check.raises("the data have no labels", probe.fisher, small_net, small, { x = small_data.x }, { kind = "empirical" })
check.raises("batch is a whole number", probe.fisher, small_net, small, small_data, { batch = 0 })
check.raises("expected a model or a table", probe.fisher, small_net, 1, small_data)
check.raises("the parameters have no fc1.weight", probe.fisher, small_net, {}, small_data)
check.raises("the batch", probe.example_squares, function(w) return w:sum() end, tensor { 1 })
check.raises("no closed form at", probe.example_squares, function(w, x) return (w * w):sum() + (x * w):sum() end,
  tensor { 1, 2 }, tensor { { 1, 2 }, { 3, 4 } })
check.raises("2 and 3 examples", probe.example_squares, function(w, b) return (b[1] * w):sum() + (b[2] * w):sum() end,
  tensor { 1, 2 }, { tensor { { 1, 2 }, { 3, 4 } }, tensor { { 1, 2 }, { 3, 4 }, { 5, 6 } } })
