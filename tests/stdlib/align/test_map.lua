-- SPDX-License-Identifier: Apache-2.0
-- The alignment type: random members of the group of every family compute the same, compose and invert like a group,
-- move bits exactly, go through files, and what is no symmetry is caught.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

-- ---- every family ----

for _, family in ipairs(copies.families) do
  local name, net, x = table.unpack(family)
  local a = copies.model(net, 1)
  local p, q = align.random(net, { seed = 1 }), align.random(net, { seed = 2 })
  assert(copies.distance(p:apply(a), a) > 0.1, name .. ": nothing moved")
  local off = p:check(net, a, { x = x })
  assert(off > 0 and off < 1e-5, ("%s: outputs change by %.1e"):format(name, off))
  check.equal(copies.distance((p * q):apply(a), p:apply(q:apply(a))), 0.0, name .. ": product")
  check.equal(copies.distance((p:inverse() * p):apply(a), a), 0.0, name .. ": inverse on the left")
  check.equal(copies.distance(p:apply(p:inverse():apply(a)), a), 0.0, name .. ": inverse on the right")
  local path = os.tmpname() .. ".safetensors"
  p:save(path)
  local again = align.load(path)
  os.remove(path)
  check.equal(copies.distance(again:apply(a), p:apply(a)), 0.0, name .. ": file")
  check.equal(copies.distance((again:inverse() * p):apply(a), a), 0.0, name .. ": file, inverse")
  check.near(again:check(net, a, { x = x }), off, 0, name .. ": check with a network given")
end

-- ---- the convention: new[j] = old[index[j]], inside a head under the head it is for ----

do
  local net = nn.mlp { 3, 4, 2, act = "tanh" }
  local a, p = net:init { seed = 3 }, align.random(net, { seed = 5 })
  local m, old, new = p.maps[1], a:tensor "fc1.bias":totable(), p:apply(a):tensor "fc1.bias":totable()
  local index, sign = m.index:totable()[1], m.sign:totable()[1]
  local flipped = 0
  for j = 1, 4 do
    check.equal(new[j], sign[j] * old[index[j]])
    flipped = flipped + (sign[j] < 0 and 1 or 0)
  end
  assert(flipped > 0)
  check.equal(#p.layout.classes, 1)
end

do
  local net = nn.llama { vocab = 11, width = 8, layers = 1, heads = 6, kv_heads = 2, head_size = 4, inner = 5 }
  local a, p = copies.model(net, 1), align.random(net, { seed = 4 })
  local about = p.layout.tensors["model.layers.0.self_attn.o_proj.weight"]
  local segment = about.axes[2][1]
  check.equal(#segment, 3, "key/value groups, query heads, features")
  local kv, rep, feature = p.maps[segment[1].class], p.maps[segment[2].class], p.maps[segment[3].class]
  check.equal(#feature.index.shape, 2)
  local i1, i2, i3 = kv.index:totable()[1], rep.index:totable(), feature.index:totable()
  local s3 = feature.sign and feature.sign:totable()
  local stays = {}
  for c, m in pairs(p.maps) do if c ~= segment[1].class and c ~= segment[2].class and c ~= segment[3].class then stays[c] = m end end
  for c in pairs(stays) do p.maps[c] = nil end
  local old = a:tensor "model.layers.0.self_attn.o_proj.weight":totable()
  local new = p:apply(a):tensor "model.layers.0.self_attn.o_proj.weight":totable()
  for r = 1, 8 do
    for g = 1, 2 do
      for h = 1, 3 do
        for f = 1, 4 do
          local from = ((i1[g] - 1) * 3 + i2[g][h] - 1) * 4 + i3[g][f]
          check.equal(new[r][((g - 1) * 3 + h - 1) * 4 + f], (s3 and s3[g][f] or 1) * old[r][from])
        end
      end
    end
  end
end

-- ---- what stays ----

do
  local net = nn.conv { 6, "M", 5, hidden = { 7 }, input = { 8, 8, 2 } }
  local a, p = copies.model(net, 2, "bf16"), align.random(net, { seed = 1 })
  local moved = p:apply(a)
  check.equal(moved:names(), a:names())
  for _, name in ipairs(a:names()) do
    check.equal(moved:tensor(name).dtype, "bf16")
    -- the same numbers in another order
    local one, two = a:tensor(name):to "f32":reshape { -1 }:sort(), moved:tensor(name):to "f32":reshape { -1 }:sort()
    assert(tensor.equal(one, two), name)
  end
  local means = p.maps[1].index:totable()[1]
  local old, new = a:tensor "features.1.running_mean":totable(), moved:tensor "features.1.running_mean":totable()
  for j = 1, 6 do check.equal(new[j], old[means[j]], "running statistics") end
  check.equal(moved:config(), a:config())
  local t = {}
  for _, name in ipairs(a:names()) do t[name] = a:tensor(name) end
  local u = p:apply(t)
  for _, name in ipairs(a:names()) do assert(tensor.equal(u[name]:to "f32", moved:tensor(name):to "f32"), name) end
  local extra = model.new { { "step", tensor({ 7 }, { dtype = "i64" }) }, { "classifier.0.bias", a:tensor "classifier.0.bias":to "f64" } }
  local e = p:apply(extra)
  check.equal(e:tensor "step":totable()[1], 7, "what the network does not know stays")
  check.equal(e:tensor "classifier.0.bias".dtype, "f64")
end

-- ---- what is wrong is told ----

do
  local net = nn.mlp { 5, 8, 8, 3 }
  local a, b = net:init { seed = 1 }, net:init { seed = 2 }
  local p = align.random(net, { seed = 1 })
  local path = os.tmpname() .. ".safetensors"
  p:save(path)
  local wrong = align.load(path)
  os.remove(path)
  wrong.layout.tensors["fc2.weight"] = nil -- one tensor does not move along
  assert(wrong:check(net, a) > 1e-2, "a wrong alignment was not noticed")
  check.raises("changes what the network computes", align.weights, net, a, b, { free = "fc3.bias" })
  check.raises("free lets what goes in and comes out move", align.weights, net, a, b, { free = "fc3.bias" })
  assert(align.weights(net, a, b, { free = "fc3.bias", check = false }))
  check.raises("has the shape [9, 5]", p.apply, p, nn.mlp { 5, 9, 8, 3 }:init {})
  check.raises("expected a model", p.apply, p, 3)
  check.raises("alignments only", function() return p * a end)
  check.raises("different networks", function() return p * align.random(nn.mlp { 5, 7, 8, 3 }) end)
  check.raises("not a file of alignment:save", align.load, "examples/data/base.safetensors")
  -- a network that does not say what it takes is tried on what it was recorded with
  local bare = nn.sequential { nn.conv2d(3, 4, 1), nn.activation "relu", nn.global_avg_pool(), nn.linear(4, 2) }
  align.groups(bare, nil, { x = tensor.zeros { 1, 2, 2, 3 } })
  local one, two = bare:init { seed = 1 }, bare:init { seed = 2 }
  assert(align.weights(bare, one, two).change < 1e-5 and not align.weights(bare, one, two, { check = false }).change)
  local other = nn.mlp { 5, 6, 7, 3 }
  align.groups(other).layout.tensors["fc2.weight"].axes[2] = {} -- the layout itself is wrong
  check.raises("the first part that differs is fc2", align.weights, other, other:init { seed = 1 }, other:init { seed = 2 })
  local text = tostring(align.weights(net, a, b))
  assert(text:find "group" and text:find "fc2" and text:find "outputs change by", text)
end
