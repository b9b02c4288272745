-- SPDX-License-Identifier: Apache-2.0
-- Lua source as HTML, with keywords, strings, numbers and comments marked. Whatever it is given, its text
-- comes out whole; marks are only colours.

local escape = require "doc.escape"

local keywords = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then true "
  .. "until while"):gmatch "%a+" do
  keywords[word] = true
end

-- The end of "[[…]]", "[==[…]==]" that begins at i, or nil.
local function long(text, i)
  local level = text:match("^%[(=*)%[", i)
  if not level then return nil end
  local _, last = text:find("]" .. level .. "]", i, true)
  return last or #text
end

-- The end of a string in quotes that begins at i: at the latest the end of the line.
local function quoted(text, i)
  local quote, k = text:sub(i, i), i + 1
  while k <= #text do
    local c = text:sub(k, k)
    if c == quote then return k end
    if c == "\n" then return k - 1 end
    k = k + (c == "\\" and 2 or 1)
  end
  return #text
end

-- The token that begins at i: its end and its class, "" for plain text.
local function token(text, i)
  local c = text:sub(i, i)
  if text:find("^%-%-", i) then
    return long(text, i + 2) or (text:find("\n", i, true) or #text + 1) - 1, "c"
  elseif c == '"' or c == "'" then
    return quoted(text, i), "s"
  elseif c == "[" and long(text, i) then
    return long(text, i), "s"
  elseif c:find "[%a_]" then
    local _, last = text:find("^[%w_]+", i)
    return last, keywords[text:sub(i, last)] and "k" or ""
  elseif c:find "%d" then
    local _, last = text:find("^0[xX][%x.]+", i)
    if not last then _, last = text:find("^[%d.]+[eE]?[%d]*", i) end
    return last, "n"
  end
  return (text:find("[%w_\"'%[%-]", i + 1) or #text + 1) - 1, ""
end

return function(text)
  local out, i = {}, 1
  while i <= #text do
    local last, class = token(text, i)
    local part = escape(text:sub(i, last))
    out[#out + 1] = class == "" and part or ('<span class="%s">%s</span>'):format(class, part)
    i = last + 1
  end
  return table.concat(out)
end
