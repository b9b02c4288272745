-- SPDX-License-Identifier: Apache-2.0
-- Axes as products and segments in networks that nobody thought of: shapes of layers as they occur in the wild, whose
-- groups are told here, and random programs, whose groups are put to the proof by random members.
local check = dofile "tests/stdlib/bind/check.lua"
local member = require "member"

local function largest(t) return t:abs():max() end

local function weights(net, seed)
  local theta = {}
  for i, p in ipairs(net:params()) do theta[p.name] = tensor.randn(p.shape, seed + i, { dtype = "f64" }) * 0.5 end
  return theta
end

-- The groups as text, "name size kind < under", after a proof by three random members.
local function proved(what, net, x)
  local groups = align.groups(net, nil, { x = x })
  local theta = weights(net, 11)
  local y = net(theta, x)
  assert(largest(y) > 1e-6 and largest(y) < 1e8, what .. ": " .. largest(y) .. " comes out")
  for seed = 1, 3 do
    local m = member.random(groups.layout, seed)
    local off = largest(net(member.weights(groups.layout, m, theta), x) - y) / largest(y)
    if off > 1e-8 then error(("%s: the outputs change by %g\n%s"):format(what, off, groups)) end
  end
  local list = {}
  for i, g in ipairs(groups) do
    list[i] = ("%s %d %s%s"):format(g.name, g.size, g.kind, #g.under > 0 and " < " .. table.concat(g.under, ", ") or "")
  end
  return table.concat(list, "\n")
end

local function layer(params, forward) return nn.layer { params = params, forward = forward } end
local function is(what, net, x, want) check.equal(proved(what, net, x), (want:gsub("\n%s+", "\n")), what) end

local x = tensor.randn({ 2, 5, 6 }, 1, { dtype = "f64" })

local function heads(v, h) return v:reshape { 2, 5, h, v.shape[3] // h }:permute { 1, 3, 2, 4 } end
local function joined(v) return v:permute { 1, 3, 2, 4 }:reshape { 2, 5, v.shape[2] * v.shape[4] } end
local function by_hand(q, k, v) -- attention written out
  return (q:matmul(k:transpose(3, 4)) / math.sqrt(q.shape[4])):softmax(-1):matmul(v)
end

-- ---- attention in other shapes ----

local function qkv(split)
  return layer({ { "qkv", { 24, 6 } }, { "out", { 4, 8 } } }, function(s, v)
    return joined(by_hand(split(v:matmul(s.qkv:t())))):matmul(s.out:t())
  end)
end

-- q, k, v one after another: three segments.
local segments = "qkv[1]:1 2 permutation\nqkv[1]:2 4 linear < qkv[1]:1\nqkv[3]:2 4 linear < qkv[1]:1"
is("fused", qkv(function(v)
  return heads(v[{ {}, {}, { 1, 8 } }], 2), heads(v[{ {}, {}, { 9, 16 } }], 2), heads(v[{ {}, {}, { 17, 24 } }], 2)
end), x, segments)
-- An axis that counts them: what is inside a head is one class for all three.
is("an axis of three", qkv(function(v)
  v = v:reshape { 2, 5, 3, 2, 4 }:permute { 3, 1, 4, 2, 5 }
  return v[1], v[2], v[3]
end), x, "qkv[1]:1 2 permutation\nqkv[1]:2 4 signed < qkv[1]:1")
-- For each head its q, k and v: heads stay, what is inside them is shared.
is("interleaved", qkv(function(v)
  v = v:reshape { 2, 5, 2, 12 }:permute { 1, 3, 2, 4 }
  return v[{ {}, {}, {}, { 1, 4 } }], v[{ {}, {}, {}, { 5, 8 } }], v[{ {}, {}, {}, { 9, 12 } }]
end), x, "qkv[1] 4 linear\nqkv[3] 4 linear")

local function grouped(attend)
  return layer({ { "q", { 12, 6 } }, { "k", { 6, 6 } }, { "v", { 6, 6 } }, { "o", { 5, 12 } } }, function(s, v)
    return joined(attend(heads(v:matmul(s.q:t()), 4), heads(v:matmul(s.k:t()), 2), heads(v:matmul(s.v:t()), 2)))
      :matmul(s.o:t())
  end)
end
local two_levels = [[q:1 2 permutation
  q:2 2 permutation < q:1
  q:3 3 linear < q:1
  v:2 3 linear < q:1]]
is("grouped queries", grouped(function(q, k, v) return q:attention(k, v) end), x, two_levels)
is("repeated keys", grouped(function(q, k, v)
  return by_hand(q, k:repeat_interleave(2, 2), v:repeat_interleave(2, 2))
end), x, two_levels)
is("expanded keys", grouped(function(q, k, v)
  local function wide(t) return t:reshape { 2, 2, 1, 5, 3 }:expand { 2, 2, 2, 5, 3 }:reshape { 2, 4, 5, 3 } end
  return by_hand(q, wide(k), wide(v))
end), x, two_levels)
-- Heads in turns (1 2 1 2): queries are the outer factor, and what is inside a head cannot follow the key's.
is("keys in turns", grouped(function(q, k, v)
  local function wide(t) return t:reshape { 2, 1, 2, 5, 3 }:expand { 2, 2, 2, 5, 3 }:reshape { 2, 4, 5, 3 } end
  return by_hand(q, wide(k), wide(v))
end), x, [[q:1 2 permutation
  q:2 2 permutation
  q:3 3 linear < q:2
  v:2 3 linear < q:2]])

-- Learned queries: a set, so their places move too.
is("latents", layer({ { "latents", { 4, 6 } }, { "value", { 6, 6 } }, { "out", { 3, 6 } } }, function(s, v)
  local q = s.latents:reshape { 1, 1, 4, 6 }:expand { 2, 1, 4, 6 }
  local y = q:attention(v:reshape { 2, 1, 5, 6 }, v:matmul(s.value:t()):reshape { 2, 1, 5, 6 })
  return y:reshape { 2, 4, 6 }:max(2):matmul(s.out:t())
end), x, "latents 4 permutation\nvalue 6 scaled")

-- ---- others ----

is("a gate in one matrix", layer({ { "up", { 16, 6 } }, { "down", { 3, 8 } } }, function(s, v)
  local h = v:matmul(s.up:t())
  return (h[{ {}, {}, { 1, 8 } }]:relu() * h[{ {}, {}, { 9, 16 } }]):matmul(s.down:t())
end), x, "up[1] 8 permutation")
is("joined branches", layer({ { "a", { 4, 6 } }, { "b", { 3, 6 } }, { "c", { 7 } }, { "out", { 2, 7 } } }, function(s, v)
  local h = tensor.cat({ v:matmul(s.a:t()):tanh(), v:matmul(s.b:t()) }, 3)
  return (h * s.c):matmul(s.out:t())
end), x, "a 4 permutation\nb 3 permutation")
is("a tied pair", layer({ { "w", { 8, 6 } } }, function(s, v) return v:matmul(s.w:t()):matmul(s.w) end), x, "w 8 signed")
is("read and written", layer({ { "a", { 8, 6 } }, { "w", { 8, 8 } }, { "b", { 3, 8 } } }, function(s, v)
  local h = v:matmul(s.a:t())
  return (h + h:matmul(s.w:t())):matmul(s.b:t())
end), x, "a 8 linear")
is("shuffled channels", layer({ { "a", { 12, 6 } }, { "b", { 3, 12 } } }, function(s, v)
  local h = v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }:permute { 1, 2, 4, 3 }:reshape { 2, 5, 12 }
  return h:relu():matmul(s.b:t())
end), x, "a:1 3 scaled\na:2 4 scaled")
-- 3 x 4 and 2 x 6 do not nest: it stays.
is("other factors", layer({ { "a", { 12, 6 } }, { "b", { 3, 12 } } }, function(s, v)
  local h = v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }:softmax(3):reshape { 2, 5, 2, 6 }
  return h:softmax(4):reshape { 2, 5, 12 }:matmul(s.b:t())
end), x, "")
is("softmax over what is outside", layer({ { "a", { 12, 6 } }, { "b", { 3, 12 } } }, function(s, v)
  return v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }:softmax(3):reshape { 2, 5, 12 }:matmul(s.b:t())
end), x, "a:1 3 permutation\na:2 4 permutation")
is("softmax over what is inside", layer({ { "a", { 12, 6 } }, { "b", { 3, 12 } } }, function(s, v)
  return v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }:softmax(4):reshape { 2, 5, 12 }:matmul(s.b:t())
end), x, "a:1 3 permutation\na:2 4 permutation < a:1")
is("a norm over what is outside", layer({ { "a", { 12, 6 } }, { "w", { 3 } }, { "b", { 3, 12 } } }, function(s, v)
  local h = v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }:transpose(3, 4):layer_norm(s.w, nil, 1e-3):transpose(3, 4)
  return h:reshape { 2, 5, 12 }:matmul(s.b:t())
end), x, "a:1 3 permutation\na:2 4 permutation")
is("places attend", layer({ { "a", { 12, 6 } }, { "b", { 3, 12 } } }, function(s, v)
  local h = v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }
  return h:attention(h, h):reshape { 2, 5, 12 }:matmul(s.b:t())
end), x, "a:1 3 permutation\na:2 4 signed")
is("places meet those of keys", layer({ { "a", { 12, 6 } }, { "b", { 3, 12 } } }, function(s, v)
  local h, k = v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }, v:reshape { 2, 5, 1, 6 }[{ {}, {}, {}, { 1, 4 } }]:expand { 2, 5, 3, 4 }
  return k:attention(k, h):reshape { 2, 5, 12 }:matmul(s.b:t())
end), x, "a:1 3 permutation\na:2 4 linear")
is("places of a group meet", layer({ { "a", { 12, 6 } }, { "b", { 3, 12 } } }, function(s, v)
  local h = v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }
  return h:matmul(h:transpose(3, 4)):matmul(h):reshape { 2, 5, 12 }:matmul(s.b:t())
end), x, "a:1 3 signed\na:2 4 signed")
is("places of a group in pairs", layer({ { "a", { 12, 6 } }, { "b", { 3, 9 } } }, function(s, v)
  local h = v:matmul(s.a:t()):reshape { 2, 5, 3, 4 }
  return h:matmul(h:transpose(3, 4)):reshape { 2, 5, 9 }:matmul(s.b:t())
end), x, "a:1 3 linear\na:2 4 signed")
is("places of a group beside each other", layer({ { "a", { 12, 6 } }, { "b", { 3, 9 } } }, function(s, v)
  local h = v:matmul(s.a:t())
  h = h:reshape { 2, 5, 3, 1, 4 } * h:reshape { 2, 5, 1, 3, 4 }
  return h:tanh():sum(5):reshape { 2, 5, 9 }:matmul(s.b:t())
end), x, "a:1 3 signed\na:2 4 permutation")
is("a part stays", layer({ { "a", { 9, 6 } }, { "b", { 3, 9 } } }, function(s, v)
  local h = v:matmul(s.a:t())
  return tensor.cat({ h[{ {}, {}, { 1, 4 } }]:relu(), h[{ {}, {}, { 5, 9 } }] }, 3):matmul(s.b:t())
end), x, "a[1] 4 scaled\na[2] 5 linear")
is("no rule", layer({ { "a", { 9, 6 } }, { "b", { 3, 9 } } }, function(s, v)
  return v:matmul(s.a:t()):sort(3):matmul(s.b:t())
end), x, "")

