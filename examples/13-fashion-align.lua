-- SPDX-License-Identifier: Apache-2.0
-- Networks trained apart on Fashion-MNIST, and the network half-way between two of them: as they are, after
-- alignment, after repair. A perceptron comes through with its neurons in order. In a convolutional network it goes by
-- the matcher, and activations do better than weights. Features that are averaged vary less; repair (REPAIR: Jordan et
-- al. 2022, arXiv:2211.08403) gives their spread back, with batch norms by statistics made anew, and helps most
-- where the match is poor.
-- The images come from `apt install dataset-fashion-mnist`; the run takes half a minute.
local d = data.fashion_mnist()
local train_set, test = d.train:take(20000), d.test:take(2000)
local seen = d.train:take(2000) -- for matching and for statistics, without labels

local function accuracy(net, theta) return 100 * eval.accuracy(net, test)(theta) end

local function row(name, net, theta, ends)
  local half = accuracy(net, theta)
  print(("  %-40s %9.1f %9.1f"):format(name, half, ends - half))
end

-- Trains two networks and merges them in every way.
local function compare(title, net, how)
  local function trained(seed)
    return train.fit(net, train_set, { seed = seed, epochs = how.epochs, batch = how.batch, quiet = true })
  end
  local a, b = trained(1), trained(2)
  local first, second = accuracy(net, a), accuracy(net, b)
  print(("%s: %.1f and %.1f"):format(title, first, second))
  local function between(name, moved)
    row(name, net, 0.5 * (a + moved), (first + second) / 2)
    row(name .. ", repaired", net, (align.repair(net, a, moved, { data = seen })), (first + second) / 2)
  end
  between("as they are", b)
  between("aligned by weights", align.weights(net, a, b, { restarts = 5 }):apply(b))
  between("aligned by activations", align.activations(net, a, b, { data = seen }):apply(b))
end

print(("  %-40s %9s %9s"):format("accuracy, %", "half-way", "lost"))
compare("perceptron, 128-128", nn.mlp { 784, 128, 128, 10 }, { epochs = 5, batch = 128 })
compare("perceptron, 512-512", nn.mlp { 784, 512, 512, 10 }, { epochs = 3, batch = 128 })
compare("VGG with batch norms", nn.conv { 12, "M", 24, "M", 48, "M" }, { epochs = 1, batch = 64 })
