-- SPDX-License-Identifier: Apache-2.0
-- Reading JSON (RFC 8259), strictly: what a hostile lock or provenance file holds is an error with its
-- place, never a guess. Objects become tables with string keys, lists tables from 1, null json.null;
-- numbers without a fraction or an exponent are integers where they fit.

local null = setmetatable({}, { __tostring = function() return "null" end })
local deepest = 64

local escapes = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function fail(s, at, what)
  local _, lines = s:sub(1, at - 1):gsub("\n", "")
  error(string.format("JSON: %s in line %d", what, lines + 1), 0)
end

local function space(s, at)
  return s:find("[^ \t\r\n]", at) or #s + 1
end

local function hex(s, at)
  local digits = s:match("^%x%x%x%x", at)
  return digits and tonumber(digits, 16) or fail(s, at, "\\u without four digits")
end

-- The code point of \uXXXX at `at` (behind the u) and where it ends; two surrogates are one.
local function unicode(s, at)
  local code = hex(s, at)
  if code >= 0xDC00 and code <= 0xDFFF then fail(s, at, "half of a surrogate pair") end
  if code < 0xD800 or code > 0xDBFF then return code, at + 4 end
  local low = s:sub(at + 4, at + 5) == "\\u" and hex(s, at + 6) or 0
  if low < 0xDC00 or low > 0xDFFF then fail(s, at, "half of a surrogate pair") end
  return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), at + 10
end

local function text(s, at) -- behind the quote
  local first = s:find('[%c"\\]', at)
  if first and s:byte(first) == 34 then return s:sub(at, first - 1), first + 1 end -- nearly all have no escapes
  local out = {}
  while true do
    local stop = s:find('[%c"\\]', at) or fail(s, #s, "a text without end")
    out[#out + 1] = s:sub(at, stop - 1)
    local c = s:sub(stop, stop)
    if c == '"' then return table.concat(out), stop + 1 end
    if c == "\127" then -- a control character to Lua, not to JSON
      out[#out + 1], at = c, stop + 1
    elseif c ~= "\\" then
      fail(s, stop, "a control character in a text")
    else
      local what = s:sub(stop + 1, stop + 1)
      if what == "u" then
        local code
        code, at = unicode(s, stop + 2)
        out[#out + 1] = utf8.char(code)
      else
        out[#out + 1] = escapes[what] or fail(s, stop, "an unknown escape")
        at = stop + 2
      end
    end
  end
end

local function number(s, at)
  local word = s:match("^%-?%d+%.?%d*[eE]?[+-]?%d*", at) or fail(s, at, "an unexpected character")
  if word:find "^%-?0%d" or not (word:find "^%-?%d+$" or word:find "^%-?%d+%.%d+$"
    or word:find "^%-?%d+[eE][+-]?%d+$" or word:find "^%-?%d+%.%d+[eE][+-]?%d+$") then
    fail(s, at, "a malformed number")
  end
  return tonumber(word), at + #word
end

local value

local function list(s, at, depth)
  local out = {}
  at = space(s, at)
  if s:sub(at, at) == "]" then return out, at + 1 end
  while true do
    out[#out + 1], at = value(s, at, depth)
    at = space(s, at)
    local c = s:sub(at, at)
    if c == "]" then return out, at + 1 end
    if c ~= "," then fail(s, at, "expected , or ]") end
    at = at + 1
  end
end

local function object(s, at, depth)
  local out = {}
  at = space(s, at)
  if s:sub(at, at) == "}" then return out, at + 1 end
  while true do
    local key
    at = space(s, at)
    if s:sub(at, at) ~= '"' then fail(s, at, "expected a key") end
    key, at = text(s, at + 1)
    if out[key] ~= nil then fail(s, at, "the key " .. key:sub(1, 40) .. " twice") end
    at = space(s, at)
    if s:sub(at, at) ~= ":" then fail(s, at, "expected :") end
    out[key], at = value(s, at + 1, depth)
    at = space(s, at)
    local c = s:sub(at, at)
    if c == "}" then return out, at + 1 end
    if c ~= "," then fail(s, at, "expected , or }") end
    at = at + 1
  end
end

local words = { t = { "true", true }, f = { "false", false }, n = { "null", null } }

function value(s, at, depth)
  if depth > deepest then fail(s, at, "more than " .. deepest .. " levels") end
  at = space(s, at)
  local c = s:sub(at, at)
  local word = words[c]
  if c == "{" then return object(s, at + 1, depth + 1) end
  if c == "[" then return list(s, at + 1, depth + 1) end
  if c == '"' then return text(s, at + 1) end
  if word and s:sub(at, at + #word[1] - 1) == word[1] then return word[2], at + #word[1] end
  return number(s, at)
end

-- decode(text) -> value
local function decode(s)
  local v, at = value(s, 1, 1)
  if space(s, at) <= #s then fail(s, at, "something behind the value") end
  return v
end

return { decode = decode, null = null }
