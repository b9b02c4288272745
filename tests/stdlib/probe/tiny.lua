-- SPDX-License-Identifier: Apache-2.0
-- The small networks of tests/golden/similarity: net, two models, data, and what is stored of them.
local decode = require "json.decode".decode
local tiny = {}

function tiny.read(act)
  local m, a, b = model.load("tests/golden/similarity/tiny_" .. act .. ".safetensors"), {}, {}
  for _, name in ipairs(m:names()) do
    local whose, rest = name:match "^(%a+)%.(.+)$"
    if whose then table.insert(whose == "theta" and a or b, { rest, m:tensor(name) }) end
  end
  local file <close> = io.open "tests/golden/similarity/tiny.json"
  return nn.mlp { 6, 10, 8, 4, act = act }, model.new(a), model.new(b), { x = m:tensor "x", y = m:tensor "y" },
    decode(file:read "a")[act]
end

return tiny
