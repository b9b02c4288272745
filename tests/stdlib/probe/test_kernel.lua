-- SPDX-License-Identifier: Apache-2.0
-- Gradients and Jacobians of single examples: the tangent kernel, and how gradients agree.
local check = dofile "tests/stdlib/bind/check.lua"
local curved = dofile "tests/stdlib/probe/curved.lua"
local oracle = dofile "tests/stdlib/nn/oracle.lua"

-- ---- the dense reference network: kernel, Hessian, gradients ----

do
  local m, about = oracle.read "tests/golden/net/curvature/small.safetensors"
  local net = nn.mlp { sizes = about.setting.sizes, act = about.setting.act }
  local theta, x = oracle.theta(m, "f64"), m:tensor "in.x":to "f64"
  local f = net:loss { x = x, y = m:tensor "in.labels" }
  local function value(name) return m:tensor(name):item() end
  local k = probe.ntk(net, theta, x[{ { 1, 16 } }])
  assert((k.kernel - m:tensor "ntk"):abs():max() < 1e-11 * k.trace)
  local one = probe.ntk(net, theta, { x = x[{ { 1, 16 } }] }, { sum = true })
  local apart = k.kernel:reshape { 16, 4, 16, 4 } -- [example, output, example, output]
  assert((one.kernel - apart:sum(4):sum(2)):abs():max() < 1e-11 * one.trace)
  local same = 0
  for c = 1, 4 do same = same + apart[{ {}, c, {}, c }] end
  assert((same - m:tensor "ntk_summed"):abs():max() < 1e-11 * k.trace)
  check.equal({ k.n, k.outputs, k.size, k.parameters }, { 16, 4, 64, 214 })
  check.near(k.trace, m:tensor "ntk_eigenvalues":sum(), 1e-9)

  local g = probe.gradients(f, theta)
  local norms = m:tensor "example_grad_norm"
  assert(((g.inner * tensor.eye(64):to "f64"):sum(1):sqrt() - norms):abs():max() < 1e-12)
  check.near(g.mean_cosine, value "example_cosine_mean", 1e-12)
  check.near(g.noise_trace, value "grad_noise_trace", 1e-11)
  check.near(g.noise_scale, value "grad_noise_scale", 1e-9 * value "grad_noise_scale")

  local H <close> = f:linearize(theta)
  local e = probe.eigenvalues(H, { top = 6, tolerance = 1e-9, vectors = true })
  local want = m:tensor "hessian_eigenvalues":totable()
  for i = 1, 6 do check.near(e.values[i], want[215 - i], 1e-10) end
  check.near(probe.eigenvalues(H, { kind = "ggn", top = 1, tolerance = 1e-9 }).values[1], m:tensor "ggn_eigenvalues":max(), 1e-11)
  local v, at = m:tensor "hessian_top_eigenvector", 1
  local inside = 0
  for _, t in ipairs { "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias" } do
    local n = theta:info(t).numel
    inside, at = inside + e.vectors[1]:tensor(t):flatten():dot(v[{ { at, at + n - 1 } }]), at + n
  end
  check.near(math.abs(inside), 1, 1e-12)
  check.near(probe.fisher_trace(net, theta, { x = x }).trace[1], value "ggn_trace", 1e-11)
end

for _, act in ipairs { "relu", "tanh" } do
  local f, theta, d, net, want = curved.tiny(act)
  local g, w = probe.gradients(f, theta), want.gradient_pairs
  check.near(g.least_cosine, w.cosine_min, 1e-11)
  check.near(g.mean_cosine, w.cosine_mean, 1e-11)
  check.near(g.confusion, w.inner_min, 1e-10)
  check.near(g.noise_scale * 47 / 48, w.noise_scale, 1e-9 * w.noise_scale)
  check.near(g.gradient_norm, f:grad(theta):norm(), 1e-12)
  check.near(1 / g.diversity, 48 ^ 2 * g.gradient_norm ^ 2 / (g.inner * tensor.eye(48):to "f64"):sum(), 1e-10)
  assert(g.within > g.between)
  -- parts of 12 examples: their mean is the same gradient
  local parts = probe.gradients(f, theta, { m = 12 })
  check.equal({ parts.parts, parts.within == nil }, { 4, true })
  check.near(parts.gradient_norm, g.gradient_norm, 1e-12)
  -- a kernel is at distance 0 from its multiples and from itself in f32 up to rounding
  local a = probe.ntk(net, theta, d.x[{ { 1, 6 } }])
  check.near(probe.kernel_distance(a, 3 * a.kernel), 0, 1e-14)
  local b = probe.ntk(net, 0.5 * theta, d.x[{ { 1, 6 } }])
  check.near(probe.kernel_distance(a, b), probe.kernel_distance(b, a), 1e-14)
  assert(probe.kernel_distance(a, b) > 1e-3)
  local part, rest = probe.ntk(net, theta, d.x[{ { 1, 6 } }], { only = "fc3" }), probe.ntk(net, theta, d.x[{ { 1, 6 } }], { only = "fc[12]" })
  assert((part.kernel + rest.kernel - a.kernel):abs():max() < 1e-11)
end

-- Identical examples.
do
  local net = nn.mlp { 2, 3 }
  local f = net:loss { x = tensor { { 1, 2 }, { 1, 2 }, { 1, 2 } }, y = tensor({ 1, 1, 1 }, { dtype = "i64" }) }
  local g = probe.gradients(f, net:init { seed = 1 })
  check.near(g.least_cosine, 1, 1e-6)
  check.near(g.diversity, 1 / 3, 1e-6)
  check.near(g.noise_scale, 0, 1e-5)
  assert(tostring(g):find "stiffness 1 within classes$" and g.between == nil, tostring(g))
  check.raises("two gradients at least", probe.gradients, f, net:init { seed = 1 }, { m = 3 })
  check.raises("expected net:loss(data)", probe.gradients, 1, net:init { seed = 1 })
end

do -- a linear map: K = x x' + 1, over more parameters than are multiplied at once
  local net = nn.mlp { 20000, 1 }
  local x = tensor.normal({ 3, 20000 }, 1, { dtype = "f64" })
  local k = probe.ntk(net, net:init { seed = 1, dtype = "f64" }, x).kernel
  assert((k - x:matmul(x:t()) - 1):abs():max() < 1e-9)
end
check.raises("kernels of 2 and of 3 rows", probe.kernel_distance, tensor.eye(2), tensor.eye(3))
do -- memory is asked for before
  local net = nn.mlp { 1000, 400, 10 }
  check.raises("examples times outputs", probe.ntk, net, net:init { seed = 1 }, tensor.zeros { 100, 1000 })
end
