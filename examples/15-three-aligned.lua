-- SPDX-License-Identifier: Apache-2.0
-- Three networks trained apart, brought into one frame together. Matching each to the first leaves the second and the
-- third as good or bad a pair as chance makes them; maps that are found for all at once are consistent, so that going
-- around (1 to 2 to 3 to 1) changes nothing (C2M3: Crisostomi et al. 2024, arXiv:2405.17897).
local net, d = nn.mlp { 64, 64, 64, 10 }, data.digits()
local ms = {}
for seed = 1, 3 do
  ms[seed] = train.fit(net, d.train, { seed = seed, epochs = 20, batch = 32, quiet = true })
end

local right = eval.accuracy(net, d.test)
local function row(name, m) print(("%-36s %6.1f"):format(name, 100 * right(m))) end
print "accuracy, %"
for k, m in ipairs(ms) do row("network " .. k, m) end
row("mean of the three", merge.linear(ms))

local to_first = { ms[1], align.weights(net, ms[1], ms[2]):apply(ms[2]),
  align.weights(net, ms[1], ms[3]):apply(ms[3]) }
row("mean, each aligned to the first", merge.linear(to_first))
local many = align.many(net, ms, { method = "merge_many" })
row("mean, aligned in turns (MergeMany)", many:merge())
local r = align.many(net, ms)
row("mean, aligned together (C2M3)", r:merge())

local around = r:pair(1, 2) * r:pair(2, 3) * r:pair(3, 1)
print(("going around changes network 1 by %g"):format((around:apply(ms[1]) - ms[1]):norm()))
print(("sum of inner products: %.0f as they are, %.0f in turns, %.0f together"):format(r.before, many.objective,
  r.objective))
