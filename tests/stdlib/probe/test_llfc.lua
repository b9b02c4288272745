-- SPDX-License-Identifier: Apache-2.0
-- Linearity of features in the weights, and variance, against stored values and identities.
local check = dofile "tests/stdlib/bind/check.lua"
local tiny = dofile "tests/stdlib/probe/tiny.lua"
local near = check.near
local f64 = { dtype = "f64" }

for _, act in ipairs { "relu", "tanh" } do
  local net, a, b, d, want = tiny.read(act)
  local r = probe.llfc(net, a, b, d, { batch = 13 })
  check.equal(#r.rows, 3)
  for i, w in ipairs(want.linearity_at_half) do
    near(r.rows[i].dist, w.dist_per_sample_mean, 1e-10, "dist")
    near(r.rows[i].dist_flattened, w.dist_flattened, 1e-10, "flattened")
    near(r.rows[i].baseline, w.baseline_per_sample_mean, 1e-10, "baseline")
    near(r.rows[i].coefficient, w.coefficient, 1e-10, "coefficient")
  end
  local at = probe.llfc(net, a, b, d, { t = { 0, 0.25, 1 }, layers = { "act2", "fc3" } })
  check.equal(#at.rows, 6)
  for _, row in ipairs(at.rows) do
    if row.t ~= 0.25 then
      near(row.dist, 0, 1e-12, "ends")
      near(row.coefficient, 1, 1e-12, "ends")
    else
      assert(row.dist > 1e-3)
    end
  end
  local v = want.variance_ratio_at_half
  if act == "relu" then
    local kinds = { pre_activation = { "fc1", "fc2" }, post_activation = { "act1", "act2" } }
    for kind, layers in pairs(kinds) do
      local got = probe.variance(net, a, b, d, { layers = layers, batch = 9 })
      for i, w in ipairs(v[kind]) do
        near(got.rows[i].ratio, w.ratio_mean_of_channels, 1e-10, kind)
        near(got.rows[i].ratio_of_sums, w.ratio_of_sums, 1e-10, kind)
      end
    end
  end
  for _, t in ipairs { 0, 1 } do
    for _, row in ipairs(probe.variance(net, a, b, d, { t = t }).rows) do
      near(row.ratio, 1, 1e-12, "ratio at an end")
      near(row.of_mean, 1, 1e-12, "of_mean at an end")
    end
  end
  -- The first layer is linear, so what the mean of the features says is what the merged model does.
  local first = probe.variance(net, a, b, d, { t = 0.3 }).rows[1]
  near(first.ratio, first.of_mean, 1e-12, "first layer")
  assert(tostring(r):find "fc3" and tostring(probe.variance(net, a, b, d)):find "channels")
end

-- Cross-task linearity: at 1/n the mean of the models against the mean of the features.
do
  local net, a, b, d = tiny.read "relu"
  local base = net:init { seed = 5, dtype = "f64" }
  local half = probe.llfc(net, a, b, d)
  local r = probe.cross_task(net, { base = base, a, b }, { d, { x = 2 * d.x } })
  check.equal(#r.rows, 6)
  check.equal(r.n, 96)
  for i = 1, 3 do
    near(r.rows[i].dist, half.rows[i].dist, 1e-12, "cross task")
    near(r.rows[i].coefficient, half.rows[i].coefficient, 1e-12, "cross task")
    check.equal(r.rows[i].data, 1)
  end
  for _, row in ipairs(probe.cross_task(net, { base = a, a, a }, { d, d }, { lambda = { 0.3, 1 } }).rows) do
    near(row.dist, 0, 1e-12, "no task vectors")
  end
  -- A linear network is linear at every layer but where weights multiply weights.
  local linear = nn.sequential { nn.linear(6, 4) }
  local m = {}
  for k = 1, 3 do m[k] = linear:init { seed = k, dtype = "f64" } end
  r = probe.cross_task(linear, { base = m[1], m[2], m[3] }, { d, d }, { lambda = { -1, 0.7 } })
  for _, row in ipairs(r.rows) do near(row.dist_flattened, 0, 1e-12, "depth 1") end
end

-- Representation bias by hand.
do
  local net = nn.sequential { nn.linear(2, 2) }
  local x = tensor({ { 1, 0 }, { 0, 2 } }, f64)
  local function of(w) return model.new { { "0.weight", tensor(w, f64) }, { "0.bias", tensor({ 0, 0 }, f64) } } end
  local r = probe.representation_bias(net, of { { 1, 0 }, { 0, 1 } }, of { { 2, 0 }, { 0, 3 } }, { x = x })
  near(r.rows[1].bias, (1 + 4) / 4, 1e-15)
  near(r.rows[1].relative, 5 / 8, 1e-15)
end

-- Batch norm: running statistics made anew belong to the middle model.
do
  local net = nn.mlp { 4, 6, 3, norm = "batch" }
  local d = { x = tensor.normal({ 64, 4 }, 1) }
  local a, b = net:init { seed = 1 }, net:init { seed = 2 }
  a, b = eval.bn_reset(net, a, d), eval.bn_reset(net, b, d)
  local kept, anew = probe.llfc(net, a, b, d), probe.llfc(net, a, b, d, { bn = d })
  assert(math.abs(kept.rows[2].coefficient - anew.rows[2].coefficient) > 1e-3)
end
