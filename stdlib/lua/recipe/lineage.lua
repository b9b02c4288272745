-- SPDX-License-Identifier: Apache-2.0
-- The tree of what a saved model was made of. An input is followed to where tarn-provenance.json says that
-- it lay; whether it is still what it was is told where the digest store knows it.
local saved_of, attempt = require "recipe.saved", require "attempt"

local deepest = 32

local function methods(nodes)
  local out, seen = {}, {}
  for _, node in ipairs(nodes) do
    local name = type(node) == "table" and (node.method or (node.node ~= "input" and node.node)) or nil
    if type(name) == "string" and not seen[name] then
      seen[name] = true
      out[#out + 1] = name
    end
  end
  return out
end

local follow

local function child(input, depth)
  local node = { label = input.label, digest = input.digest, path = input.path, license = input.license,
    source = input.source, inputs = {} }
  local ok, m = attempt(model.open, input.path or "")
  if not ok then
    node.missing = true
  elseif depth < deepest then
    if input.digest and m:plan().unhashed_files == 0 then node.changed = m:digest() ~= input.digest end
    if not node.changed then follow(node, m, depth + 1) end
  end
  return node
end

function follow(node, m, depth)
  local saved = saved_of(m, node.path)
  local recipe = saved.provenance.recipe
  node.methods = methods(saved.nodes)
  node.recipe = type(recipe) == "table" and type(recipe.name) == "string" and recipe.name or nil
  for i, input in ipairs(saved.inputs) do node.inputs[i] = child(input, depth) end
end

return function(_, path)
  local node = { label = path:match "([^/]+)/*$" or path, path = path, inputs = {} }
  follow(node, model.open(path), 1)
  return node
end
