-- SPDX-License-Identifier: Apache-2.0
-- The tokens of a Lua text. It is taken for granted that the text is valid: `load` was asked before.

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do keywords[word] = true end

local operators = { "...", "<<", ">>", "//", "==", "~=", "<=", ">=", "::", ".." } -- longest first

-- The end of "[[ … ]]" or "[==[ … ]==]" that begins at `at`, or nil when none does.
local function long_bracket(text, at)
  local level = text:match("^%[(=*)%[", at)
  if not level then return nil end
  local _, last = text:find("]" .. level .. "]", at, true)
  return last
end

local function short_string(text, at)
  local quote, i = text:sub(at, at), at + 1
  while true do
    local c = text:sub(i, i)
    if c == quote or c == "" then return i end
    i = i + (c == "\\" and 2 or 1)
  end
end

-- The end of the space and the comments that begin at `at`.
local function skip(text, at)
  while true do
    at = text:find("%S", at)
    if not at or text:sub(at, at + 1) ~= "--" then return at end
    local last = long_bracket(text, at + 2)
    at = (last or (text:find("\n", at, true) or #text)) + 1
  end
end

local function number(text, at)
  local _, last = text:find("^0[xX][%x.]*", at)
  if last then
    local _, more = text:find("^[pP][+-]?%d+", last + 1)
    return more or last
  end
  _, last = text:find("^%d*%.?%d*", at)
  local _, more = text:find("^[eE][+-]?%d+", last + 1)
  return more or last
end

-- kind and last byte of the token at `at`.
local function token(text, at)
  local c = text:sub(at, at)
  local _, last = text:find("^[%a_][%w_]*", at)
  if last then return keywords[text:sub(at, last)] and "keyword" or "name", last end
  if c == '"' or c == "'" then return "string", short_string(text, at) end
  if c:find "%d" or text:find("^%.%d", at) then return "number", number(text, at) end
  last = c == "[" and long_bracket(text, at)
  if last then return "string", last end
  for _, op in ipairs(operators) do
    if text:sub(at, at + #op - 1) == op then return "op", at + #op - 1 end
  end
  return "op", at
end

-- tokens(text): a list of {kind, text, at, last}: kind is name, keyword, string, number or op; the last one
-- has the kind "end".
return function(text)
  local out, at = {}, 1
  if text:sub(1, 1) == "#" then at = (text:find("\n", 1, true) or #text) + 1 end
  at = skip(text, at)
  while at do
    local kind, last = token(text, at)
    out[#out + 1] = { kind = kind, text = text:sub(at, last), at = at, last = last }
    at = skip(text, last + 1)
  end
  out[#out + 1] = { kind = "end", text = "", at = #text + 1, last = #text }
  return out
end
