-- SPDX-License-Identifier: Apache-2.0
-- Looking at a checkpoint, and arithmetic with whole models. Nothing is read but headers until a
-- value is asked for.
local base = model.open "examples/data/base.safetensors"
local low = model.open "examples/data/low.safetensors"

print(base)
for name, t in pairs(base) do
  print(name, t)
end

-- A model is a vector: subtract, scale, measure.
local step = low - base
print(step)
print(string.format("length of the step: %.4f, of the model: %.4f", step:norm(), base:norm()))
print(string.format("cosine(base, low) = %.6f", base:cosine(low)))

-- Where did fine-tuning move the weights most?
for name in pairs(base) do
  local d = low[name] - base[name]
  print(string.format("%-12s moved by %.4f", name, d:norm():item()))
end
