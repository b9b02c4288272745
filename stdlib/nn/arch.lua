-- SPDX-License-Identifier: Apache-2.0
-- What the architectures share: options, the description of a network in config.json, attention.
local net = require "nn.net"
local compose = require "nn.compose"
local layer = require "nn.layer"

local arch = {}

local whole = { vocab = true, context = true, width = true, layers = true, heads = true, inner = true, classes = true,
  types = true, patch = true, kv_heads = true, head_size = true }
local lists = { sizes = true, hidden = true, widths = true, blocks = true }

-- Options over their defaults; `more` names those that have none.
function arch.options(what, o, defaults, more)
  if net.kind(o) ~= "table" then net.fail("%s: expected a table of options, got %s", what, net.kind(o)) end
  local names, out = { table.unpack(more or {}) }, {}
  for name, v in pairs(defaults) do names[#names + 1], out[name] = name, v end
  net.check(what, o, names, true)
  for name, v in pairs(o) do out[name] = v end
  table.sort(names) -- the same mistakes, the same message
  for _, name in ipairs(names) do
    local v = out[name]
    if v ~= nil and whole[name] then layer.whole(what, name, v) end
    if v ~= nil and lists[name] then layer.sizes(what, name, v) end
    if type(defaults[name]) == "number" then layer.number(what, name, v) end
    if name == "prefix" and type(v) ~= "string" then
      net.fail("%s: prefix = %s; expected a text", what, net.shown(v))
    end
  end
  return out
end

local function plain(v)
  if type(v) ~= "table" then return type(v) ~= "function" and type(v) ~= "userdata" end
  for _, x in pairs(v) do
    if not plain(x) then return false end
  end
  return getmetatable(v) == nil
end

-- What goes into config.json so that nn.from makes the network again; nil where a function is an option.
function arch.config(kind, o)
  if not plain(o) then return nil end
  return { tarn = { net = kind, options = o } }
end

-- [n, t, heads size] -> [n, heads, t, size]
function arch.heads(x, heads)
  local shape = x.shape
  return x:reshape { shape[1], shape[2], heads, shape[3] // heads }:permute { 1, 3, 2, 4 }
end

-- [n, heads, t, size] -> [n, t, heads size]
function arch.joined(x)
  local shape = x.shape
  return x:permute { 1, 3, 2, 4 }:reshape { shape[1], shape[3], shape[2] * shape[4] }
end

-- Attention over heads with dropout of its weights: the products written out.
local function with_dropout(s, q, k, v, o)
  local from, to = q.shape[3], k.shape[3]
  local groups = q.shape[2] // k.shape[2]
  if groups > 1 then k, v = k:repeat_interleave(groups, 2), v:repeat_interleave(groups, 2) end
  local score = q:matmul(k:transpose(3, 4)) / math.sqrt(q.shape[4])
  if o.causal then
    local later = tensor.arange(to):reshape { 1, to }:gt(tensor.arange(from):reshape { from, 1 } + (to - from))
    score = score:masked_fill(later, -math.huge)
  elseif o.mask then
    score = score:masked_fill(o.mask:logical_not(), -math.huge)
  end
  return score:softmax(-1):dropout(o.dropout, s:key()):matmul(v)
end

-- o: causal, mask, dropout.
function arch.attend(s, q, k, v, o)
  if o.dropout and o.dropout > 0 and s:training() then return with_dropout(s, q, k, v, o) end
  return q:attention(k, v, { causal = o.causal, mask = o.mask })
end

-- Operations of the two products of attention: q [n, t, width].
function arch.attention_cost(shape, causal)
  local full = 4 * shape[1] * shape[2] * shape[2] * shape[3]
  return causal and full // 2 or full
end

-- Which of the tokens of a batch are real, as a mask of attention; nil: all.
function arch.padding(s)
  local mask = s:batch "mask"
  if not mask then return nil end
  local shape = mask.shape
  return tensor.ne(mask, 0):reshape { shape[1], 1, 1, shape[2] }
end

-- Positions 0, 1, … of tokens [n, t]; there are `most` of them.
function arch.positions(s, x, most)
  local t = s:expect(x, 1, x.shape[1], 2)[2]
  if t > most then s:fail("the input has %d positions, the network has room for %d", t, most) end
  return tensor.arange(t)
end

-- Blocks under the names encoder.layer.0, …
function arch.encoder(blocks)
  return compose.chain { kind = "encoder", children = { { name = "layer", net = compose.sequential(blocks) } } }
end

return arch
