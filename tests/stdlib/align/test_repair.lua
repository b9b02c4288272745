-- SPDX-License-Identifier: Apache-2.0
-- Variance repair: channels get the moments they shall have, folded into the network; the closed form; what is refused.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

local function rows(t)
  local s = t.shape
  return t:to("f64"):reshape { t:numel() // s[#s], s[#s] }
end

local function moments(net, theta, x, part)
  local y = rows(net:capture(theta, x, part)[part])
  local mean = y:mean(1)
  return mean, ((y - mean) ^ 2):mean(1):sqrt()
end

local function near(a, b, most, what)
  local size = math.max(b:abs():max(), 1e-3)
  local off = (a - b):abs():max() / size
  assert(off <= most, ("%s: off by %.2e"):format(what, off))
end

-- Every repaired part has the mean and the deviation between those of the ends, in every family that has biases.
local plain = { { "conv", nn.conv { 8, "M", 12, hidden = { 10 }, norm = false, input = { 12, 12, 1 } }, copies.families[3][3] },
  { "resnet", nn.resnet { depth = 8, width = 8, norm = false, input = { 12, 12, 1 } }, copies.families[4][3] } }
local expected = { mlp = 2, tanh = 2, conv = 3, resnet = 9, vit = 13, gpt = 8, bert = 13 }
for _, family in ipairs { copies.families[1], copies.families[2], plain[1], plain[2], copies.families[5], copies.families[6],
  copies.families[8] } do
  local name, net, x = table.unpack(family)
  local a, b = copies.model(net, 1), copies.model(net, 2)
  for _, t in ipairs { 0.5, 0.3 } do
    local theta, info = align.repair(net, a, b, { data = { x = x }, t = t, batch = 32 })
    check.equal(#info.layers, expected[name], name)
    for _, layer in ipairs(info.layers) do
      local what = name .. ", " .. layer.part
      local ma, sa = moments(net, a, x, layer.part)
      local mb, sb = moments(net, b, x, layer.part)
      local m, s = moments(net, theta, x, layer.part)
      near(m, (1 - t) * ma + t * mb, 1e-4, what .. ": means")
      near(s, (1 - t) * sa + t * sb, 1e-4, what .. ": deviations")
    end
    if t == 0.3 then goto continue end
    -- multiplied only: the deviations, without the means
    local scaled, told = align.repair(net, a, b, { data = { x = x }, kind = "rescale" })
    for _, layer in ipairs(told.layers) do
      local _, sa = moments(net, a, x, layer.part)
      local _, sb = moments(net, b, x, layer.part)
      local _, s = moments(net, scaled, x, layer.part)
      near(s, 0.5 * sa + 0.5 * sb, 1e-4, name .. ", " .. layer.part .. ": rescaled")
    end
    ::continue::
  end
end

-- Folded is the same as an affine map behind each layer: written out for an MLP.
do
  local _, net, x = table.unpack(copies.families[1])
  local a, b = copies.model(net, 1), copies.model(net, 2)
  local mid = 0.5 * a + 0.5 * b
  local theta = align.repair(net, a, b, { data = { x = x } })
  local h = x
  for k = 1, 2 do
    local ma, sa = moments(net, a, x, "fc" .. k)
    local mb, sb = moments(net, b, x, "fc" .. k)
    local y = (h:matmul(mid["fc" .. k .. ".weight"]:t()) + mid["fc" .. k .. ".bias"]):to "f64"
    local mean = y:mean(1)
    local s = ((y - mean) ^ 2):mean(1):sqrt()
    h = ((y - mean) * ((sa + sb) / 2 / s) + (ma + mb) / 2):relu()
  end
  local want = h:matmul(mid["fc3.weight"]:t():to "f64") + mid["fc3.bias"]
  near(net(theta, x):to "f64", want, 1e-5, "folded")
  assert((net(mid, x):to "f64" - want):abs():max() > 0.01)
  check.equal(theta["fc3.weight"]:totable(), mid["fc3.weight"]:totable())
end

-- At the ends nothing changes, nor between two equal models; batches and further examples do not matter.
do
  local _, net, x = table.unpack(copies.families[1])
  local a, b = copies.model(net, 1, "f64"), copies.model(net, 2, "f64")
  local d = { x = x:to "f64" }
  assert(copies.distance(align.repair(net, a, b, { data = d, t = 0 }), a) < 1e-6)
  assert(copies.distance(align.repair(net, a, b, { data = d, t = 1 }), b) < 1e-6)
  assert(copies.distance(align.repair(net, a, a, { data = d }), a) < 1e-6)
  for _, kind in ipairs { "repair", "closed_form", "rescale" } do
    local want = align.repair(net, a, b, { data = d, kind = kind })
    local more = { x = tensor.cat({ d.x, 10 * d.x }, 1) }
    assert(copies.distance(align.repair(net, a, b, { data = more, examples = 100, batch = 7, kind = kind }), want) < 1e-11)
  end
  -- tables of tensors are taken and given
  local one, two = {}, {}
  for _, name in ipairs(a:names()) do one[name], two[name] = a[name], b[name] end
  local new = align.repair(net, one, two, { data = d })
  near(new["fc1.weight"], align.repair(net, a, b, { data = d })["fc1.weight"], 1e-15, "tables")
end

-- The closed form: by sampling, sqrt((1-t)^2 s0^2 + t^2 s1^2 + 2 t (1-t) s0 s1 r) is what is left; exact in layer 1.
do
  local _, net, x = table.unpack(copies.families[1])
  local a, b = copies.model(net, 1, "f64"), copies.model(net, 2, "f64")
  local d = { x = x:to "f64" }
  for _, t in ipairs { 0.5, 0.2 } do
    local forward = align.repair(net, a, b, { data = d, t = t })
    local closed, info = align.repair(net, a, b, { data = d, t = t, kind = "closed_form" })
    near(closed["fc1.weight"], forward["fc1.weight"], 1e-7, "closed form, weight")
    near(closed["fc1.bias"], forward["fc1.bias"], 1e-7, "closed form, bias")
    assert(copies.distance(closed, forward) > 1e-4)
    local _, sa = moments(net, a, d.x, "fc1")
    local _, sb = moments(net, b, d.x, "fc1")
    local _, s = moments(net, (1 - t) * a + t * b, d.x, "fc1")
    check.near(info.layers[1].deviation, (s / ((1 - t) * sa + t * sb)):mean(), 1e-10)
  end
end

-- Variances instead of deviations.
do
  local _, net, x = table.unpack(copies.families[1])
  local a, b = copies.model(net, 1), copies.model(net, 2)
  local theta = align.repair(net, a, b, { data = { x = x }, spread = "variance" })
  local _, sa = moments(net, a, x, "fc2")
  local _, sb = moments(net, b, x, "fc2")
  local _, s = moments(net, theta, x, "fc2")
  near(s, ((sa ^ 2 + sb ^ 2) / 2):sqrt(), 1e-4, "variances")
end

-- Half precision is computed in f32, as in any mean of models.
do
  local _, net, x = table.unpack(copies.families[1])
  local a, b = copies.model(net, 1, "bf16"), copies.model(net, 2, "bf16")
  local theta = align.repair(net, a, b, { data = { x = x } })
  check.equal(theta["fc1.weight"].dtype, (0.5 * a + 0.5 * b)["fc1.weight"].dtype)
  local _, s = moments(net, theta, x, "fc1")
  local _, sa = moments(net, a:map(function(t) return t:to "f32" end), x, "fc1")
  local _, sb = moments(net, b:map(function(t) return t:to "f32" end), x, "fc1")
  near(s, (sa + sb) / 2, 1e-3, "from halves")
end

-- Batch norms: their statistics are taken anew, and nothing else is offered.
do
  local _, net, x = table.unpack(copies.families[3])
  local a, b = copies.model(net, 1), copies.model(net, 2)
  local theta, info = align.repair(net, a, b, { data = { x = x }, t = 0.25, batch = 10 })
  check.equal(info.kind, "bn_reset")
  check.equal(copies.distance(theta, eval.bn_reset(net, 0.75 * a + 0.25 * b, { x = x }, { batch = 10 })), 0.0)
  check.equal(copies.distance(align.repair(net, a, b, { data = { x = x }, examples = 8 }),
    eval.bn_reset(net, 0.5 * a + 0.5 * b, { x = x[{ { 1, 8 } }] })), 0.0)
  check.raises("has batch norms", align.repair, net, a, b, { data = { x = x }, kind = "closed_form" })
end

-- What cannot be repaired is told, with the reason.
do
  local net = nn.mlp { 6, 8, 8, 3, bias = false }
  local a, b, d = copies.model(net, 1), copies.model(net, 2), { x = tensor.randn({ 40, 6 }, 3) }
  check.raises("fc1 (it has no bias to take the mean)", align.repair, net, a, b, { data = d })
  check.raises("kind = \"rescale\" needs no bias", align.repair, net, a, b, { data = d })
  local _, info = align.repair(net, a, b, { data = d, kind = "rescale" })
  check.equal({ #info.layers, #info.left }, { 2, 0 })
  check.raises("no part makes features that move", align.repair, nn.mlp { 6, 3 }, copies.model(nn.mlp { 6, 3 }, 1),
    copies.model(nn.mlp { 6, 3 }, 2), { data = d })

  local gpt, x = copies.families[6][2], copies.families[6][3]
  _, info = align.repair(gpt, copies.model(gpt, 1), copies.model(gpt, 2), { data = { x = x } })
  local why = {}
  for _, l in ipairs(info.left) do why[l.part] = l.why end
  check.equal(why["transformer.embed.wte"], "it looks features up")

  -- A layer that runs twice.
  local shared = nn.linear(6, 6)
  local twice = nn.layer { parts = { { "a", nn.linear(6, 6) }, { "l", shared }, { "out", nn.linear(6, 2) } },
    forward = function(s, y) return s:call("out", s:call("l", s:call("l", s:call("a", y):relu()):relu()):relu()) end }
  _, info = align.repair(twice, copies.model(twice, 1), copies.model(twice, 2), { data = d })
  why = {}
  for _, l in ipairs(info.left) do why[l.part] = l.why end
  check.equal(why.l, "it runs several times")
  check.equal(info.layers[1].part, "a")

  net = nn.mlp { 6, 8, 3 }
  a, b = copies.model(net, 1), copies.model(net, 2)
  check.raises("t is a number from 0 to 1", align.repair, net, a, b, { data = d, t = 1.5 })
  check.raises("data = … is needed", align.repair, net, a, b, {})
  check.raises("kind = \"bn\"", align.repair, net, a, b, { data = d, kind = "bn" })
  check.raises("no running statistics", align.repair, net, a, b, { data = d, kind = "bn_reset" })
  check.raises("spread = \"max\"", align.repair, net, a, b, { data = d, spread = "max" })
  check.raises("expected two models", align.repair, net, a, 5, { data = d })
end
