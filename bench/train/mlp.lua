-- A step of SGD with momentum on a multilayer perceptron: arg = sizes and the batch, as "784-512-10 128".
-- Weights come from a formula, so that the twin has the same.
local formula = require "formula"
local sizes, batch = {}, tonumber(arg[2])
for n in arg[1]:gmatch "%d+" do sizes[#sizes + 1] = tonumber(n) end

local theta, momentum = {}, {}
for l = 1, #sizes - 1 do
  theta[2 * l - 1] = formula.tensor({ sizes[l + 1], sizes[l] }, (sizes[l] / 4) ^ -0.5, l)
  theta[2 * l] = tensor.zeros { sizes[l + 1] }
end
for k, w in ipairs(theta) do momentum[k] = w * 0 end
local x = formula.tensor({ batch, sizes[1] }, 1, 0.5)
local labels = tensor.arange(batch) % sizes[#sizes]

local step = compile(function(p, m, images, y, rate)
  local loss, g = value_and_grad(function(w)
    local h = images
    for l = 1, #sizes - 1 do
      h = h:matmul(w[2 * l - 1]:t()) + w[2 * l]
      if l < #sizes - 1 then h = h:relu() end
    end
    return h:cross_entropy(y)
  end, p)
  local p2, m2 = {}, {}
  for k = 1, #p do
    m2[k] = 0.9 * m[k] + g[k]
    p2[k] = p[k] - rate * m2[k]
  end
  return p2, m2, loss
end, { donate = { 1, 2 } })

require "twin"(function()
  local loss
  theta, momentum, loss = step(theta, momentum, x, labels, 0.0002)
  return loss
end)
