-- SPDX-License-Identifier: Apache-2.0
-- What a saved model says of how it was made: the plan and the digests of its inputs from its metadata, the
-- rest from the tarn-provenance.json beside it. All of it is only claimed; `tarn verify` and `tarn replay`
-- look.
local decode, text_file = require "json.decode".decode, require "text_file"

local function json_of(text)
  local ok, value = pcall(decode, text)
  return ok and type(value) == "table" and value or nil
end

local function text(v) return type(v) == "string" and v or nil end

-- saved(m, path) -> {plan = text, nodes = list, inputs = {{label, digest, path, license, source}, …}, provenance}
return function(m, path)
  local metadata = m:metadata()
  local there, written = pcall(text_file, path .. "/tarn-provenance.json")
  local provenance = there and json_of(written) or {}
  local plan = metadata.tarn_plan and json_of(metadata.tarn_plan)
  local hints = {}
  for _, row in ipairs(type(provenance.inputs) == "table" and provenance.inputs or {}) do
    if type(row) == "table" and text(row.label) then hints[row.label] = row end
  end
  local inputs = {}
  for _, row in ipairs(metadata.tarn_inputs and json_of(metadata.tarn_inputs) or {}) do
    if type(row) == "table" and text(row.label) then
      local hint = hints[row.label] or {}
      inputs[#inputs + 1] = { label = row.label, digest = text(row.digest), path = text(hint.path),
        license = text(hint.license), source = text(hint.source) }
    end
  end
  local nodes = plan and type(plan.nodes) == "table" and plan.nodes or {}
  return { plan = metadata.tarn_plan, nodes = nodes, inputs = inputs, provenance = provenance }
end
