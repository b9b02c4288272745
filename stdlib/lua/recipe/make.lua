-- SPDX-License-Identifier: Apache-2.0
-- The value that `recipe { … }` makes. It is validated as a whole, and every mistake is told at once;
-- afterwards inputs and params are lists in byte order of their names, each row complete.
local nearest, licences = require "nearest", require "recipe.licences"

local made = setmetatable({}, { __mode = "k" }) -- what is a recipe; a look-alike is none
local Recipe = { __name = "recipe", __metatable = false }
Recipe.__index = Recipe

function Recipe:__tostring()
  return string.format("recipe %s%s: %d inputs, %d params", self.name, self.version and " " .. self.version or "",
    #self.inputs, #self.params)
end

local function set(list)
  local out = {}
  for _, word in ipairs(list) do out[word] = true end
  return out
end

local fields = { name = "string", version = "string", license = "string", tarn = "string", summary = "string",
  authors = "table", inputs = "table", params = "table", build = "function", check = "function", score = "function" }
local input_keys = set { 1, "source", "license", "doc", "architecture", "shape", "adapter_of", "optional" }
local param_keys = set { 1, "type", "min", "max", "doc", "choices" }
local param_types = set { "number", "integer", "boolean", "string", "list" }

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

local function unknown(found, where, t, known)
  for _, key in ipairs(sorted(t)) do
    if not known[key] then
      local words = {}
      for word in pairs(known) do
        if type(word) == "string" then words[word] = true end
      end
      local near = type(key) == "string" and nearest(key, words)
      found("%sunknown %s '%s'%s", where, where == "" and "field" or "key", tostring(key),
        near and "; did you mean '" .. near .. "'?" or "")
    end
  end
end

local function check_fields(found, t)
  unknown(found, "", t, fields)
  for _, key in ipairs(sorted(fields)) do
    if t[key] ~= nil and type(t[key]) ~= fields[key] and not (key == "authors" and type(t[key]) == "string") then
      found("%s is a %s, not a %s", key, type(t[key]), fields[key])
      t[key] = nil
    end
  end
  for _, key in ipairs { "name", "inputs", "build" } do
    if t[key] == nil then found("%s is missing", key) end
  end
  if t.name and not t.name:find "^[^%c]+$" then found "name is empty or holds a control character" end
  if t.version and not t.version:find "^%d+%.%d+[%w.+-]*$" then
    found("version is '%s'; expected numbers as in 1.2.0", t.version)
  end
  local why = t.license and licences.mistake(t.license)
  if why then found("license: %s", why) end
end

-- "0.1": made for this version; a later one serves up to the next first number that is not 0.
local function check_version(found, want, have)
  if not want then return end
  local major, minor = want:match "^(%d+)%.(%d+)"
  if not major then return found("tarn is '%s'; expected a version as in 0.1", want) end
  local first, second = have:match "^(%d+)%.(%d+)"
  major, minor, first, second = tonumber(major), tonumber(minor), tonumber(first), tonumber(second)
  if first < major or (first == major and second < minor) then
    found("needs tarn %s, and this is %s", want, have)
  elseif first > major and major > 0 then
    found("is written for tarn %s, and this is %s", want, have)
  end
end

local function authors(found, a)
  local list = type(a) == "string" and { a } or a or {}
  for i, name in ipairs(list) do
    if type(name) ~= "string" then found("authors: number %d is a %s, not a text", i, type(name)) end
  end
  return list
end

local function check_shapes(found, where, shapes)
  if type(shapes) ~= "table" then
    return found("%sshape is a %s; expected { [tensor] = {n, …} }", where, type(shapes))
  end
  for _, tensor in ipairs(sorted(shapes)) do
    local shape = shapes[tensor]
    local good = type(tensor) == "string" and type(shape) == "table"
    for _, n in ipairs(good and shape or {}) do good = good and math.type(n) == "integer" and n >= 0 end
    if not good then found("%sshape of %s is not { n, … }", where, tostring(tensor)) end
  end
end

-- A source is hub:org/name@revision, a path below the recipe's folder, or nothing: then --NAME gives it.
local function check_source(found, where, source)
  if source:find "^hub:" then
    if not require "recipe.hub".parse(source) then
      found("%s'%s' is not hub:organisation/name@revision", where, source)
    end
  elseif source:find "^/" or source == ".." or source:find "^%.%./" or source:find "/%.%./" or source:find "/%.%.$"
    or source == "" then
    found("%s'%s' does not lie below the recipe's folder; leave the source out and give --%s PATH", where, source,
      where:match "^inputs%.([%w_]+)" or "NAME")
  end
end

local function input(found, name, spec)
  local where = "inputs." .. tostring(name) .. ": "
  if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" or name == "out" then
    found("inputs: '%s' is no name for an input (letters, digits and _; not out)", tostring(name))
    return nil
  end
  if type(spec) == "string" then spec = { spec } end
  if type(spec) ~= "table" or getmetatable(spec) ~= nil then
    return found("%sa %s; expected a source or { source, license =, … }", where, type(spec))
  end
  unknown(found, where, spec, input_keys)
  local row = { name = name, source = spec[1] or spec.source }
  for key, kind in pairs { source = "string", license = "string", doc = "string", architecture = "string",
    adapter_of = "string", optional = "boolean" } do
    local value = row[key] == nil and spec[key] or row[key]
    if value ~= nil and type(value) ~= kind then
      found("%s%s is a %s, not a %s", where, key, type(value), kind)
    else
      row[key] = value
    end
  end
  if type(row.source) == "string" then check_source(found, where, row.source) end
  local why = type(row.license) == "string" and licences.mistake(row.license)
  if why then found("%slicense: %s", where, why) end
  if row.adapter_of and row.architecture then
    found("%san adapter has no architecture of its own; say it of %s", where, row.adapter_of)
  end
  if spec.shape ~= nil then
    check_shapes(found, where, spec.shape)
    row.shape = spec.shape
  end
  return row
end

-- What an adapter is added to is another input, and no adapter itself.
local function check_adapters(found, inputs)
  local of, names = {}, {}
  for _, row in ipairs(inputs) do
    of[row.name], names[row.name] = row, not row.adapter_of or nil
  end
  for _, row in ipairs(inputs) do
    local base = row.adapter_of
    if base and not of[base] then
      local near = nearest(base, names)
      found("inputs.%s: adapter_of names no input '%s'%s", row.name, base,
        near and "; did you mean '" .. near .. "'?" or "")
    elseif base and of[base].adapter_of then
      found("inputs.%s: '%s' is an adapter itself; adapter_of names a model", row.name, base)
    end
  end
end

local function type_of(value)
  local kind = type(value)
  return kind == "table" and "list" or kind
end

-- Params: is `value` one of them? Texts, as a command line gives them, are read. -> value, or nil and why not.
local readers = {
  number = function(v)
    if type(v) == "string" then v = v:find "^[%d.eE+-]+$" and tonumber(v) end
    if type(v) ~= "number" then return nil, "is no number" end
    if v ~= v or math.abs(v) == math.huge then return nil, "is not finite" end
    return v + 0.0
  end,
  integer = function(v)
    if type(v) == "string" then v = v:find "^[%d+-]+$" and tonumber(v) end
    v = math.type(v) and math.tointeger(v)
    if not v then return nil, "is no integer" end
    return v
  end,
  boolean = function(v)
    if v == "true" or v == "false" then return v == "true" end
    if type(v) ~= "boolean" then return nil, "is neither true nor false" end
    return v
  end,
  string = function(v)
    if type(v) ~= "string" then return nil, "is no text" end
    return v
  end,
}

function readers.list(v)
  local out, items = {}, v
  if type(v) == "string" then
    items = {}
    for word in v:gmatch "[^,]+" do items[#items + 1] = word end
  end
  if type(items) ~= "table" then return nil, "is no list of numbers" end
  for i, item in ipairs(items) do
    local n = readers.number(item)
    if not n then return nil, string.format("is no list of numbers: entry %d", i) end
    out[i] = n
  end
  if #out == 0 then return nil, "is an empty list" end
  return out
end

local function range(row)
  if row.min and row.max then return string.format("from %g to %g", row.min, row.max) end
  return row.min and string.format("at least %g", row.min) or string.format("at most %g", row.max)
end

local function fits(row, v)
  for _, x in ipairs(type(v) == "table" and v or { v }) do
    if type(x) == "number" and ((row.min and x < row.min) or (row.max and x > row.max)) then
      return nil, "is not " .. range(row)
    end
  end
  if row.choices then
    for _, choice in ipairs(row.choices) do
      if choice == v then return v end
    end
    local words = {}
    for i, choice in ipairs(row.choices) do words[i] = tostring(choice) end
    return nil, "is none of " .. table.concat(words, ", ")
  end
  return v
end

local function read(row, v)
  local value, why = readers[row.type](v)
  if value == nil then return nil, why end
  return fits(row, value)
end

local function check_choices(found, where, row, choices)
  if type(choices) ~= "table" or #choices == 0 then
    return found("%schoices is no list", where)
  end
  local list = {}
  for i, choice in ipairs(choices) do
    local value, why = readers[row.type](choice)
    if value == nil then found("%schoice %d %s", where, i, why) end
    list[i] = value
  end
  row.choices = list
end

local function param(found, name, spec)
  local where = "params." .. tostring(name) .. ": "
  if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" then
    return found("params: '%s' is no name for a parameter (letters, digits and _)", tostring(name))
  end
  if type(spec) ~= "table" then spec = { spec } end
  unknown(found, where, spec, param_keys)
  local default = spec[1]
  local row = { name = name, type = spec.type or type_of(default) }
  if not param_types[row.type] then
    return found(default == nil and spec.type == nil and "%sneither a default nor a type" or
      "%sits type is '%s'; expected number, integer, boolean, string or list", where, tostring(row.type))
  end
  for _, key in ipairs { "min", "max" } do
    if spec[key] ~= nil and type(spec[key]) ~= "number" then
      found("%s%s is a %s, not a number", where, key, type(spec[key]))
    else
      row[key] = spec[key]
    end
  end
  if row.min and row.max and row.min > row.max then found("%smin is above max", where) end
  if spec.doc ~= nil and type(spec.doc) ~= "string" then found("%sdoc is a %s, not a text", where, type(spec.doc))
  else row.doc = spec.doc end
  if spec.choices ~= nil then check_choices(found, where, row, spec.choices) end
  if default ~= nil then
    local value, why = read(row, default)
    if value == nil then found("%sthe default %s", where, why) end
    row.default = value
  end
  return row
end

local function rows(found, t, one)
  local out = {}
  for _, name in ipairs(sorted(t or {})) do
    local row = one(found, name, t[name])
    if row then out[#out + 1] = row end
  end
  return out
end

local make = {}

-- make.recipe(table, version of tarn) -> recipe, or nil and all mistakes, one a line.
function make.recipe(given, version)
  if type(given) ~= "table" then
    return nil, "recipe: expected { name =, inputs =, build =, … }, got a " .. type(given)
  end
  local list, t = {}, {}
  local function found(format, ...) list[#list + 1] = string.format(format, ...) end
  for key, value in pairs(given) do t[key] = value end
  check_fields(found, t)
  check_version(found, t.tarn, version)
  t.authors = authors(found, t.authors)
  t.inputs = rows(found, t.inputs, input)
  check_adapters(found, t.inputs)
  t.params = rows(found, t.params, param)
  if #list > 0 then
    local name = type(given.name) == "string" and " '" .. given.name:sub(1, 60) .. "'" or ""
    return nil, string.format("recipe%s: %s:\n  %s", name, #list == 1 and "one mistake" or #list .. " mistakes",
      table.concat(list, "\n  "))
  end
  made[t] = true
  return setmetatable(t, Recipe)
end

function make.is(value) return made[value] == true end

-- make.resolve(params, { name = value or text }) -> { name = value }, { mistake, … }
function make.resolve(params, given)
  local out, mistakes, known = {}, {}, {}
  for _, row in ipairs(params) do
    known[row.name] = true
    local v = given[row.name]
    if v ~= nil then
      local value, why = read(row, v)
      if value == nil then
        local shown = type(v) == "table" and "{ … }" or tostring(v)
        mistakes[#mistakes + 1] = string.format("%s = %s %s", row.name, shown, why)
      end
      out[row.name] = value
    elseif row.default == nil then
      mistakes[#mistakes + 1] = string.format("%s has no default: give --set %s=…", row.name, row.name)
    else
      out[row.name] = row.default
    end
  end
  for _, name in ipairs(sorted(given)) do
    if not known[name] then
      local near = nearest(tostring(name), known)
      mistakes[#mistakes + 1] = string.format("the recipe has no parameter '%s'%s", tostring(name),
        near and "; did you mean '" .. near .. "'?" or "")
    end
  end
  return out, mistakes
end

-- "number, 0 to 1", for people
function make.domain(row)
  local parts = { row.type }
  if row.min or row.max then parts[#parts + 1] = range(row) end
  if row.choices then
    local words = {}
    for i, choice in ipairs(row.choices) do words[i] = tostring(choice) end
    parts[#parts + 1] = "one of " .. table.concat(words, ", ")
  end
  return table.concat(parts, ", ")
end

return make
