-- SPDX-License-Identifier: Apache-2.0
-- What the documentation rows say in their signatures: the options of a function and the type of what it
-- returns. Completion at the prompt and `tarn lint` read them, so that nothing is declared twice.

-- The contents of the outermost braces of a signature's arguments.
local function groups(arguments)
  local out = {}
  for braces in arguments:gmatch "%b{}" do out[#out + 1] = braces:sub(2, -2) end
  return out
end

-- Parts between commas that are in no bracket.
local function parts(text)
  local plain = text:gsub("%b{}", function(s) return ("x"):rep(#s) end):gsub("%b()", function(s)
    return ("x"):rep(#s)
  end)
  local out, from = {}, 1
  for at in (plain .. ","):gmatch "()," do
    out[#out + 1] = text:sub(from, at - 1):match "^[%s%[%]]*(.-)[%s%]]*$"
    from = at + 1
  end
  return out
end

-- Reads "density = 0.2" and "label ="; false when there are other names than these: "options of m:save",
-- "key = value, …".
local function read_group(group, add)
  local complete, list, last = true, parts(group), nil
  for i, part in ipairs(list) do
    local name, default = part:match "^([%a_][%w_]*)%s*=%s*(.*)$"
    if name and name ~= "key" and name:find "%l" then
      add(name, default)
      last = name
    elseif name or (part == "…" and last and i == #list) or (part:find "%s" and part:sub(1, 1) ~= "{") then
      complete = false
    end
  end
  return complete
end

-- The lines "  name: what it is" of a text, also "  one, another: …", and "one and another as in model.open".
local function read_notes(text, note)
  for one, another in text:gmatch "([%a_]+) and ([%a_]+) as in model%.open" do
    note(one, "as in model.open")
    note(another, "as in model.open")
  end
  for line in text:gmatch "[^\n]+" do
    local names, rest = line:match "^  ([%a_][%w_, ]*): (.*)$"
    if names and not names:find "%a %a" then
      for name in names:gmatch "[%a_][%w_]*" do note(name, rest) end
    end
  end
end

local options = {}

-- options.of(doc): nil, when the row states none, or all (they are all that there are), list and by_name of
-- {name, default, text}, takes (every name that the table may hold: a parameter may be given by name too),
-- first: the argument that the table is, where an earlier one may be a table as well, and alone: true where
-- the table stands for all arguments, as in "grad(f, x, …) or { f, x, …, only = }"; only: where there is no other.
function options.of(doc)
  local arguments = doc.signature:gsub("%->.*$", "")
  local list, by_name, all = {}, {}, true
  local function add(name, default)
    if not by_name[name] then
      by_name[name] = { name = name, default = default ~= "" and default or nil, text = "" }
      list[#list + 1] = by_name[name]
    end
  end
  local first
  for k, group in ipairs(groups(arguments)) do
    local before = #list
    all = read_group(group, add) and all
    if k > 1 and before == 0 and #list > 0 then first = k end
  end
  if #list == 0 and not doc.name:find "^merge%." then return nil end -- a method has its policies at least
  read_notes(doc.text or "", function(name, rest)
    add(name)
    by_name[name].text = rest
  end)
  if #list == 0 then return nil end
  local takes = {}
  for name in arguments:gsub("^[^({]*", ""):gsub("%b{}", ""):gmatch "[%a_][%w_]*" do takes[name] = true end
  for name in pairs(by_name) do takes[name] = true end
  local plain, rest = arguments:match "^[%w_.:]+(%b())(.*)$"
  local alone = plain ~= nil and rest:find "^ or [%w_.:]*%s*{" ~= nil and not plain:find "="
  local only = arguments:find "^[%w_.:]+%s*%b{}%s*$" ~= nil or arguments:find "^[%w_.:]+%(%b{}%)%s*$" ~= nil
  return { list = list, by_name = by_name, takes = takes, all = all, first = first or 1, alone = alone, only = only }
end

-- options.result(doc): "tensor", "model", …; nil where it is not one thing.
function options.result(doc)
  return doc.signature:match "%->%s*(%a+)%s*$"
end

local rows -- by name, made at the first question

-- options.doc(name): the row called so.
function options.doc(name)
  if not rows then
    rows = {}
    for _, doc in ipairs(tarn.docs()) do rows[doc.name] = rows[doc.name] or doc end
  end
  return rows[name]
end

return options
