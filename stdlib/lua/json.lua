-- SPDX-License-Identifier: Apache-2.0
-- Writing JSON. A list is a table with elements (or json.list{} when it may be empty); an object is a
-- list of {key, value} made by json.object, so that the order of its members is kept.

local json = {}

local Object, List = {}, {}

function json.object(pairs_)
  return setmetatable(pairs_, Object)
end

-- The members of t that are there, in the order of keys.
function json.pick(t, keys)
  local out = {}
  for _, key in ipairs(keys) do
    if t[key] ~= nil then out[#out + 1] = { key, t[key] } end
  end
  return json.object(out)
end

function json.list(items)
  return setmetatable(items, List)
end

local function escape(c)
  local short = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
  return short[c] or string.format("\\u%04x", c:byte())
end

local function text(s)
  return '"' .. s:gsub('[%c"\\]', escape) .. '"'
end

local function number(v)
  if math.type(v) == "integer" then
    return string.format("%d", v)
  end
  if v ~= v or v == math.huge or v == -math.huge then
    return "null" -- JSON has no word for these
  end
  local short = string.format("%.15g", v) -- 0.2, not 0.20000000000000001
  return tonumber(short) == v and short or string.format("%.17g", v)
end

local encode

local function members(t, out)
  for i, pair in ipairs(t) do
    out[#out + 1] = i > 1 and "," or ""
    out[#out + 1] = text(pair[1])
    out[#out + 1] = ":"
    encode(pair[2], out)
  end
end

function encode(v, out)
  local kind = type(v)
  if kind == "string" then
    out[#out + 1] = text(v)
  elseif kind == "number" then
    out[#out + 1] = number(v)
  elseif kind == "boolean" then
    out[#out + 1] = tostring(v)
  elseif kind == "table" and getmetatable(v) == Object then
    out[#out + 1] = "{"
    members(v, out)
    out[#out + 1] = "}"
  elseif kind == "table" then
    out[#out + 1] = "["
    for i, item in ipairs(v) do
      out[#out + 1] = i > 1 and "," or ""
      encode(item, out)
    end
    out[#out + 1] = "]"
  else
    out[#out + 1] = "null"
  end
end

-- The value as one line of JSON.
function json.encode(v)
  local out = {}
  encode(v, out)
  return table.concat(out)
end

return json
