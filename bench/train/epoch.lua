-- An epoch of SGD with momentum on Fashion-MNIST by train.fit, from the same weights each time: arg = the sizes
-- of an MLP and the batch. The answer is the mean loss, which the order of the batches hardly changes.
local formula = require "formula"
local sizes = {}
for n in arg[1]:gmatch "%d+" do sizes[#sizes + 1] = tonumber(n) end
local net, d, seed = nn.mlp(sizes), data.fashion_mnist().train, 0
local list = {}
for name, t in pairs(formula.network(net)) do list[#list + 1] = { name, t } end
local start = model.new(list)

require "twin"(function()
  seed = seed + 1
  local _, log = train.fit(net, d, { start = start, batch = tonumber(arg[2]), seed = seed, accuracy = false,
    optimiser = train.sgd { lr = 0.0001, momentum = 0.9 } })
  return log[1].loss
end)
