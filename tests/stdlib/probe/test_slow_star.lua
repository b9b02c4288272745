-- SPDX-License-Identifier: Apache-2.0
-- A star model of networks with one hidden layer on Fashion-MNIST, aligned to it: barriers from the star to its anchors
-- and to a network it has not seen, against those between the networks. Skipped where the data are not there.
local ok, d = pcall(data.fashion_mnist, { normalise = { 0.286, 0.353 } })
if not ok then
  print "skipped: Fashion-MNIST is not there"
  os.exit(0)
end
local net = nn.mlp { 784, 32, 10 }
local begun, nets = os.clock(), {}
for k = 1, 5 do
  nets[k] = train.fit(net, d.train, { seed = k, epochs = 4, batch = 128, lr = 1e-3, schedule = "cosine", quiet = true })
end
local function matched(to, m) return align.weights(net, to, m):apply(m) end
local f = net:loss(d.test)
local function barrier(a, b) return probe.barrier(f, a, matched(a, b), { points = 11 }).barrier_loss end

local star = probe.star(net, { nets[1], nets[2], nets[3], nets[4] }, { start = nets[1], align = matched, data = d.train,
  epochs = 12, batch = 128, lr = 0.05 })
local regular, anchors, pairs_count = 0, 0, 0
for i = 1, 4 do
  for j = i + 1, 4 do regular, pairs_count = regular + barrier(nets[i], nets[j]), pairs_count + 1 end
  anchors = anchors + barrier(star.model, nets[i]) / 4
end
regular = regular / pairs_count
local held = barrier(star.model, nets[5])
print(star, ("barriers after matching: between networks %.4f, star to anchors %.4f, star to one held out %.4f"):format(
  regular, anchors, held))
assert(anchors < 0.2 * regular and held < regular)
print(("%.1f s of processor"):format(os.clock() - begun))
