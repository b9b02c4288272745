-- The ten largest eigenvalues of an MLP's Hessian over arg[2] examples: 40 steps of Lanczos with full
-- re-orthogonalisation, recording of the derivative included. Answers with their sum.
local formula = require "formula"
local sizes, n = {}, tonumber(arg[2])
for word in arg[1]:gmatch "%d+" do sizes[#sizes + 1] = tonumber(word) end
local net = nn.mlp(sizes)
local f = net:loss { x = formula.tensor({ n, sizes[1] }, 1, 0.5), y = tensor.arange(n) % sizes[#sizes] }
local parts = {}
for l = 1, #sizes - 1 do
  local w = formula.tensor({ sizes[l + 1], sizes[l] }, (sizes[l] / 4) ^ -0.5, l)
  parts[#parts + 1] = { ("fc%d.weight"):format(l), w }
  parts[#parts + 1] = { ("fc%d.bias"):format(l), tensor.zeros { sizes[l + 1] } }
end
local theta = model.new(parts)
require "twin"(function()
  local H <close> = f:linearize(theta)
  local e = probe.eigenvalues(H, { top = 10, products = 40, basis = 40, tolerance = 0 })
  local sum = 0
  for _, v in ipairs(e.values) do sum = sum + v end
  return sum
end)
