-- SPDX-License-Identifier: Apache-2.0
-- Chat templates by name: Jinja that turns a conversation into the text of a published prompt format. Each file beside
-- this one returns a template, written for this program. They do not depend on how the environment trims blocks.
local nearest = require "nearest"

local names = { alpaca = true, chatml = true, exaone = true, llama3 = true, mistral = true }

-- text(template) -> the template of that name, or the template itself where it is one (it has a brace); else nil and
-- what is wrong.
local function text(template)
  if type(template) ~= "string" then return nil, "a chat template is a text, or a name" end
  if names[template] then return require("chat." .. template) end
  if template:find("{", 1, true) then return template end
  local near = nearest(template, names)
  return nil, ("'%s' is neither a template (it has no brace) nor one of alpaca, chatml, exaone, llama3, mistral%s")
    :format(template, near and ("; did you mean '%s'?"):format(near) or "")
end

return { names = names, text = text }
