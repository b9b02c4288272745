-- SPDX-License-Identifier: Apache-2.0
-- PLeaS: ratio 1 is the ensemble, ratio 0 without the fit is the mean after activation matching, blocks as the paper
-- states them, the fit against least squares by hand, budgets against what the summary counts.
local check = dofile "tests/stdlib/bind/check.lua"
local drawn = require "drawn".model

local function off(y, z) return (y - z):abs():max() / z:abs():max() end

local net = nn.mlp { 5, 20, 12, 3 }
local d = { x = tensor.randn({ 400, 5 }, 3) }
local a, b = drawn(net, 1), drawn(net, 2)
local ya, yb = net(a, d.x), net(b, d.x)

-- ---- the two ends ----

for _, fit in ipairs { true, false } do
  local z = align.pleas(net, a, b, { data = d, ratio = 1, fit = fit })
  check.equal(z.net:params()[1].shape, { 40, 5 })
  assert(off(z.net(z:merge(), d.x), (ya + yb) / 2) < 1e-5)
end
do
  local conv = nn.resnet { depth = 8, width = 4, input = { 8, 8, 2 } }
  local one, two, x = drawn(conv, 1), drawn(conv, 2), tensor.randn({ 16, 8, 8, 2 }, 1)
  local z = align.pleas(conv, one, two, { data = { x = x }, ratio = 1 })
  assert(off(z.net(z:merge(), x), (conv(one, x) + conv(two, x)) / 2) < 1e-5)
  assert(nn.from(z:merge())(z:merge(), x):equal(z.net(z:merge(), x)))
  -- identical networks need no room, and the fit finds nothing to change
  z = align.pleas(conv, one, one, { data = { x = x }, ratio = 0 })
  assert(off(conv(z:merge(), x), conv(one, x)) < 1e-4)
  check.equal(align.pleas(conv, one, one, { data = { x = x }, flops = 3 }).groups[1].apart, 0)
end
do
  local z = align.pleas(net, a, b, { data = d, ratio = 0, fit = false })
  local p = align.activations(net, a, b, { data = d, eps = 1e-12 })
  assert(off(net(z:merge(), d.x), net((a + p:apply(b)) / 2, d.x)) < 1e-5)
end

-- ---- nine blocks ----

do
  local z = align.pleas(net, a, b, { data = d, ratio = { fc1 = 0.3, fc2 = 0.5 }, fit = false })
  local m, wide, high = z:merge(), z.groups[1], z.groups[2]
  check.equal({ wide.merged, wide.size, high.merged, high.size }, { 14, 26, 6, 18 })
  local function members(r) -- place in the merged layer -> place in a, place in b
    local list, of = r.partition:totable(), {}
    for k, g in ipairs(list) do
      of[g] = of[g] or {}
      of[g][k <= r.sizes[1] and 1 or 2] = k <= r.sizes[1] and k or k - r.sizes[1]
    end
    return of
  end
  local w, wa, wb = m["fc2.weight"], a["fc2.weight"], b["fc2.weight"]
  local into, out = members(wide), members(high)
  for i, o in ipairs(out) do
    for j, k in ipairs(into) do
      local one = o[1] and k[1] and wa[{ o[1], k[1] }] or 0.0
      local two = o[2] and k[2] and wb[{ o[2], k[2] }] or 0.0
      local both = o[1] and o[2] and 2 or 1
      check.near(w[{ i, j }], (one + two) / both, 1e-6)
    end
  end
  for j, k in ipairs(out) do
    local one = k[1] and a["fc3.weight"][{ 2, k[1] }] or 0.0
    local two = k[2] and b["fc3.weight"][{ 2, k[2] }] or 0.0
    check.near(m["fc3.weight"][{ 2, j }], (one + two) / 2, 1e-6)
  end
  -- the pairs that stay apart are the least alike
  for k = 2, #wide.pairs do assert(wide.pairs[k - 1][3] <= wide.pairs[k][3]) end
  assert(tostring(z):find "partial merge of 2 models: 2 groups")
end

-- ---- the fit ----

