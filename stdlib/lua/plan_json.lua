-- SPDX-License-Identifier: Apache-2.0
-- A plan for programs: one JSON object with what `tarn plan` and `tarn merge --plan` show, and the canonical plan
-- that a saved model embeds.
local json = require "json"

local function tensor_json(t)
  for i, p in ipairs(t.parameters) do t.parameters[i] = json.pick(p, { "node", "name", "model", "value", "origin" }) end
  for _, key in ipairs { "shape", "from", "parameters" } do t[key] = json.list(t[key]) end
  return json.pick(t, { "name", "dtype", "shape", "method", "note", "parameters", "from", "copied", "passes", "reads",
    "more", "writes", "workspace", "held", "with" })
end

-- plan_json(plan, brief, names) -> text. brief: no single tensors; names: a set of those that are wanted.
return function(plan, brief, names)
  local tensors = plan:explain(names)
  for i, t in ipairs(tensors) do tensors[i] = tensor_json(t) end
  plan.tensors = not brief and json.list(tensors) or nil
  plan.time = plan.time and json.pick(plan.time, { "seconds", "reading", "running", "writing", "hashing", "read_rate",
    "run_rate", "write_rate", "sampled" })
  local head = json.encode(json.pick(plan, { "path", "passes", "barriers", "reads", "more", "writes", "peak", "time",
    "tensors" }))
  return head:sub(1, -2) .. ',"plan":' .. plan.json .. "}"
end
