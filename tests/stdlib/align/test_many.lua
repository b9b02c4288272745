-- SPDX-License-Identifier: Apache-2.0
-- Several networks at once: copies all fall together, maps around a cycle cancel, the sum over pairs is what it is said
-- to be and rises, and for two networks it is no worse than matching by weights in most cases.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

local function sum_over_pairs(net, list)
  local sum = 0
  for i = 1, #list do
    for j = i + 1, #list do
      for _, q in ipairs(net:params()) do
        if not q.buffer then sum = sum + list[i]:tensor(q.name):to "f64":dot(list[j]:tensor(q.name):to "f64") end
      end
    end
  end
  return sum
end

local function around(r, m)
  return copies.distance((r:pair(1, 2) * r:pair(2, 3) * r:pair(3, 1)):apply(m), m)
end

-- ---- copies ----

for _, k in ipairs { 1, 2, 3, 7 } do
  local name, net = table.unpack(copies.families[k])
  local a, list = copies.model(net, 1), {}
  for i = 1, 3 do list[i] = align.random(net, { seed = i }):apply(a) end
  for _, o in ipairs { { method = "merge_many" }, { init = "weights" }, name:find "mlp" and { init = "uniform" } or nil,
    name:find "mlp" and { init = "identity" } or nil } do
    local what = ("%s, %s %s"):format(name, o.method or "c2m3", o.init or "")
    local r = align.many(net, list, o)
    local moved = r:apply()
    for i = 2, 3 do check.equal(copies.distance(moved[1], moved[i]), 0.0, what) end
    check.near(r.objective, sum_over_pairs(net, moved), 1e-5 * r.objective, what)
    check.near(r.before, sum_over_pairs(net, list), 1e-5 * r.objective, what)
    check.equal(around(r, a), 0.0, what .. ": cycle")
    assert(copies.distance(r:merge(), moved[1]) < 1e-6, what .. ": mean")
    assert(r[1].change < 1e-5 and r:pair(1, 2):check(net, list[2]) < 1e-5, what)
  end
end

-- ---- unrelated networks ----

do
  local net = nn.mlp { 20, 16, 12, 5 }
  local better = 0
  for s = 1, 10 do
    local a, b = net:init { seed = 2 * s }, net:init { seed = 2 * s + 1 }
    local r = align.many(net, { a, b }, { seed = s, check = false })
    local w = align.weights(net, a, b, { seed = s, check = false })
    if r.objective >= w.objective - 1e-6 then better = better + 1 end
    for k = 2, #r.trace do assert(r.trace[k] >= r.trace[k - 1] - 1e-9, "the relaxed sum fell") end
  end
  print("c2m3 at least as good as weight matching in " .. better .. " of 10")
  assert(better >= 6, better)
  local list = {}
  for i = 1, 4 do list[i] = net:init { seed = 100 + i } end
  for _, o in ipairs { {}, { method = "merge_many" }, { joint = true, init = "weights" }, { init = "identity" } } do
    local r = align.many(net, list, o)
    check.near(r.objective, sum_over_pairs(net, r:apply()), 1e-5 * math.abs(r.objective))
    check.equal(around(r, list[1]), 0.0, "cycle")
    assert(r.objective > r.before)
    check.equal(align.many(net, list, o).objective, r.objective, "the same again")
    local calls, own = 0, {}
    function own.log() calls = calls + 1 return false end
    for key, v in pairs(o) do own[key] = v end
    local early = align.many(net, list, own)
    check.equal({ calls, #early.trace }, { 1, 2 }, "stopped by the log")
    assert(early.objective <= r.objective + 1e-6)
  end
end

-- ---- what is wrong is told ----

do
  local net = nn.mlp { 3, 4, 2 }
  local a = net:init {}
  check.raises("at least two models", align.many, net, { a })
  check.raises('method is "c2m3" or "merge_many", got mean', align.many, net, { a, a }, { method = "mean" })
  check.raises('init is "uniform", "identity" or "weights", got random', align.many, net, { a, a }, { init = "random" })
  check.raises("did you mean 'seed'?", align.many, net, { a, a }, { sed = 1 })
end