-- Of the last layer, by normal equations over the merged features: all weights are free there.
do
  local o = { data = d, ratio = 0.5, ridge = 1e-12 }
  local z = align.pleas(net, a, b, o)
  local id = z.groups[2].id
  local function hidden(k, theta) return net:capture(theta, d.x, "act2").act2:matmul(z.maps[k].maps[id].forward[1]:t()) end
  local x = tensor.cat({ (hidden(1, a) + hidden(2, b)):to "f64", tensor.ones({ 400, 1 }, { dtype = "f64" }) }, 2)
  local y = ((ya + yb) / 2):to "f64"
  local want = (x:t():matmul(x)):solve(x:t():matmul(y)):t()
  local m = z:merge()
  assert(off(m["fc3.weight"]:to "f64", want[{ {}, { 1, 18 } }]) < 1e-3 and off(m["fc3.bias"]:to "f64", want[{ {}, 19 }]) < 1e-3)
  -- and what one network alone has does not read what the other alone has
  local list = z.groups[1].partition:totable()
  local seen = {}
  for k, g in ipairs(list) do seen[g] = (seen[g] or 0) | (k <= 20 and 1 or 2) end
  local rows = {}
  for k, g in ipairs(z.groups[2].partition:totable()) do rows[g] = (rows[g] or 0) | (k <= 12 and 1 or 2) end
  local zeros = 0
  for i, r in ipairs(rows) do
    for j, s in ipairs(seen) do
      if r & s == 0 then
        check.equal(m["fc2.weight"][{ i, j }], 0.0)
        zeros = zeros + 1
      end
    end
  end
  check.equal(zeros, 2 * 10 * 6)
  -- it comes nearer to both networks
  local plain = align.pleas(net, a, b, { data = d, ratio = 0.5, fit = false })
  local function miss(p) return (p.net(p:merge(), d.x) - (ya + yb) / 2):norm() end
  assert(miss(z) < 0.8 * miss(plain), ("%g against %g"):format(miss(z), miss(plain)))
end

-- ---- budgets ----

do
  local function cost(n) return (n:summary():match "parameters, %d layers, ([%d.]+ ?k?) FLOPs" or error(n:summary())) end
  local function number(text) return tonumber((text:gsub(" ?k", ""))) * (text:find "k" and 1000 or 1) end
  local base = number(cost(net))
  local before = 0
  for _, flops in ipairs { 1, 1.3, 2, 3.2 } do
    local z = align.pleas(net, a, b, { data = d, flops = flops, fit = false })
    local used = number(cost(z.net)) / base
    assert(used <= flops + 0.005 and used > flops - 0.12 and used >= before, ("%g of %g"):format(used, flops))
    before = used
  end
end

-- ---- other widths, statistics, mistakes ----

do
  local wider = nn.mlp { 5, 26, 9, 3, norm = "batch" }
  local own = nn.mlp { 5, 20, 12, 3, norm = "batch" }
  local one, two = drawn(own, 1), drawn(wider, 2)
  local z = align.pleas({ own, wider }, one, two, { data = d, ratio = 1 })
  check.equal({ z.groups[1].size, z.groups[2].size }, { 46, 21 })
  assert(off(z.net(z:merge(), d.x), (own(one, d.x) + wider(two, d.x)) / 2) < 1e-5)
  z = align.pleas({ own, wider }, one, two, { data = d, ratio = 0 })
  check.equal({ z.groups[1].size, z.groups[2].size }, { 26, 12 })
  local m = z:merge { bn = d }
  check.equal((eval.bn_reset(z.net, m, d) - m):norm(), 0.0)
  check.raises("either ratio or flops", align.pleas, own, one, one, { data = d, ratio = 1, flops = 2 })
  check.raises("ratio of fc1 = 2; expected 0 … 1", align.pleas, own, one, one, { data = d, ratio = 2 })
  check.raises("no group is called fc9", align.pleas, own, one, one, { data = d, ratio = { fc9 = 1 } })
  check.raises("data = … is needed", align.pleas, own, one, one)
end
