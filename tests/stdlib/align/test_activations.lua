-- SPDX-License-Identifier: Apache-2.0
-- Matching by activations: copies in another order come back exactly, in every family and by every measure; noise does
-- not hinder; heads are solved with what is inside them; signs are found.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

-- Copies, wherever features are looked at.
for k, family in ipairs(copies.families) do
  local name, net, x = table.unpack(family)
  local a = copies.model(net, 3)
  local b = copies.moved(net, a, 4)
  assert(copies.distance(a, b) > 0.01)
  for _, site in ipairs { "post", "pre" } do
    local p = align.activations(net, a, b, { data = { x = x }, site = site })
    check.equal(copies.distance(p:apply(b), a), 0.0, name .. ", " .. site)
    check.equal(#p.left, 0)
    assert(p.exact and p.change < 1e-5, name)
  end
  if k <= 4 then
    for _, measure in ipairs { "absolute", "covariance", "product" } do
      -- Magnitudes cannot tell a feature from its opposite; in the others a larger one may win.
      local p = align.activations(net, a, b, { data = { x = x }, measure = measure })
      assert(p.change < 1e-5, name .. ", " .. measure)
      if measure == "absolute" and name ~= "tanh" then check.equal(copies.distance(p:apply(b), a), 0.0, name) end
    end
  end
  for _, m in ipairs(align.activations(net, a, b, { data = { x = x }, eps = 0 }).matched) do
    assert(m.after > 0.9999, ("%s: %s is matched to %.4f"):format(name, m.part, m.after))
  end
end

-- Other weights near by: the same maps.
for _, k in ipairs { 1, 3, 6, 7 } do
  local name, net, x = table.unpack(copies.families[k])
  local a = copies.model(net, 3)
  local p = align.weights(net, copies.model(net, 4), a)
  local list = {}
  for i, n in ipairs(a:names()) do
    local t = a:tensor(n)
    list[i] = { n, t.dtype:find "f" and t + 0.02 * t:std() * tensor.randn(t.shape, 50 + i) or t }
  end
  local b = p:apply(model.new(list))
  local q = align.activations(net, a, b, { data = { x = x } })
  assert(copies.distance(q:apply(b), model.new(list)) == 0, name)
end

-- Signs: found where the activation is odd, left alone when told so.
do
  local _, net, x = table.unpack(copies.families[2])
  local a = copies.model(net, 3)
  local sign = 1 - 2 * tensor.bernoulli({ 16 }, 0.3, 5):to "f32"
  assert(sign:min() < 0 and sign:max() > 0)
  local new = { ["fc1.weight"] = a["fc1.weight"] * sign:unsqueeze(2), ["fc1.bias"] = a["fc1.bias"] * sign,
    ["fc2.weight"] = a["fc2.weight"] * sign }
  local list = {}
  for i, name in ipairs(a:names()) do list[i] = { name, new[name] or a[name] } end
  local b = model.new(list)
  local p = align.activations(net, a, b, { data = { x = x } })
  check.equal(copies.distance(p:apply(b), a), 0.0)
  assert(copies.distance(align.activations(net, a, b, { data = { x = x }, signs = false }):apply(b), a) > 0.1)
end

-- The best of all maps, by brute force, of heads with features inside them.
do
  local net = nn.gpt { vocab = 12, width = 6, layers = 1, heads = 2, context = 8, inner = 4 }
  local a, b = copies.model(net, 5, "f64"), copies.model(net, 6, "f64")
  local x = tensor.randint(0, 12, { 12, 8 }, 1)
  local p = align.activations(net, a, b, { data = { x = x }, signs = false })
  local part = "transformer.h.0.attn.c_proj"
  local function rows(m) return net:capture(m, x, part, { of = "input" })[part]:to("f64"):reshape { 96, 6 } end
  local y, z = rows(a), rows(b)
  y, z = y - y:mean(1), z - z:mean(1)
  local function deviation(t) return (t * t):mean(1):sqrt() + 1e-4 end
  local r = (y:t():matmul(z) / 96 / (deviation(y):unsqueeze(2) * deviation(z):unsqueeze(1))):totable()
  local orders = { { 1, 2, 3 }, { 1, 3, 2 }, { 2, 1, 3 }, { 2, 3, 1 }, { 3, 1, 2 }, { 3, 2, 1 } }
  local function inner(i, k) -- the best inside head i of a and head k of b
    local best = -math.huge
    for _, order in ipairs(orders) do
      local sum = 0.0
      for j = 1, 3 do sum = sum + r[3 * i + j][3 * k + order[j]] end
      best = math.max(best, sum)
    end
    return best
  end
  local best = math.max(inner(0, 0) + inner(1, 1), inner(0, 1) + inner(1, 0))
  local got
  for _, m in ipairs(p.matched) do
    if m.part == part then got = m.after end
  end
  check.near(got, best / 6, 1e-12)
end

-- A residual stream seen in one place or in all; one's own choice.
do
  local _, net, x = table.unpack(copies.families[8])
  local a = copies.model(net, 3)
  local b = copies.moved(net, a, 4)
  local function parts(from)
    local p = align.activations(net, a, b, { data = { x = x }, from = from })
    check.equal(copies.distance(p:apply(b), a), 0.0)
    return #p.matched
  end
  local all = parts()
  assert(parts "all" == all and parts "first" < all and parts "last" < all)
  assert(parts(function(part) return not part:find "%.1%." end) < all)
  check.raises("from is", align.activations, net, a, b, { data = { x = x }, from = "middle" })
end

-- Equal models stay as they are; pinned groups too.
do
  local _, net, x = table.unpack(copies.families[1])
  local a = copies.model(net, 3)
  for _, row in ipairs(align.activations(net, a, a, { data = { x = x } }):agreement()) do check.equal(row.moved, 0.0) end
  local p = align.activations(net, a, copies.moved(net, a, 4), { data = { x = x }, pin = { "fc1.weight" } })
  check.equal(#p:agreement(), 1)
end
