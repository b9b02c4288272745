-- SPDX-License-Identifier: Apache-2.0
-- Two epochs of an MLP on Fashion-MNIST: the accuracy that PyTorch reaches with the same initialisation scheme, rate
-- and momentum, within a point. Needs Debian's dataset-fashion-mnist.
local there = io.open "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
if not there then
  print "skipped: dataset-fashion-mnist is not installed"
  return
end
there:close()
local d = data.fashion_mnist()
-- PyTorch's accuracies after two epochs with two seeds.
local least, most = 0.8463, 0.8524
local net = nn.mlp { 784, 512, 512, 10 }
local theta, log = train.fit(net, d.train, { epochs = 2, batch = 128, optimiser = train.sgd { lr = 0.05, momentum = 0.9 },
  seed = 1 })
local accuracy = eval.accuracy(net, d.test)(theta)
print(("accuracy %.4f, PyTorch %.4f to %.4f; %.1f s an epoch"):format(accuracy, least, most, log[2].seconds / 2))
assert(accuracy > least - 0.01 and accuracy < most + 0.01, accuracy)
local r = eval.report(net, d.test)(theta)
assert(r.ece < 0.1 and r.brier < 0.3 and r.confusion:sum() == 10000)
