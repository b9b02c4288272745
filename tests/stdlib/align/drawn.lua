-- SPDX-License-Identifier: Apache-2.0
-- First weights of networks, and inputs for them.
local drawn = {}

-- Biases, gains and shifts that are not all the same.
function drawn.model(net, seed)
  local noise = net:init { seed = seed + 100, scheme = function() return { "normal", 1 } end }
  return net:init { seed = seed } + 0.1 * noise
end

function drawn.inputs(net, n)
  local shape = { n, table.unpack(net.input) }
  return { x = net.tokens and tensor.randint(0, net.tokens, shape, 1) or tensor.randn(shape, 1) }
end

return drawn
