-- SPDX-License-Identifier: Apache-2.0
-- Agreement and variance of a trained pair on Fashion-MNIST against stored values, and what similarity says of it.
local file = io.open "../shared/oracles/landscape/probes/fm.json"
local there = io.open "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
if not file or not there then
  print "skipped: the reference values or dataset-fashion-mnist are not there"
  return
end
local want = require "json.decode".decode(file:read "a")
file:close()
there:close()
local folder = "../shared/oracles/landscape/probes/"
local d = data.fashion_mnist()
local set, test = d.train:normalised { 0.286, 0.353 }, d.test:normalised { 0.286, 0.353 }
local net = nn.mlp { 784, 64, 32, 10 }
local a, b = model.load(folder .. "fm_A.safetensors"), model.load(folder .. "fm_B.safetensors")
local io_of = model.load(folder .. "fm_io.safetensors")
local part = set:subset(io_of:tensor "indices" + 1)

local function compare(got, w, most)
  for name, key in pairs { disagreement = "disagreement", normalised_b = "disagreement_normalised_by_error_B",
    kappa = "error_overlap_kappa", js = "js_mean_nats", kl_ab = "kl_A_B_mean", kl_ba = "kl_B_A_mean",
    logit_cosine = "logit_cosine_mean", accuracy_a = "accuracy_A", accuracy_b = "accuracy_B" } do
    assert(math.abs(got[name] - w[key]) <= most, ("%s: got %.9g, want %.9g"):format(name, got[name], w[key]))
  end
end
compare(probe.agreement(net, a, b, part), want.agreement, 1e-6)
compare(probe.agreement(net, a, b, test), want.agreement_test, 1e-5)
for kind, layers in pairs { pre_activation = { "fc1", "fc2" }, post_activation = { "act1", "act2" } } do
  local r = probe.variance(net, a, b, part, { layers = layers })
  for i, w in ipairs(want.variance_ratio_at_half[kind]) do
    assert(math.abs(r.rows[i].ratio - w.ratio_mean_of_channels) < 1e-5, kind)
    assert(math.abs(r.rows[i].ratio_of_sums - w.ratio_of_sums) < 1e-5, kind)
  end
end

-- Measures of one pair, and what they must satisfy: equal depths are most alike; minibatches agree with all of it.
local layers = { "act1", "act2", "fc3" }
local began = os.clock()
local cka = probe.cka(net, a, b, test, { layers = layers, unbiased = true })
print(cka, ("%.2f s of CPU time"):format(os.clock() - began))
local mini = probe.cka(net, a, b, test, { layers = layers, minibatch = 50 })
assert((cka.matrix - mini.matrix):abs():max() < 0.01)
for _, name in ipairs { "svcca", "procrustes", "matched_correlation" } do
  print(probe[name](net, a, b, test:subset(1, 2000), { layers = layers }))
end
local probes = probe.linear_probe(net, { a, 0.5 * a + 0.5 * b }, set:subset(1, 5000), test:subset(1, 2000), { layers = layers })
print(probes)
assert(probes.accuracy[1][1] > 0.8 and probes.accuracy[2][1] > 0.6)