local image = tensor.randn({ 2, 4, 4, 6 }, 1, { dtype = "f64" })
is("groups of channels", nn.sequential { nn.conv2d(6, 12, 1), nn.conv2d(12, 9, 3, { groups = 3 }), nn.activation "relu",
  nn.conv2d(9, 2, 1) }, image, [[0:1 3 permutation
  0:2 4 linear
  1:2 3 scaled < 0:1]])
is("channel by channel", nn.sequential { nn.conv2d(6, 8, 1), nn.conv2d(8, 8, 3, { groups = 8 }), nn.global_avg_pool(),
  nn.linear(8, 2) }, image, "0 8 permutation")

-- ---- pinned and freed ----

do
  local net = nn.mlp { 4, 6, 5, 3 }
  local function names(o)
    local list = {}
    for i, g in ipairs(align.groups(net, nil, o)) do list[i] = g.name end
    return table.concat(list, " ")
  end
  check.equal(names(), "fc1 fc2")
  check.equal(names { pin = "fc1" }, "fc2")
  check.equal(names { pin = "fc3.weight" }, "fc1")
  check.equal(names { pin = { "fc[12]$" } }, "")
  check.equal(names { free = "fc3.bias" }, "fc1 fc2 fc3")
  check.equal(names { free = ".*", pin = "fc1.weight" }, "fc2 fc3")
  check.raises("pin: no tensor or group is called 'fcc1'; did you mean 'fc1'?", names, { pin = "fcc1" })
  check.raises("expected a network", align.groups, 3)
  check.raises("did you mean", align.groups, net, nil, { pim = "fc1" })
