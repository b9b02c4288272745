-- SPDX-License-Identifier: Apache-2.0
-- The commands of the prompt that are only text. Each function is given the session's entries, a list of
-- {text, shown}, and the width of the terminal, then what stood behind the command; it returns what to print.

local prompt = {}

-- ---- the session as a script ----

local function mentions(text, word)
  return (" " .. text .. " "):find("[^%w_]" .. word .. "[^%w_]") ~= nil
end

-- One entry. Shown values are printed; where a later entry takes them as _ they get that name.
local function statement(entry, is_taken)
  local text = entry.text
  if entry.shown then
    return is_taken and "_ = " .. text .. "\nprint(_)" or "print(" .. text .. ")"
  end
  if not load(text) then text = "_ = " .. text:gsub("[;%s]+$", "") end -- an expression, hushed with ";"
  return mentions(text, "local") and "do\n" .. text .. "\nend" or text
end

local function script(entries)
  local out = { "#!/usr/bin/env tarn", "-- A session at the prompt of tarn " .. tarn.version .. "." }
  local taken = {} -- from the last to the first: does a later one want _?
  for i = #entries, 1, -1 do taken[i] = i < #entries and (mentions(entries[i + 1].text, "_") or (taken[i + 1] and
    not entries[i + 1].shown)) end
  for i, entry in ipairs(entries) do out[#out + 1] = statement(entry, taken[i]) end
  return table.concat(out, "\n") .. "\n"
end

function prompt.save(entries, _, path)
  local file = io.open(path, "r")
  if file then
    file:close()
    error(":save: " .. path .. " exists", 0)
  end
  local why
  file, why = io.open(path, "w")
  if not file then error(":save: cannot open " .. why, 0) end
  local ok
  ok, why = file:write(script(entries))
  local closed, late = file:close()
  if not (ok and closed) then error(":save: cannot write " .. path .. ": " .. (why or late), 0) end
  return string.format("%s: %d %s", path, #entries, #entries == 1 and "entry" or "entries")
end

-- ---- looking without running ----

function prompt.lint(entries, _, path)
  local lint, text = require "lint", script(entries)
  if path ~= "" then
    local file, why = io.open(path, "rb")
    if not file then error(":lint: cannot open " .. why, 0) end
    text = file:read "a"
    file:close()
  end
  local ok, why = load(text:gsub("^#[^\n]*", "", 1), "=" .. path)
  if not ok then return why end
  local out = {}
  for _, f in ipairs(lint(text)) do
    local line = text:match(("[^\n]*\n"):rep(f.line - 1) .. "([^\n]*)")
    out[#out + 1] = path == "" and line .. "\n  " .. f.message
      or string.format("%s:%d:%d: %s", path, f.line, f.column, f.message)
  end
  return #out > 0 and table.concat(out, "\n") or "nothing found"
end

local function compile(text)
  local f, why = load("return " .. text, "=input")
  if not f then f, why = load(text, "=input") end
  if not f then error(why, 0) end
  return f
end

function prompt.plan(_, _, text)
  local f, value = compile(text), nil
  local plans = model.plans(function() value = f() end)
  local out = {}
  for _, plan in ipairs(plans) do out[#out + 1] = plan:show(true) end
  if #out > 0 then return table.concat(out, "\n") end
  if type(value) == "userdata" then
    local told, plan = pcall(function() return value:plan():show(true) end)
    if told then return plan end
    if pcall(function() return value.planned end) then return tostring(value) end
    error(plan, 0)
  end
  error(string.format(":plan: that saves nothing and is a %s, not a model", type(value)), 0)
end

-- ---- globals ----

local function cut(text, width)
  text = text:match "^[^\n]*"
  if (utf8.len(text) or #text) <= width then return text end
  return text:sub(1, (utf8.offset(text, width) or width) - 1) .. "…"
end

local unasked = { _G = true, _ = true, __ = true, arg = true, print = true, warn = true }

-- A global that the language came with (the library keeps its own), unless the session has put something else there.
local function is_of_the_language(name, v)
  return unasked[name] or rawequal(rawget(_ENV, name), v)
end

function prompt.who(_, width)
  local names, longest = {}, 0
  for name in pairs(_G) do
    if type(name) == "string" and not is_of_the_language(name, rawget(_G, name)) then
      names[#names + 1] = name
      longest = math.max(longest, #name)
    end
  end
  if #names == 0 then return "no globals of this session" end
  table.sort(names)
  for i, name in ipairs(names) do
    local v = rawget(_G, name)
    local text = type(v) == "string" and string.format("%q", v) or tostring(v)
    if type(v) == "table" and text == "table" then text = string.format("table of %d", #v) end
    names[i] = cut(string.format("%-" .. longest .. "s  %s", name, text), width)
  end
  return table.concat(names, "\n")
end

-- ---- for the C half ----

-- The function that finds the value of "a.b" or "tensor:mean".
function prompt.finder()
  return function(name)
    local value
    for part in name:gmatch "[^.:]+" do
      if value == nil then value = _G[part] else value = value[part] end
    end
    return value
  end
end

function prompt.quoted(_, _, text)
  return string.format("%q", text)
end

return prompt
