-- SPDX-License-Identifier: Apache-2.0
-- The groups that are read off networks: exactly those of tests/golden/align; and for every architecture of the library,
-- and for networks of one's own, a random member of all groups at once leaves the outputs as they are, and moves
-- every value inside as the layout says it does.
local check = dofile "tests/stdlib/bind/check.lua"
local member = require "member"
local decode = require "json.decode".decode
local function layout_of(net, o) return align.groups(net, nil, o).layout end

-- ---- as written down by hand ----

-- Every group of a layout with one entry for each of its instances: lists of "tensor axis offset block", sorted.
local function listed(net)
  local plan, groups = layout_of(net), {}
  for c, class in pairs(plan.classes) do
    local instances = 1
    for _, g in ipairs(class.under) do instances = instances * plan.classes[g].size end
    groups[c] = {}
    for i = 1, instances do groups[c][i] = {} end
  end
  for name, t in pairs(plan.tensors) do
    for d, axis in ipairs(t.axes) do
      for _, segment in ipairs(axis) do
        local outer = 1
        for k, f in ipairs(segment) do
          for o = 0, f.class and outer - 1 or -1 do
            local instance, rest, digit = 0, o, {}
            for j = k - 1, 1, -1 do digit[j], rest = rest % segment[j].size, rest // segment[j].size end
            for _, g in ipairs(plan.classes[f.class].under) do
              for j = 1, k - 1 do
                if segment[j].class == g then instance = instance * plan.classes[g].size + digit[j] end
              end
            end
            local block = segment.size // (outer * f.size)
            table.insert(groups[f.class][instance + 1], ("%s %d %d %d"):format(name, d - 1,
              segment.offset + o * f.size * block, block))
          end
          outer = outer * f.size
        end
      end
    end
  end
  local out = {}
  for c, list in pairs(groups) do
    for _, entries in ipairs(list) do
      table.sort(entries)
      out[#out + 1] = plan.classes[c].size .. ": " .. table.concat(entries, ", ")
    end
  end
  table.sort(out)
  return out
end

local function golden(name, rename)
  local file <close> = assert(io.open("tests/golden/align/" .. name .. ".json"))
  local out = {}
  for _, group in pairs(decode(file:read "a").groups) do
    local entries = {}
    for i, e in ipairs(group.entries) do
      entries[i] = ("%s %d %d %d"):format(rename and rename(e.tensor) or e.tensor, e.axis, e.offset, e.block)
    end
    table.sort(entries)
    out[#out + 1] = group.size .. ": " .. table.concat(entries, ", ")
  end
  table.sort(out)
  return out
end

local function same_groups(name, net, rename)
  local got, want = listed(net), golden(name, rename)
  check.equal(#got, #want, name .. ": groups")
  for i = 1, #want do check.equal(got[i], want[i], name) end
end

local vgg = { conv1 = "features.0", bn1 = "features.1", conv2 = "features.4", bn2 = "features.5",
  conv3 = "features.8", bn3 = "features.9", fc1 = "classifier.0", fc2 = "classifier.3" }

same_groups("mlp", nn.mlp { 784, 128, 64, 10 })
same_groups("vgg", nn.conv { 8, "M", 12, "M", 16, input = { 12, 12, 3 }, hidden = { 24 } },
  function(t) return (t:gsub("^%w+", vgg)) end)
same_groups("resnet8", nn.resnet { widths = { 8, 16, 24 }, blocks = { 1, 1, 1 }, input = { 12, 12, 3 } },
  function(t) return (t:gsub("^(layer%d)%.", "%1.0.")) end)
same_groups("bert", nn.bert { width = 32, heads = 4, layers = 2, inner = 48, vocab = 40, context = 32, head = "masked" })
same_groups("gpt", nn.gpt { width = 32, heads = 4, layers = 2, inner = 64, vocab = 48, context = 32 })
same_groups("llama", nn.llama { width = 32, heads = 4, kv_heads = 2, layers = 2, inner = 40, vocab = 48 })

-- Thirty layers, nothing computed.
check.equal(#align.groups(nn.llama { vocab = 49152, width = 576, heads = 9, kv_heads = 3, layers = 30, inner = 1536 }),
  1 + 4 * 30)

-- ---- put to the proof ----

local function largest(t) return t:abs():max() end

-- What comes out of parts, by path.
local function inside(net, theta, x, plan)
  local paths = {}
  for path in pairs(plan.sites) do paths[#paths + 1] = path end
  local y, _, seen = net(theta, x, { capture = paths })
  return y, seen
end

-- A network that does not say what it takes is told; what is no network is refused.
do
  local net = nn.sequential { nn.conv2d(3, 4, 1), nn.global_avg_pool(), nn.linear(4, 2) }
  check.raises("does not say what inputs it takes", align.groups, net)
  check.equal(#align.groups(net, nil, { x = tensor.zeros { 1, 2, 2, 3 } }), 1)
  check.raises("expected a network", align.groups, { 4, 3, 2 })
end

-- Random weights, running statistics and all, so that nothing holds by accident.
local function random_weights(net, seed)
  local theta = {}
  for i, p in ipairs(net:params()) do
    local t = tensor.randn(p.shape, seed + i, { dtype = "f64" }) * (#p.shape > 1 and 0.4 or 0.3)
    theta[p.name] = (p.name:find "var" or p.name:find "norm" and p.name:find "weight") and t:abs() + 0.5 or t
  end
  return theta
end

local function proved(what, net, x, seed)
  local plan = layout_of(net, not net.input and { x = x } or nil)
  local theta = random_weights(net, seed)
  local m = member.random(plan, seed)
  local y, before = inside(net, theta, x, plan)
  local z, after = inside(net, member.weights(plan, m, theta), x, plan)
  check.near(largest(z - y) / largest(y), 0, 1e-8, what .. ": outputs")
  assert(largest(y) > 1e-3, what .. ": nothing comes out")
  local moves = 0
  for path, site in pairs(plan.sites) do
    local v = before[path]
    if site.output and v.dtype == "f64" then
      local want = member.apply(plan, m, site.output.axes, v)
      check.near(largest(want - after[path]) / math.max(largest(want), 1e-3), 0, 1e-8,
        ("%s: the output of %s"):format(what, path))
      moves = moves + (largest(want - v) > 1e-3 and 1 or 0)
    end
  end
  return plan, moves
end

local function images(net, seed) return tensor.randn({ 1, table.unpack(net.input) }, seed, { dtype = "f64" }) end
local function tokens(net, seed)
  return (tensor.uniform({ 1, table.unpack(net.input) }, seed) * net.tokens):floor():to "i64"
end

local nets = {
  mlp = nn.mlp { 12, 16, 9, 5 }, mlp_tanh = nn.mlp { 12, 16, 9, 5, act = "tanh" },
  mlp_gelu = nn.mlp { 12, 16, 9, 5, act = "gelu" }, mlp_identity = nn.mlp { 12, 16, 9, 5, act = "identity" },
  mlp_silu = nn.mlp { 12, 16, 9, 5, act = "silu", norm = "layer" },
  mlp_group = nn.mlp { 12, 16, 24, 5, norm = "group" }, mlp_batch = nn.mlp { 12, 16, 9, 5, norm = "batch" },
  mlp_rms = nn.mlp { 12, 16, 9, 5, norm = "rms" }, mlp_leaky = nn.mlp { 12, 16, 9, 5, act = "leaky_relu" },
  conv = nn.conv { 8, "M", 12, input = { 8, 8, 3 }, hidden = { 10 } },
  conv_bare = nn.conv { 8, "M", 12, input = { 8, 8, 3 }, norm = false },
  conv_group = nn.conv { 8, 16, input = { 4, 4, 3 }, norm = "group" },
  resnet = nn.resnet { depth = 14, width = 4, input = { 8, 8, 3 } },
  resnet_group = nn.resnet { depth = 8, width = 8, input = { 8, 8, 3 }, norm = "group", groups = 4 },
  resnet_large = nn.resnet { depth = 8, width = 4, input = { 16, 16, 3 }, stem = "large", norm = "layer" },
  vit = nn.vit { input = { 8, 8, 3 }, patch = 4, width = 12, layers = 2, heads = 3, inner = 20 },
  gpt = nn.gpt { width = 12, heads = 3, layers = 2, inner = 20, vocab = 15 },
  gpt_untied = nn.gpt { width = 12, heads = 3, layers = 1, vocab = 15, tied = false, act = "relu" },
  llama = nn.llama { width = 16, heads = 4, kv_heads = 2, layers = 2, inner = 20, vocab = 15, bias = true },
  llama_tied = nn.llama { width = 16, heads = 4, kv_heads = 4, layers = 1, inner = 20, vocab = 15, tied = true,
    head_size = 6 },
  bert = nn.bert { width = 12, heads = 3, layers = 2, inner = 20, vocab = 15 },
  bert_masked = nn.bert { width = 12, heads = 3, layers = 1, inner = 20, vocab = 15, head = "masked" },
  bert_none = nn.bert { width = 12, heads = 3, layers = 1, inner = 20, vocab = 15, head = "none" },
}
nets.residual = nn.sequential { nn.linear(6, 8), nn.residual(nn.sequential { nn.linear(8, 12), "gelu", nn.linear(12, 8) }),
  nn.linear(8, 3) }
nets.branch = nn.sequential { nn.linear(6, 8), nn.branch({ nn.linear(8, 5), nn.linear(8, 4) }, "cat"), "relu",
  nn.linear(9, 3) }
nets.checkpoint = nn.sequential { nn.linear(6, 8), nn.checkpoint(nn.sequential { nn.linear(8, 5), "relu" }), nn.linear(5, 3) }
for name, net in pairs(nets) do
  local _, moves = proved(name, net, net.tokens and tokens(net, 3) or images(net, 3), 5)
  assert(moves > 0, name .. ": nothing moves inside")
end
