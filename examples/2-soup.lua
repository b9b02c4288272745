-- SPDX-License-Identifier: Apache-2.0
-- A soup whose recipe depends on depth and on names. A parameter may be a number, one per model, a
-- ramp over depth, or rules over names.
local low = model.open "examples/data/low.safetensors"
local high = model.open "examples/data/high.safetensors"

-- From `low` at the first layer to `high` at the last.
local ramp = merge.slerp { low, high, t = by.depth { 0.2, 0.5, 0.8 } }

-- Biases half and half, weights two to one.
local rules = merge.linear { low, high, weight = { by.name { { "bias", 0.5 }, { ".", 2 / 3 } },
  by.name { { "bias", 0.5 }, { ".", 1 / 3 } } } }

print(ramp:plan():show(true))
print(rules:plan())

local out = os.tmpname()
os.remove(out)
rules:save(out .. ".safetensors")
print((model.open(out .. ".safetensors") - rules):norm())
os.remove(out .. ".safetensors")
