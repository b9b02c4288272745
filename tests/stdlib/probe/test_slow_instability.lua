-- SPDX-License-Identifier: Apache-2.0
-- Two children of one network after k shared epochs on Fashion-MNIST: barriers and distances of three such pairs that
-- PyTorch trained; features of children are linear, those of independent runs are not. Needs Debian's
-- dataset-fashion-mnist.
local there = io.open "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
if not there then
  print "skipped: dataset-fashion-mnist is not installed"
  return
end
there:close()
local d = data.fashion_mnist()
local set, test = d.train:normalised { 0.286, 0.353 }, d.test:normalised { 0.286, 0.353 }
local net = nn.mlp { 784, 128, 128, 10 }

local r = probe.instability(net, set, { at = { 0, 0.1, 1, 3 }, unit = "epochs", fresh = true, seed = 1, points = 25,
  start = net:init { seed = 1, scheme = "torch" }, on = { train10k = set:subset(1, 10000), test = test }, independent = true,
  ways = { permuted = function(a, b) return align.weights(net, a, b, { seed = 1 }):apply(b) end },
  train = { epochs = 5, batch = 128, drop_last = true, optimiser = train.sgd { lr = 0.05, momentum = 0.9 }, schedule = "cosine" } })
print(r)

-- mean, half the range: training loss barrier, error instability on training and test data, distance.
local bands = {
  [0] = { { 0.0460, 0.0121 }, { 0.0151, 0.0031 }, { 0.0126, 0.0049 }, { 9.79, 0.64 } },
  [47] = { { 0.0174, 0.0035 }, { 0.0063, 0.0010 }, { 0.0045, 0.0010 }, { 7.03, 0.28 } },
  [468] = { { 0.0011, 0.0001 }, { 0.0013, 0.0004 }, { 0.0014, 0.0006 }, { 3.14, 0.10 } },
  [1404] = { { 0.0000, 0.0000 }, { 0.0004, 0.0002 }, { 0.0004, 0.0001 }, { 0.62, 0.01 } },
}
local rows = {}
for _, row in ipairs(r.mean) do rows[row.at .. row.data .. (row.way == "direct" and "" or row.way)] = row end
for k, band in pairs(bands) do
  local a, b = rows[k .. "train10k"], rows[k .. "test"]
  local got = { a.barrier_loss, a.instability, b.instability, a.distance }
  local least = { 0.01, 0.005, 0.005, 0.2 }
  for i, v in ipairs(got) do
    local room = math.max(3 * band[i][2], least[i])
    assert(math.abs(v - band[i][1]) <= room, ("k = %d, %d: got %g, expected %g ± %g"):format(k, i, v, band[i][1], room))
  end
end
-- The order of k, and independent runs far above.
assert(rows["0train10k"].barrier_loss > rows["47train10k"].barrier_loss)
assert(rows["47train10k"].barrier_loss > rows["1404train10k"].barrier_loss + 0.005)
assert(rows["independenttrain10k"].barrier_loss > 4 * rows["0train10k"].barrier_loss)
assert(rows["independenttest"].instability > 0.1)
-- Spawning against permuting: units matched, independent runs come near to children of one initialisation.
assert(rows["independenttrain10kpermuted"].barrier_loss < 0.15 * rows["independenttrain10k"].barrier_loss)

-- Layer-wise linear feature connectivity of the same pairs.
local some = test:subset(1, 2000)
local near = probe.llfc(net, r.children[0][1], r.children[0][2], some)
local far = probe.llfc(net, r.children.independent[1], r.children.independent[2], some)
print(near)
print(far)
for i, row in ipairs(near.rows) do
  assert(row.dist < 0.03 and row.dist < row.baseline and row.coefficient > 0.9, row.layer)
  if i > 1 then assert(far.rows[i].dist > 0.1 and far.rows[i].coefficient < 0.75, row.layer) end
end

-- Function space: children of one network disagree less than runs that share nothing.
local c = r.children
local m = probe.agreement(net, { c[468][1], c[468][2], c.independent[1], c.independent[2] }, test)
print(m)
assert(m.matrix[{ 1, 2 }] < 0.8 * m.matrix[{ 3, 4 }])
local v = probe.variance(net, c.independent[1], c.independent[2], some, { layers = { "act1", "act2" } })
print(v)
assert(v.rows[2].ratio_of_sums < 0.4)
