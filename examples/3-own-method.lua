-- SPDX-License-Identifier: Apache-2.0
-- A merge method of your own: a function from tensor expressions to a tensor expression. It streams
-- like the built-in ones.
local base = model.open "examples/data/base.safetensors"
local low = model.open "examples/data/low.safetensors"
local high = model.open "examples/data/high.safetensors"

-- Add what `high` learned to `low`, but no entry by more than 0.05.
local clamped = merge.map { low, high, base, apply = function(t)
  return t[1] + (t[2] - t[3]):clamp(-0.05, 0.05)
end }
print(clamped)

-- A method that looks before it decides: project the second step onto the first, tensor by tensor.
-- `stats` is one pass over the data; `apply` gets its numbers.
local projected = merge.map { base = base, low, high,
  stats = function(t)
    local a, b = t[1] - t.base, t[2] - t.base
    return { ab = (a * b):sum(), aa = (a * a):sum() }
  end,
  apply = function(t, s)
    return t.base + (s.ab / s.aa) * (t[1] - t.base)
  end }
print(projected)

local step, projection = low - base, projected - base
for name in pairs(base) do
  print(string.format("%-12s |projection| / |step| = %.4f, cosine %.4f", name,
    projection[name]:norm():item() / step[name]:norm():item(),
    projection:only(name):cosine(step:only(name))))
end
