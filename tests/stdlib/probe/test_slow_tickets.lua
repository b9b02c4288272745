-- SPDX-License-Identifier: Apache-2.0
-- Lottery tickets and the intrinsic dimension of a network on the 8 x 8 digits: tickets keep what random masks lose,
-- their solutions stay connected, and a few hundred of ten thousand dimensions are enough.
local d = data.digits()
local net = nn.mlp { 64, 128, 10 }
local r = probe.tickets(net, d.train, { levels = 5, share = 0.5, on = { test = d.test }, seed = 1, controls = { "random" },
  children = 2, points = 9, train = { epochs = 20, batch = 64, lr = 2e-3 } })
print(r)
local by = {}
for _, row in ipairs(r.rows) do by[row.level .. row.kind] = row end
for level = 3, 5 do
  assert(by[level .. "ticket"].loss < by[level .. "random"].loss, level)
  assert(by[level .. "ticket"].barrier_previous < 0.05, level)
end
assert(by["2ticket"].error < by["0dense"].error + 0.015)
local pool = probe.ticket_pool(net, r, d.test, { alphas = { 0.25, 0.5, 0.75 } })
print(pool)

local s = probe.intrinsic_dimension(net, d.train, { dims = { 10, 50, 200, 600 }, on = { test = d.test }, seed = 1,
  train = { epochs = 30, batch = 64, lr = 0.02 }, train_full = { epochs = 20, batch = 64, lr = 2e-3 } })
print(s)
local last = 0
for _, m in ipairs(s.mean) do
  assert(m.accuracy > last - 0.02, m.d)
  last = m.accuracy
end
assert(s.mean[1].accuracy < 0.7 and s.dimension.test and s.dimension.test <= 600)
