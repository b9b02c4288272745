-- SPDX-License-Identifier: Apache-2.0
-- Rotary positions over more places than a model was first trained on, in the terms of config.json (transformers'
-- rope_scaling): "linear" (Chen et al. 2023, arXiv:2306.15595) divides all angles; "dynamic" takes a larger base where
-- the input is longer than the context (NTK-aware); "llama3" (Dubey et al. 2024, arXiv:2407.21783) divides the angles
-- of waves that are long against the first context, leaves those of short ones, and goes over from one to the other;
-- "yarn" (Peng et al. 2023, arXiv:2309.00071) does so along the pairs of a head, and makes attention sharper.
local net = require "nn.net"

local rope = {}

local kinds = { default = {}, linear = { "factor" }, dynamic = { "factor" }, yarn = { "factor" },
  llama3 = { "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings" } }

local numbers_of_yarn = { "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor", "mscale",
  "mscale_all_dim" }

function rope.kind(what, scaling)
  if net.kind(scaling) ~= "table" then net.fail("%s: rope_scaling is a table, got %s", what, net.kind(scaling)) end
  local kind = scaling.rope_type or scaling.type or "default"
  local fields = kinds[kind] or net.fail("%s: rope_scaling of the type %s is not supported; known are default, linear, "
    .. "dynamic, llama3, yarn", what, tostring(kind))
  for _, name in ipairs(fields) do
    if type(scaling[name]) ~= "number" or scaling[name] <= 0 then
      net.fail("%s: rope_scaling of the type %s needs %s, a number above 0", what, kind, name)
    end
  end
  if kind == "llama3" and scaling.high_freq_factor <= scaling.low_freq_factor then
    net.fail("%s: rope_scaling needs a high_freq_factor above low_freq_factor", what)
  end
  for _, name in ipairs(kind == "yarn" and numbers_of_yarn or {}) do
    local v = scaling[name]
    if v ~= nil and tostring(v) ~= "null" and (type(v) ~= "number" or v <= 0) then
      net.fail("%s: %s of rope_scaling is a number above 0, got %s", what, name, tostring(v))
    end
  end
  return kind
end

local function number(scaling, name, default)
  local v = scaling[name]
  return type(v) == "number" and v or default
end

local function repeated(v, n)
  local list = {}
  for i = 1, n do list[i] = v end
  return list
end

-- The part of the frequency that stays, for each pair; its inverse is what the angle is divided by.
local function divisors(factor, size, whole_of)
  local list = {}
  for i = 1, size // 2 do
    local whole = math.max(0, math.min(1, whole_of(i - 1)))
    list[i] = 1 / ((1 - whole) / factor + whole)
  end
  return list
end

local function llama3_factors(s, base, size)
  return divisors(s.factor, size, function(i)
    local waves = s.original_max_position_embeddings * base ^ (-2 * i / size) / (2 * math.pi) -- in the first context
    return (waves - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
  end)
end

-- Pairs that turn more than beta_fast times in the first context stay, those below beta_slow are divided. The bounds
-- count dimensions though they are set against pairs, and are rounded outwards, as in the authors' code.
local function yarn_factors(s, base, size, context)
  local first = number(s, "original_max_position_embeddings", context)
  local function dimension(turns) return size * math.log(first / (turns * 2 * math.pi)) / (2 * math.log(base)) end
  local low, high = dimension(number(s, "beta_fast", 32)), dimension(number(s, "beta_slow", 1))
  if s.truncate ~= false then low, high = math.floor(low), math.ceil(high) end
  low, high = math.max(low, 0), math.min(high, size - 1)
  if low == high then high = high + 0.001 end
  return divisors(s.factor, size, function(i) return 1 - (i - low) / (high - low) end)
end

-- What queries and keys are both multiplied by.
local function yarn_scale(s)
  local function grown(m) return s.factor <= 1 and 1 or 0.1 * m * math.log(s.factor) + 1 end
  local one, all = number(s, "mscale"), number(s, "mscale_all_dim")
  return number(s, "attention_factor", one and all and grown(one) / grown(all) or grown(1))
end

-- function(t) -> options of tensor:rope for t places, factor of both queries and keys or nil. size: of a head;
-- context: the places of the model.
function rope.turns(what, scaling, base, size, context)
  local kind = scaling and rope.kind(what, scaling) or "default"
  local plain = { base = base }
  if kind == "linear" then
    plain.factors = repeated(scaling.factor, size // 2)
  elseif kind == "llama3" then
    plain.factors = llama3_factors(scaling, base, size)
  elseif kind == "yarn" then
    plain.factors = yarn_factors(scaling, base, size, context)
    local scale = yarn_scale(scaling)
    return function() return plain, scale end
  elseif kind == "dynamic" and size > 2 then
    return function(t)
      if t <= context then return plain end
      local more = scaling.factor * t / context - (scaling.factor - 1)
      return { base = base * more ^ (size / (size - 2)) }
    end
  end
  return function() return plain end
end

return rope