end

-- ---- random programs ----

local function program(seed)
  local at = seed
  local function pick(n)
    at = (at * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
    return (at >> 33) % n + 1
  end
  local params, steps = {}, {}
  local function param(...)
    local name = "p" .. #params + 1
    params[#params + 1] = { name, { ... } }
    return name
  end
  local width = 12
  local function linear(to)
    local w = param(to, width)
    width = to
    steps[#steps + 1] = function(s, h) return h:matmul(s[w]:t()) end
  end
  local kinds = {
    function() linear(({ 12, 24 })[pick(2)]) end,
    function()
      local f = ({ "relu", "tanh", "sigmoid", "abs" })[pick(4)]
      steps[#steps + 1] = function(_, h) return h[f](h) end
    end,
    function()
      local w = param(width)
      steps[#steps + 1] = function(s, h) return h + s[w] end
    end,
    function()
      local w, b = param(width), param(width)
      steps[#steps + 1] = function(s, h) return h:layer_norm(s[w], s[b], 1e-3) end
    end,
    function()
      local w, v = param(2 * width, width), param(width, 2 * width)
      steps[#steps + 1] = function(s, h) return h + h:matmul(s[w]:t()):relu():matmul(s[v]:t()) end
    end,
    function()
      local half = width // 2
      steps[#steps + 1] = function(_, h)
        return tensor.cat({ h[{ {}, {}, { 1, half } }]:tanh(), h[{ {}, {}, { half + 1, 2 * half } }] }, 3)
      end
    end,
    function()
      local n = ({ 2, 3, 4, 6 })[pick(4)]
      local f = pick(2) + 2
      local w = width
      steps[#steps + 1] = function(_, h) return h:reshape { 2, 5, n, w // n }:softmax(f):reshape { 2, 5, w } end
    end,
    function()
      local n = ({ 2, 3, 4 })[pick(3)]
      local w = width
      steps[#steps + 1] = function(_, h)
        return h:reshape { 2, 5, n, w // n }:permute { 1, 2, 4, 3 }:reshape { 2, 5, w }
      end
    end,
    function()
      local n, w = ({ 2, 3 })[pick(2)], width
      local q, k, v = param(w, w), param(w, w), param(w, w)
      local function split(h) return h:reshape { 2, 5, n, w // n }:permute { 1, 3, 2, 4 } end
      steps[#steps + 1] = function(s, h)
        local y = split(h:matmul(s[q]:t())):attention(split(h:matmul(s[k]:t())), split(h:matmul(s[v]:t())))
        return h + y:permute { 1, 3, 2, 4 }:reshape { 2, 5, w }
      end
    end,
    function()
      local n, w = ({ 2, 3, 4 })[pick(3)], width
      local m = param(n, n)
      steps[#steps + 1] = function(s, h)
        h = h:reshape { 2, 5, n, w // n }
        return (h + s[m]:matmul(h)):reshape { 2, 5, w }
      end
    end,
    function()
      local n, w = ({ 2, 3, 4 })[pick(3)], width
      local m = param(w // n)
      steps[#steps + 1] = function(s, h) return (h:reshape { 2, 5, n, w // n } * s[m]):reshape { 2, 5, w } end
    end,
    function()
      local n, w = ({ 2, 3, 4 })[pick(3)], width
      steps[#steps + 1] = function(_, h)
        h = h:reshape { 2, 5, n, w // n }
        return (h - h:mean({ 3 }, true)):reshape { 2, 5, w }
      end
    end,
    function()
      local n, w = ({ 2, 3, 4 })[pick(3)], width
      steps[#steps + 1] = function(_, h)
        h = h:reshape { 2, 5, n, w // n }
        return h:matmul(h:transpose(3, 4)):tanh():matmul(h):reshape { 2, 5, w }
      end
    end,
  }
  linear(24)
  for _ = 1, 2 + pick(4) do kinds[pick(#kinds)]() end
  linear(3)
  return layer(params, function(s, h)
    h = h:matmul(s.into:t())
    for _, step in ipairs(steps) do h = step(s, h) end
    return h
  end), params
end

local moving, nested = 0, 0
for seed = 1, 100 do
  local net, params = program(seed)
  table.insert(params, 1, { "into", { 12, 6 } })
  net = layer(params, net.forward)
  local text = proved("program " .. seed, net, x)
  moving = moving + (text ~= "" and 1 or 0)
  nested = nested + (text:find "<" and 1 or 0)
end
assert(moving > 90 and nested > 10, ("%d programs move, %d are nested"):format(moving, nested))
