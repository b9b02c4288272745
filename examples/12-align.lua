-- SPDX-License-Identifier: Apache-2.0
-- Two networks trained apart compute much the same with their neurons in another order. Between them the loss is
-- high, and their mean is worse than either. What may be reordered follows from the network itself; align.weights
-- finds the order in which the weights agree best (Ainsworth et al. 2022, arXiv:2209.04836), and then the way between
-- them is free.
-- With an argument, `tarn examples/12-align.lua barrier.svg`, the picture is saved as SVG too.
local net, d = nn.mlp { 64, 128, 64, 10 }, data.digits()
local a = model.load "examples/data/base.safetensors" -- trained on digits turned by 15 degrees
local b = model.load "examples/data/twin.safetensors" -- trained on upright ones, from another seed
local f = net:loss(d.test)

print(align.groups(net))
local p = align.weights(net, a, b)
assert(p:check(net, b, d.test) < 1e-5) -- the same function, moved
for _, g in ipairs(p:agreement()) do
  print(("%s: cosine of weights %.2f, aligned %.2f"):format(g.group, g.before, g.after))
end
local moved = p:apply(b)

local apart, aligned = probe.path(f, a, b), probe.path(f, a, moved)
print(("\n%-14s %6s %6s %9s %9s"):format("accuracy, %", "base", "twin", "lowest", "barrier"))
for _, row in ipairs { { "as they are", b, apart }, { "aligned", moved, aligned } } do
  local name, other, path = table.unpack(row)
  print(("%-14s %6.1f %6.1f %9.1f %9.2f"):format(name, 100 * f:report(a).accuracy, 100 * f:report(other).accuracy,
    100 * (1 - math.max(table.unpack(path.error))), probe.barrier(path).barrier_loss))
end

local fig = plot.path(apart, aligned, { labels = { "as they are", "aligned" }, title = "loss from base to twin" })
fig:print { width = 70, height = 12, ascii = true }
if arg[1] then fig:save(arg[1]) end
