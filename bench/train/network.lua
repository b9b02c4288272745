-- A step of SGD with momentum on a network of nn: arg = its name and the batch.
local formula = require "formula"
local name, batch = arg[1], tonumber(arg[2])
local net, x, y
if name == "resnet" then
  net, x, y = nn.resnet { depth = 8 }, formula.tensor({ batch, 28, 28, 1 }, 1, 0.5), tensor.arange(batch) % 10
else
  local t = 128
  net, x = nn.gpt { vocab = 256, context = t, width = 128, layers = 4 }, (tensor.arange(batch * t) * 7 % 251)
  x = x:reshape { batch, t }
  y = x[{ {}, { 2, t } }]
end

local theta, buffers = formula.network(net)
local momentum = {}
for k, w in pairs(theta) do momentum[k] = w * 0 end

local step = compile(function(p, m, stats, input, labels)
  local loss, g, state = value_and_grad(function(w)
    local all = {}
    for k, v in pairs(w) do all[k] = v end
    for k, v in pairs(stats) do all[k] = v end
    local z, new = net(all, input, { mode = "train" })
    if name ~= "resnet" then z = z[{ {}, { 1, -2 } }] end
    return z:cross_entropy(labels), new
  end, p)
  local p2, m2, stats2 = {}, {}, {}
  for k, w in pairs(p) do
    m2[k] = 0.9 * m[k] + g[k]
    p2[k] = w - 0.00002 * m2[k]
  end
  for k, v in pairs(stats) do stats2[k] = state[k] or v end
  return p2, m2, stats2, loss
end, { donate = { 1, 2 } })

require "twin"(function()
  local loss
  theta, momentum, buffers, loss = step(theta, momentum, buffers, x, y)
  return loss
end)
