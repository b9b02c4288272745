-- SPDX-License-Identifier: Apache-2.0
-- Blended matching: its two ends are the two matchers, the objective never falls, copies come back for every blend.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

local function same(p, q)
  for c, m in pairs(p.maps) do check.equal(m.index:totable(), q.maps[c].index:totable()) end
end

for _, k in ipairs { 1, 3, 6 } do
  local name, net, x = table.unpack(copies.families[k])
  local a, b, d = copies.model(net, 1), copies.model(net, 2), { x = x }
  if k ~= 6 then -- where a group stands twice in a tensor weight matching does more
    same(align.mudsc(net, a, b, { data = d, f = 1, seed = 3 }), align.weights(net, a, b, { seed = 3 }))
  end
  same(align.mudsc(net, a, b, { data = d, f = 0 }), align.activations(net, a, b, { data = d }))
  for _, f in ipairs(k == 6 and { 0.7 } or { 0.3, 0.7 }) do
    local p = align.mudsc(net, a, b, { data = d, f = f, restarts = 2 })
    for i = 2, #p.trace do assert(p.trace[i] > p.trace[i - 1], name) end
    assert(p.change < 1e-5 and p.objective >= p.trace[1])
    assert(align.mudsc(net, a, b, { data = d, f = f, weights = "cosine" }).change < 1e-5)
  end
  local moved = copies.moved(net, a, 4)
  for _, f in ipairs(k == 6 and { 0.5 } or { 0.2, 0.8 }) do
    for _, way in ipairs { "product", "cosine" } do
      local p = align.mudsc(net, a, moved, { data = d, f = f, weights = way })
      check.equal(copies.distance(p:apply(moved), a), 0.0, name)
    end
  end
end

do
  local _, net, x = table.unpack(copies.families[1])
  local a, d = copies.model(net, 1), { x = x }
  check.raises("f is a number from 0 to 1", align.mudsc, net, a, a, { data = d, f = 2 })
  check.raises("weights = \"norm\"", align.mudsc, net, a, a, { data = d, weights = "norm" })
  check.raises("start is an alignment", align.mudsc, net, a, a, { data = d, start = 3 })
  check.raises("data = … is needed", align.mudsc, net, a, a, { f = 0.5 })
end
