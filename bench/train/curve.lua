-- Curve training: the bend of a Bezier curve between two MLPs, arg[2] steps of batches of 128 by probe.curve, which
-- records and compiles its step each time; arg[1] = sizes. Answers with the loss of the last step. There are as many
-- examples as in a batch, so that their order does not matter, and the twin knows the places t.
local formula = require "formula"
local sizes, steps = {}, tonumber(arg[2])
for word in arg[1]:gmatch "%d+" do sizes[#sizes + 1] = tonumber(word) end
local net = nn.mlp(sizes)
local f = net:loss { x = formula.tensor({ 128, sizes[1] }, 1, 0.5), y = tensor.arange(128) % sizes[#sizes] }

local function ends(shift)
  local parts = {}
  for l = 1, #sizes - 1 do
    local w = formula.tensor({ sizes[l + 1], sizes[l] }, (sizes[l] / 4) ^ -0.5, l + shift)
    parts[#parts + 1] = { ("fc%d.weight"):format(l), w }
    parts[#parts + 1] = { ("fc%d.bias"):format(l), tensor.zeros { sizes[l + 1] } }
  end
  return model.new(parts)
end

local a, b = ends(0), ends(10)

require "twin"(function()
  local c = probe.curve(f, a, b, { steps = steps, batch = 128, schedule = "constant",
    optimiser = train.sgd { lr = 0.0005, momentum = 0.9 } })
  return c.losses[steps]
end)
