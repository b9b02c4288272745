-- A plane through an MLP's parameter space over 10,000 images of Fashion-MNIST: arg = the sizes, the points of an axis,
-- and how its cells are computed: "cells": by probe.plane, several side by side; "serial": one after the other, all
-- processors in each. Answers with the sum of the losses.
local formula = require "formula"
local sizes, n = {}, tonumber(arg[2])
for word in arg[1]:gmatch "%d+" do sizes[#sizes + 1] = tonumber(word) end
local net, d = nn.mlp(sizes), data.fashion_mnist().test
local list = {}
for name, t in pairs(formula.network(net)) do list[#list + 1] = { name, t } end
local theta, batch = model.new(list), d:batch(1, d.n)
local f = net:loss { x = batch.x, y = batch.y }
local d1, d2 = probe.direction(theta, { seed = 1 }), probe.direction(theta, { seed = 2 })

require "twin"(function()
  local sum = 0
  if arg[3] == "cells" then
    local p = probe.plane(f, theta, { directions = { d1, d2 }, points = n })
    for _, row in ipairs(p.loss) do
      for _, v in ipairs(row) do sum = sum + v end
    end
    return sum
  end
  for i = 0, n - 1 do
    for j = 0, n - 1 do
      sum = sum + f:report(theta + (2 * i / (n - 1) - 1) * d1 + (2 * j / (n - 1) - 1) * d2).loss
    end
  end
  return sum
end)
