-- SPDX-License-Identifier: Apache-2.0
-- A Bezier curve between two minima (Garipov et al. 2018, arXiv:1802.10026). On the straight line between two
-- networks trained apart the loss is high; a curve with one bend, itself a network, goes around the hill.
local d, net = data.digits(), nn.mlp { 64, 64, 10 }
local a = train.fit(net, d.train, { seed = 1, epochs = 20, batch = 32 })
local b = train.fit(net, d.train, { seed = 2, epochs = 20, batch = 32 })
local f = net:loss(d.test)

-- The bend, from the middle of the line on, for any point of the curve in turn.
local mid, opt = 0.5 * (a + b), train.adam { lr = 0.005 }
local phi = function(m, t) return (1-t)^2 * a + 2*t*(1-t) * m + t^2 * b end
for i, batch in d.train:batches { epochs = 20, seed = 1 } do
  local t = tensor.uniform({ 1 }, i)
  mid = opt:step(mid, grad(function(m) return net:loss(batch)(phi(m, t)) end, mid))
end

print(("%-6s %14s %14s"):format("t", "straight line", "curve"))
for i = 0, 10 do
  local t = i / 10
  local line, curve = f:report((1 - t) * a + t * b), f:report(phi(mid, t))
  print(("%-6.1f %7.2f %4.0f %% %7.2f %4.0f %%"):format(t, line.loss, 100 * line.accuracy, curve.loss,
    100 * curve.accuracy))
end

-- The other way from a to b: exchange one layer.
for name, part in net:layers() do print(("%s of the other: loss %.1f"):format(name, f(a + (b - a):only(part)))) end
