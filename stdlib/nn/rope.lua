-- SPDX-License-Identifier: Apache-2.0
-- Rotary positions over more places than a model was first trained on, in the terms of config.json (transformers'
-- rope_scaling): "linear" (Chen et al. 2023, arXiv:2306.15595) divides all angles; "dynamic" takes a larger base where
-- the input is longer than the context (NTK-aware); "llama3" (Dubey et al. 2024, arXiv:2407.21783) divides the angles
-- of waves that are long against the first context, leaves those of short ones, and goes over from one to the other.
local net = require "nn.net"

local rope = {}

local kinds = { default = {}, linear = { "factor" }, dynamic = { "factor" },
  llama3 = { "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings" } }

function rope.kind(what, scaling)
  local kind = scaling.rope_type or scaling.type or "default"
  local fields = kinds[kind] or net.fail("%s: rope_scaling of the type %s is not supported; known are default, linear, "
    .. "dynamic, llama3", what, tostring(kind))
  for _, name in ipairs(fields) do
    if type(scaling[name]) ~= "number" or scaling[name] <= 0 then
      net.fail("%s: rope_scaling of the type %s needs %s, a number above 0", what, kind, name)
    end
  end
  if kind == "llama3" and scaling.high_freq_factor <= scaling.low_freq_factor then
    net.fail("%s: rope_scaling needs a high_freq_factor above low_freq_factor", what)
  end
  return kind
end

local function repeated(v, n)
  local list = {}
  for i = 1, n do list[i] = v end
  return list
end

-- The part of the frequency that stays, for each pair; its inverse is what the angle is divided by.
local function llama3_factors(s, base, size)
  local list = {}
  for i = 1, size // 2 do
    local frequency = base ^ (-2 * (i - 1) / size)
    local waves = s.original_max_position_embeddings * frequency / (2 * math.pi) -- as many in the first context
    local whole = (waves - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
    whole = math.max(0, math.min(1, whole))
    list[i] = 1 / ((1 - whole) / s.factor + whole)
  end
  return list
end

-- function(t) -> options of tensor:rope for t places. size: of a head; context: the places of the model.
function rope.turns(what, scaling, base, size, context)
  local kind = scaling and rope.kind(what, scaling) or "default"
  local plain = { base = base }
  if kind == "linear" then
    plain.factors = repeated(scaling.factor, size // 2)
  elseif kind == "llama3" then
    plain.factors = llama3_factors(scaling, base, size)
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
