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

-- What each would do, from headers alone: a plan has every parameter resolved, tensor by tensor.
-- (print(plan) shows it all, and so does `tarn plan` for a whole script.)
for _, m in ipairs { ramp, rules } do
  local plan = m:plan()
  print(string.format("%s: passes %d, read %d bytes, write %d bytes", m:label(), plan.passes, plan.reads,
    plan.writes))
  local node = plan.nodes[#plan.nodes]
  for _, value in ipairs(node.values) do
    for i, name in ipairs(value.each and node.names or {}) do
      local whose = value.model and " of " .. value.model or ""
      print(string.format("  %-12s %s%s = %.4g", name, value.name, whose, value.each[i]))
    end
  end
end

local out = os.tmpname()
os.remove(out)
rules:save(out .. ".safetensors")
print("saved, read back, difference:", (model.open(out .. ".safetensors") - rules):norm())
os.remove(out .. ".safetensors")
