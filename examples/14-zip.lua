-- SPDX-License-Identifier: Apache-2.0
-- A zip of unequal widths: a network of two times 32 neurons and one of two times 96, trained apart, become one of
-- the first one's form (ZipIt!: Stoica et al. 2023, arXiv:2305.03053). Neurons that do much the same on data are
-- merged, across the networks and within each, without labels. So few neurons have to give something up; with more
-- room, or with the last layers of both kept, less is lost. Optimal transport (Singh and Jaggi 2020, arXiv:1910.05653)
-- and a partial merge (PLeaS: Nasery et al. 2024, arXiv:2407.02447) take unequal widths too.
local d = data.digits()
local small, large = nn.mlp { 64, 32, 32, 10 }, nn.mlp { 64, 96, 96, 10 }
local a = train.fit(small, d.train, { seed = 1, epochs = 20, batch = 32, quiet = true })
local b = train.fit(large, d.train, { seed = 2, epochs = 20, batch = 32, quiet = true })

local function row(name, net, m)
  local n = 0
  for _, p in ipairs(net:params()) do n = n + m[p.name]:numel() end
  print(("%-34s %9.1f %11d"):format(name, 100 * eval.accuracy(net, d.test)(m), n))
end
print(("%-34s %9s %11s"):format("", "accuracy", "parameters"))
row("32-32", small, a)
row("96-96", large, b)

local function zipped(name, o)
  o.data = d.train
  local z = align.zip({ small, large }, a, b, o)
  row(name, z.net, z:merge())
  return z
end
local z = zipped("zip", {})
zipped("zip of twice the width", { width = 2 })
zipped("zip through the first layer", { through = "act1" })
local p = align.ot({ small, large }, a, b, { readers = "sum" })
row("optimal transport, then the mean", small, merge.linear { a, p:apply(b) })
local s = align.pleas({ small, large }, a, b, { data = d.train, ratio = 0.5 })
row("partial merge, half of the pairs", s.net, s:merge())
print(z)
