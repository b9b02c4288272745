-- SPDX-License-Identifier: Apache-2.0
-- AdaMerging by layer (Yang et al. 2024, arXiv:2310.02575): how much of each task vector each layer takes is
-- learned through the merge itself, from images without labels. Here one network learned digits that stand
-- a pixel too far right, another digits a pixel too low, and the merge is to read both.
local digits, net = data.digits(), nn.mlp { 64, 128, 64, 10 }

local function moved(d, dim) -- by one pixel along a dimension of [n, height, width, 1]
  return data.tensors { x = d.x:index_select(dim, tensor({ 8, 1, 2, 3, 4, 5, 6, 7 }, { dtype = "i64" })), y = d.y }
end
local right, low = moved(digits.test, 3), moved(digits.test, 2)
local base = train.fit(net, digits.train, { seed = 1, epochs = 20, batch = 32 })
local tau = {}
for k, dim in ipairs { 3, 2 } do
  tau[k] = train.fit(net, moved(digits.train, dim), { start = base, seed = 4, epochs = 10, batch = 32 }) - base
end
local unlabelled = data.tensors { x = tensor.cat({ right.x, low.x }, 1) }

-- The whole method:
local c, opt = tensor.full({ #tau, net.depth }, 0.3), train.adam { lr = 1e-3 }
local function entropy(c, x) -- luacheck: ignore 431
  local th = base
  for k, t in ipairs(tau) do th = th + by.depth(c[k]:clamp(0, 1)) * t end
  return net(th, x):entropy():mean()
end
local before = entropy(c, unlabelled:batch())
for _, x in unlabelled:batches { size = 16, steps = 500, seed = 1 } do c = opt:step(c, grad(entropy, c, x)) end

-- How much of it was worth it, now with labels.
local on_right, on_low = eval.accuracy(net, right), eval.accuracy(net, low)
local learned = base
for k, t in ipairs(tau) do learned = learned + by.depth(c[k]:clamp(0, 1)) * t end
print(("%-24s %6s %6s %6s"):format("accuracy, %", "right", "low", "mean"))
for _, row in ipairs {
  { "base", base }, { "moved right", base + tau[1] }, { "moved down", base + tau[2] },
  { "all coefficients 0.3", base + 0.3 * tau[1] + 0.3 * tau[2] }, { "AdaMerging by layer", learned },
} do
  local x, y = 100 * on_right(row[2]), 100 * on_low(row[2])
  print(("%-24s %6.0f %6.0f %6.0f"):format(row[1], x, y, (x + y) / 2))
end
print(("entropy %.2f, then %.2f"):format(before, entropy(c, unlabelled:batch())))
for k, name in ipairs { "moved right", "moved down" } do
  print(("%-24s by layer: %.1f %.1f %.1f"):format(name, table.unpack(c[k]:totable())))
end
