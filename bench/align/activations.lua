-- SPDX-License-Identifier: Apache-2.0
-- What align.activations costs beside the forward passes that it consists of (the loss of both networks on the same
-- images), in processor time, the least of some runs:
--
--   tarn [--threads N] bench/align/activations.lua [IMAGES = 10000] [RUNS = 5] [mlp resnet8 vgg]
--
-- Networks are trained a little first, so that there is something to match. `product` is how many multiplications
-- there are in the cross products for each in the forward passes: below 1 + product there is nothing to be had.
-- Needs dataset-fashion-mnist.
local vgg = require "vgg"
local images, runs = math.tointeger(arg[1] or 10000), math.tointeger(arg[2] or 5)
local d = data.fashion_mnist().train:take(images)

-- Multiplications an image: of the forward pass of both, of the cross products that align.activations makes.
local nets = {
  mlp = { nn.mlp { 784, 512, 512, 512, 10 }, 2 * (784 * 512 + 2 * 512 ^ 2 + 5120), 3 * 512 ^ 2 },
  resnet8 = { nn.resnet {}, 2 * (784 * 9 * (16 + 2 * 256) + 196 * (9 * (512 + 1024) + 512)
    + 49 * (9 * (2048 + 4096) + 2048)), 784 * 3 * 256 + 196 * 2 * 1024 + 49 * 2 * 4096 },
  vgg = { vgg(), 2 * 9 * (784 * 12 + 196 * 288 + 49 * (24 * 48 + 48 * 48)), 784 * 144 + 196 * 576 + 49 * 2 * 2304 },
}

local function seconds(f)
  local least = math.huge
  for _ = 1, runs do
    local began = os.clock()
    f()
    least = math.min(least, os.clock() - began)
  end
  return least
end

for _, name in ipairs(#arg > 2 and { table.unpack(arg, 3) } or { "mlp", "resnet8", "vgg" }) do
  local net, forward, cross = table.unpack(nets[name] or error("no network is called " .. name, 0))
  local models = {}
  for seed = 1, 2 do
    local few = d:take(math.min(images, 2000))
    models[seed] = train.fit(net, few, { seed = seed, epochs = 2, batch = 100, quiet = true })
  end
  local a, b = table.unpack(models)
  local f = net:loss(d)
  local function match(o) return align.activations(net, a, b, { data = d, check = false, examples = o }) end
  f(a)
  local passes = seconds(function() return f(a), f(b) end)
  local all, few = seconds(match), seconds(function() match(64) end)
  print(("%-8s forward %.2f s, matched %.2f s: %.2f x (product 1 + %.2f); on 64 images %.2f s"):format(name, passes,
    all, all / passes, cross / forward, few))
end
