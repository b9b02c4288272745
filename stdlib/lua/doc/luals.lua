-- SPDX-License-Identifier: Apache-2.0
-- Definitions for the Lua language server (LuaLS, "---@meta"), made of the documentation rows: functions with
-- their parameters, option tables as classes, so that an editor completes the names of options, and the text
-- of each row. Types are told where a signature tells them, else they are any.

local keywords = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then true "
  .. "until while"):gmatch "%a+" do
  keywords[word] = true
end
local lua_types = { string = "string", number = "number", integer = "integer", boolean = "boolean", bool = "boolean",
  list = "any[]", table = "table", ["function"] = "function", ["nil"] = "nil" }

-- Parts of a text between separators that stand outside all brackets.
local function split(text)
  local parts, depth, from = {}, 0, 1
  for at, c in text:gmatch "()(.)" do
    if c:find "[({%[]" then depth = depth + 1 elseif c:find "[)}%]]" then depth = depth - 1 end
    if c == "," and depth == 0 then
      parts[#parts + 1] = text:sub(from, at - 1):match "^%s*(.-)%s*$"
      from = at + 1
    end
  end
  parts[#parts + 1] = text:sub(from):match "^%s*(.-)%s*$"
  return parts
end

-- "tensor or number" -> "tensor|number"; what is no plain word is any.
local function type_of(text, classes)
  local out = {}
  for _, word in ipairs(split((text:gsub(" or ", ",")))) do
    local last = word:match "^%a[%w ]* (%a+)$" or word -- "bool tensor"
    local t = classes[last] and last or lua_types[last]
    if not t and last:find "^{" then t = "table" end
    if not t then return "any" end
    out[#out + 1] = t
  end
  return table.concat(out, "|")
end

local function prose(text)
  return (("--- " .. text:gsub("\n", "\n--- ")):gsub(" +%f[\n\0]", ""))
end

-- The options in "{ base = m, a, b, …, weight = 1 }" as a class; returns its lines.
local function option_class(name, body)
  local out = { "---@class " .. name }
  local places = false
  for _, part in ipairs(split(body:match "^{(.*)}$")) do
    part = part:gsub("^%[", ""):gsub("%]$", "")
    local key, value = part:match "^([%a_][%w_]*)%s*=%s*(.*)$"
    if key and not keywords[key] then
      local kind = value:find '^"' and "string" or (value == "true" or value == "false") and "boolean"
        or value:find "^function" and "function" or "any"
      out[#out + 1] = ("---@field %s? %s%s"):format(key, kind, value ~= "" and value ~= "m" and " = " .. value or "")
    elseif not key then
      places = true
    end
  end
  if places then out[#out + 1] = "---@field [integer] any" end
  return out
end

-- Parameters of a signature: lines of annotation, names.
local function parameters(d, call, classes, out)
  local names, taken = {}, {}
  local function name_for(part)
    local name = part:match "^[%a_][%w_]*" or "arg"
    if keywords[name] then name = name .. "_" end
    while taken[name] do name = name .. "_" end
    taken[name] = true
    return name
  end
  local list = call:find "^{" and { call } or split(call:sub(2, -2))
  for i, part in ipairs(list) do
    local optional = part:find "^%[" or part:find "="
    local name
    if part:find "^%b{}$" then
      name = name_for "options"
      local class = d.name:gsub(":", ".") .. ".options" .. (i > 1 and taken.options_ and tostring(i) or "")
      table.insert(out, 1, table.concat(option_class(class, part), "\n") .. "\n")
      out[#out + 1] = ("---@param %s%s %s"):format(name, call:find "^{" and "" or "?", class)
    elseif part:find "^…" or part == "..." then
      name = "..."
      out[#out + 1] = "---@param ... any"
    elseif part ~= "" then
      name = name_for((part:gsub("^%[", "")))
      out[#out + 1] = ("---@param %s%s any"):format(name, optional and "?" or "")
    end
    names[#names + 1] = name
    if name == "..." then break end
  end
  return table.concat(names, ", ")
end

-- One row: its annotations and the function or field.
local function definition(d, classes)
  local out, doc = {}, {}
  local call, result = d.signature:match "^[%w_.:]+%s*(%b())%s*%-?>?%s*(.*)$"
  if not call then call, result = d.signature:match "^[%w_.:]+%s*(%b{})%s*%-?>?%s*(.*)$" end
  doc[1] = prose("`" .. d.signature .. "`\n\n" .. d.text)
  if d.example then doc[#doc + 1] = prose("```lua\n" .. d.example .. "\n```") end
  if not call then
    local field = not d.signature:find "^%a+:" and d.name:find "%." and d.signature:match "^[%w_.]+%s*%->%s*(.*)$"
    if field then return ("%s\n---@type %s\n%s = nil\n"):format(doc[1], type_of(field, classes), d.name) end
    return ("-- %s: %s\n%s\n"):format(d.name, d.signature, (prose(d.text):gsub("%-%-%- ?", "-- ")))
  end
  local notes = {}
  local names = parameters(d, call, classes, notes)
  local head = notes[1] and notes[1]:find "^%-%-%-@class" and table.remove(notes, 1)
  out[1] = head
  table.move(doc, 1, #doc, #out + 1, out)
  table.move(notes, 1, #notes, #out + 1, out)
  if result ~= "" then
    for _, part in ipairs(split(result)) do out[#out + 1] = "---@return " .. type_of(part, classes) end
  end
  out[#out + 1] = ("function %s(%s) end\n"):format(d.name, names)
  return table.concat(out, "\n")
end

return function(docs, version)
  local out = { "---@meta", "-- Definitions for LuaLS; made by `tarn reference --as luals`, tarn " .. version .. ".\n" }
  local classes, order = {}, {}
  for _, d in ipairs(docs) do
    local word = d.name:match "^([^.:]+)[.:]"
    if word and not classes[word] then
      classes[word] = true
      order[#order + 1] = word
    end
  end
  for _, d in ipairs(docs) do -- what functions return and nobody else names
    local result = d.signature:match "%->%s*(%l+)$"
    if result and not classes[result] and not lua_types[result] then classes[result] = false end
  end
  local results = {}
  for name, own in pairs(classes) do
    if not own and #name > 1 then results[#results + 1] = name end
  end
  table.sort(results)
  for _, name in ipairs(results) do
    out[#out + 1] = "---@class " .. name .. "\n"
    classes[name] = true
  end
  for _, word in ipairs(order) do
    local global = rawget(_G, word) ~= nil
    local operators = ""
    if word == "tensor" or word == "model" then
      for _, op in ipairs { "add", "sub", "mul", "div" } do
        operators = operators .. ("---@operator %s(any): %s\n"):format(op, word)
      end
      local element = word == "tensor" and "any" or "tensor"
      operators = operators .. ("---@operator unm: %s\n---@field [any] %s\n"):format(word, element)
    end
    local callable = word == "tensor" and "---@overload fun(data: any, options?: table): tensor\n"
      or word == "recipe" and "---@overload fun(description: table): recipe\n" or ""
    out[#out + 1] = ("---@class %s\n%s%s%s%s = {}\n"):format(word, operators, callable, global and "" or "local ", word)
  end
  for _, d in ipairs(docs) do
    if not classes[d.name] or d.signature:find "[({]" then -- a module's own row is its class
      if classes[d.name] then
        out[#out + 1] = ("-- %s: %s\n"):format(d.name, d.signature)
      else
        out[#out + 1] = definition(d, classes)
      end
    end
  end
  return table.concat(out, "\n")
end
