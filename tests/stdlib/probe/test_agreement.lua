-- SPDX-License-Identifier: Apache-2.0
-- Agreement of predictions against stored values and closed forms.
local check = dofile "tests/stdlib/bind/check.lua"
local tiny = dofile "tests/stdlib/probe/tiny.lua"
local near = check.near

for _, act in ipairs { "relu", "tanh" } do
  local net, a, b, d, want = tiny.read(act)
  want = want.agreement
  for _, r in ipairs { probe.agreement(net, a, b, d, { batch = 7 }), probe.agreement(net(a, d.x), net(b, d.x), d.y) } do
    near(r.disagreement, want.disagreement, 0)
    near(r.normalised_b, want.disagreement_normalised_by_error_B, 1e-12)
    near(r.kappa, want.error_overlap_kappa, 1e-12)
    near(r.js, want.js_mean_nats, 1e-10)
    near(r.kl_ab, want.kl_A_B_mean, 1e-10)
    near(r.kl_ba, want.kl_B_A_mean, 1e-10)
    near(r.logit_cosine, want.logit_cosine_mean, 1e-10)
    near(r.accuracy_a, want.accuracy_A, 1e-12)
    near(r.accuracy_b, want.accuracy_B, 1e-12)
    check.equal(r.n, 48)
  end
  -- Of a list: symmetric where it should be, each row by its own model's error.
  local pair, r = probe.agreement(net, a, b, d), probe.agreement(net, { a, b, a }, d, { batch = 11 })
  near(r.matrix[{ 1, 2 }], pair.disagreement, 0)
  near(r.matrix[{ 3, 2 }], pair.disagreement, 0)
  near(r.matrix[{ 1, 3 }], 0, 0)
  near(r.normalised[{ 1, 2 }], pair.normalised_a, 1e-12)
  near(r.normalised[{ 2, 1 }], pair.normalised_b, 1e-12)
  near(r.kappa[{ 1, 3 }], 1, 1e-12)
  near(r.js[{ 2, 3 }], pair.js, 1e-12)
  assert(tostring(r):find "disagreement" and tostring(pair):find "kappa")
end

-- Without labels there is what needs none.
do
  local net, a, b, d = tiny.read "relu"
  local r = probe.agreement(net, a, b, { x = d.x })
  assert(r.kappa == nil and r.disagreement > 0 and r.js > 0)
  check.equal(probe.agreement(net, a, a, d).disagreement, 0.0)
  near(probe.agreement(net, a, a, d).js, 0, 1e-15)
end

-- Disjoint certain predictions: JS is log 2; two models that are wrong on different halves have kappa -1.
do
  local za = tensor({ { 1000, 0 }, { 1000, 0 } }, { dtype = "f64" })
  local zb = tensor({ { 0, 1000 }, { 1000, 0 } }, { dtype = "f64" })
  local r = probe.agreement(za, zb, tensor({ 0, 1 }, { dtype = "i64" }))
  near(r.js, math.log(2) / 2, 1e-12)
  near(r.disagreement, 0.5, 0)
  local swapped = probe.agreement(za, tensor({ { 0, 1000 }, { 0, 1000 } }, { dtype = "f64" }),
    tensor({ 0, 1 }, { dtype = "i64" }))
  near(swapped.kappa, -1, 1e-12)
  near(swapped.chance, 0.5, 1e-12)
end

-- Tokens: every place is a row.
do
  local net = nn.gpt { vocab = 7, width = 8, layers = 1, heads = 2, context = 6 }
  local x = tensor.randint(0, 7, { 3, 6 }, 1)
  local r = probe.agreement(net, net:init { seed = 1 }, net:init { seed = 2 }, { x = x })
  check.equal(r.n, 15)
  assert(r.accuracy_a >= 0)
end

check.raises("shapes", probe.agreement, tensor.ones { 2, 3 }, tensor.ones { 2, 4 })
