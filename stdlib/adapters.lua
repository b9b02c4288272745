-- SPDX-License-Identifier: Apache-2.0
-- Ranks for merge.lora_extract from the data. The shapes of a plan's outputs are known before it runs, so
-- this is a step of its own: one pass that reads both models, tensor by tensor; what it finds is written
-- into the plan as numbers.
return function(define, check, fail, kind)
  local expect = require "expect"(kind, fail)
  -- The least rank that keeps `energy` of the sum of squared singular values.
  local function least(s, energy)
    local values, sum, part = s:totable(), 0, 0
    for _, v in ipairs(values) do sum = sum + v * v end
    if sum == 0 then return 1 end
    for k, v in ipairs(values) do
      part = part + v * v
      if part >= energy * sum then return k end
    end
    return #values
  end

  local function lora_ranks(o)
    expect.one("merge.lora_ranks", nil, o, "a table")
    check("merge.lora_ranks", o, { "base", "energy", "most" }, true)
    expect("merge.lora_ranks", o, { base = "a model", energy = "a number", most = "a whole number from 1" })
    local m, base, energy, most = o[1], o.base, o.energy or 0.95, o.most or math.maxinteger
    if not m or not base then error("merge.lora_ranks: a model and its base are needed", 2) end
    expect.one("merge.lora_ranks", "the model", m, "a model")
    if not (energy > 0 and energy <= 1) then
      error(("merge.lora_ranks: energy = %s is outside 0 to 1"):format(energy), 2)
    end
    local ranks = {}
    for _, name in ipairs(m:names()) do
      local info = m:info(name)
      if (#info.shape == 2 or #info.shape == 4) and info.numel > 0 then
        local t = (m:tensor(name) - base:tensor(name)):load()
        if #info.shape == 4 then t = t:reshape { info.shape[1], info.numel // info.shape[1] } end
        local _, s = t:svd()
        ranks[name] = math.min(least(s, energy), most)
      end
    end
    return by.tensor(function(name) return ranks[name] or 1 end)
  end

  define("merge.lora_ranks", "merge.lora_ranks { model, base =, energy = 0.95, most = } -> schedule",
    "For each matrix of the model, the least rank at which a cut of its difference from the base keeps `energy` of "
      .. "the sum of squared singular values, at most `most`; for rank = … of merge.lora_extract. Reads both models "
      .. "and decomposes every matrix: a plan has fixed shapes, so this comes before it.",
    [[
local base, a = model.open "examples/data/base.safetensors", model.open "examples/data/low.safetensors"
local rank = merge.lora_ranks { a, base = base, energy = 0.9, most = 16 }
print(#merge.lora_extract { base = base, a, rank = rank })
-- > 9]], lora_ranks)
end
