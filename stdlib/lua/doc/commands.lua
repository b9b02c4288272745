-- SPDX-License-Identifier: Apache-2.0
-- The command line as data, for the man page and for completion: all of it from the heads of the command
-- files and the program's own table of options.

local command = require "command"

-- The prose of a command's help: paragraphs between its first line and its options.
local function paragraphs(help)
  local list, lines = {}, {}
  local function finish()
    if #lines > 0 then list[#list + 1] = table.concat(lines, "\n") end
    lines = {}
  end
  for line in (help or ""):gmatch "[^\n]+" do
    local text = line:match "^%-%- ?(.*)$"
    if text:find "^Options:" then break end
    if text:find "%S" then lines[#lines + 1] = text else finish() end
  end
  finish()
  return list
end

-- What may follow an option: "file", a list of words, or nil where nothing is known of it.
local function kind(value)
  if not value then return nil end
  if value:find "|" then
    local words = {}
    for word in value:gmatch "[^|]+" do words[#words + 1] = word end
    return words
  end
  for _, word in ipairs { "PATH", "FILE", "DIR", "OUT", "MODEL" } do
    if value:find(word, 1, true) then return "file" end
  end
end

-- {name, usage, summary, paragraphs, options = {{names, value, text, kind}, …}} for each command, by name;
-- then the options of the program, in the same form.
return function()
  local list, flags = {}, {}
  for i, c in ipairs(tarn.commands()) do
    local d = command.declaration(c.usage .. ": " .. c.summary .. "\n" .. (c.help or ""))
    for _, o in ipairs(d.list) do
      o.kind = kind(o.value)
      if o.list then o.value = o.value .. "…" end
    end
    list[i] = { name = c.name, usage = c.usage, summary = c.summary, paragraphs = paragraphs(c.help), options = d.list }
  end
  for i, f in ipairs(tarn.flags()) do
    flags[i] = { names = { f.name }, value = f.value, text = f.text, kind = kind(f.value) }
  end
  return list, flags
end
