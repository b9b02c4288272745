-- SPDX-License-Identifier: Apache-2.0
-- lineage MODEL: what a saved model was made of, and what that was made of
--
-- Follows every input to where tarn-provenance.json says that it lay. What is said is what the files claim;
-- `tarn verify` compares digests, `tarn replay` bytes.
--
-- Options:
--   --json   the tree as one object
local json, show = require "json", require "show"
local args = require("command").parse()

local function object(node)
  local inputs, out = {}, {}
  for i, input in ipairs(node.inputs) do inputs[i] = object(input) end
  for _, key in ipairs { "label", "path", "digest", "license", "source", "recipe", "missing", "changed" } do
    if node[key] ~= nil then out[#out + 1] = { key, node[key] } end
  end
  out[#out + 1] = { "methods", json.list(node.methods or {}) }
  out[#out + 1] = { "inputs", json.list(inputs) }
  return json.object(out)
end

local function line(node)
  local parts = { show(node.label) }
  if node.recipe then parts[#parts + 1] = "recipe " .. show(node.recipe) end
  if node.methods and #node.methods > 0 then parts[#parts + 1] = "by " .. table.concat(node.methods, ", ") end
  if node.license then parts[#parts + 1] = show(node.license) end
  if node.source then parts[#parts + 1] = "from " .. show(node.source) end
  if node.digest then parts[#parts + 1] = node.digest:sub(1, 12) .. "…" end
  if node.missing then
    parts[#parts + 1] = node.path and "not at " .. show(node.path) or "where it lay is not recorded"
  end
  if node.changed then parts[#parts + 1] = "what lies at " .. show(node.path) .. " now is something else" end
  return table.concat(parts, "; ")
end

local function tree(node, head)
  for i, input in ipairs(node.inputs) do
    local last = i == #node.inputs
    print(head .. (last and "└─ " or "├─ ") .. line(input))
    tree(input, head .. (last and "   " or "│  "))
  end
end

local root = recipe.lineage(args[1])
if args.json then
  print(json.encode(object(root)))
else
  print(line(root))
  if #root.inputs == 0 then print "  it records no inputs" end
  tree(root, "")
end
