-- SPDX-License-Identifier: Apache-2.0
-- A recipe whose script runs in a process of its own, walled in (tarn.untrusted), which has only headers. What
-- comes back may have been made by whoever took that process over, so nothing that `recipe { … }` checked in
-- there counts here: each member is looked at again, unknown ones are dropped, and texts lose what a terminal
-- would obey. Plans go to the plan reader, which trusts no file either.
local decode = require "json.decode".decode

local untrusted = {}

local function refuse(path, what, ...)
  error(string.format("%s, run without trust: its answer is not to be believed: %s [AnswerInvalid]", path,
    string.format(what, ...)), 0)
end

-- A text that is safe to show and to keep.
local function plain(s)
  if not utf8.len(s) then s = s:gsub("[\128-\255]", "?") end
  s = s:gsub("\194[\128-\159]", "?")
  return (s:gsub("%c", function(c) return (c == "\n" or c == "\t") and c or string.format("\\x%02x", c:byte()) end))
end

local function line(s) return (plain(s):gsub("[\n\t]", " ")) end

-- The members of t that are named, each of the type that is stated; "text" and "line" are strings, a "?" behind
-- the type lets it be absent.
local function members(path, what, t, types)
  if type(t) ~= "table" then refuse(path, "%s is a %s", what, type(t)) end
  local out = {}
  for key, want in pairs(types) do
    local kind, free = want:match "^(%a+)(%??)$"
    local v = t[key]
    local stored = (kind == "text" or kind == "line") and "string" or kind
    if v == nil and free == "?" then
      out[key] = nil
    elseif kind ~= "any" and type(v) ~= stored then
      refuse(path, "%s.%s is a %s, not a %s", what, key, type(v), stored)
    else
      out[key] = kind == "text" and plain(v) or kind == "line" and line(v) or v
    end
  end
  return out
end

local function list(path, what, t, most, one)
  if type(t) ~= "table" or #t > most then refuse(path, "%s is no list of at most %d", what, most) end
  local out, seen = {}, {}
  for i = 1, #t do
    local row = one(string.format("%s[%d]", what, i), t[i])
    local name = type(row) == "table" and row.name
    if name and seen[name] then refuse(path, "%s: '%s' is there twice", what, name) end
    seen[name or i] = true
    out[i] = row
  end
  return out
end

-- A value of a parameter: a number, a boolean, a text or a list of numbers.
local function value(path, what, v)
  if type(v) == "string" then return line(v) end
  if type(v) == "table" then
    return list(path, what, v, 4096, function(where, x)
      if type(x) ~= "number" and type(x) ~= "string" then refuse(path, "%s is a %s", where, type(x)) end
      return type(x) == "string" and line(x) or x
    end)
  end
  return v
end

local kinds = { number = true, integer = true, boolean = true, string = true, list = true }

local function named(path, what, row)
  if #row.name > 100 or not row.name:find "^[%a_][%w_]*$" then refuse(path, "%s: a name that is none", what) end
  return row
end

local function describe(path, t)
  local about = members(path, "recipe", t, { name = "line", version = "line?", license = "line?", tarn = "line?",
    summary = "text?", authors = "any", inputs = "any", params = "any" })
  about.authors = list(path, "authors", about.authors, 256, function(what, s)
    if type(s) ~= "string" then refuse(path, "%s is a %s", what, type(s)) end
    return line(s)
  end)
  about.inputs = list(path, "inputs", about.inputs, 256, function(what, row)
    row = named(path, what, members(path, what, row, { name = "string", source = "line?", license = "line?",
      doc = "line?", architecture = "line?", adapter_of = "string?", optional = "boolean?" }))
    if row.name == "out" then refuse(path, "%s: an input called out", what) end
    return row
  end)
  local models = {}
  for _, row in ipairs(about.inputs) do models[row.name] = not row.adapter_of end
  for _, row in ipairs(about.inputs) do
    if row.adapter_of and not models[row.adapter_of] then refuse(path, "%s: an adapter of no input", row.name) end
  end
  about.params = list(path, "params", about.params, 1024, function(what, row)
    row = named(path, what, members(path, what, row, { name = "string", type = "string", doc = "line?",
      domain = "line?", min = "number?", max = "number?", default = "any?", choices = "any?" }))
    if not kinds[row.type] then refuse(path, "%s: a parameter of no known type", what) end
    row.default = value(path, what .. ".default", row.default)
    row.choices = row.choices and list(path, what .. ".choices", row.choices, 4096, function(where, v)
      return value(path, where, v)
    end)
    return row
  end)
  about.check, about.score = false, false -- they would need data
  about.unchecked = t.check == true
  return about
end

-- Names become parts of paths.
local function build(path, t)
  local answer = members(path, "answer", t, { outputs = "table" })
  local outputs = list(path, "outputs", answer.outputs, 256, function(what, row)
    row = members(path, what, row, { name = "string", plan = "string" })
    if row.name ~= "" and (#row.name > 100 or not row.name:find "^[%w_][%w_.-]*$") then
      refuse(path, "%s: a name that is no name for an output", what)
    end
    return row
  end)
  if #outputs == 0 then refuse(path, "no output") end
  for _, row in ipairs(outputs) do
    if row.name == "" and #outputs > 1 then refuse(path, "an output without a name among others") end
  end
  return { outputs = outputs }
end

local answers = { describe = describe, build = build }

-- answerer(path, text, seconds, ask) -> answer(question, json, { NAME = PATH }) -> table. ask: as tarn.untrusted.
function untrusted.answerer(path, text, seconds, ask)
  return function(question, json, paths)
    local check = answers[question]
    if not check then
      error(string.format("%s: %s needs the data of models, which a recipe that is run without trust never sees", path,
        question), 0)
    end
    local answer = ask(path, text, question, json, question == "build" and paths or {}, seconds)
    local ok, t = pcall(decode, answer)
    if not ok then refuse(path, "%s", line(tostring(t))) end
    return check(path, t)
  end
end

-- A plan can ask for any number of zeros.
local many, some = 16, 64 << 20

-- Refuses outputs out of all proportion to what they are made of. plans: { {name, model}, … }
function untrusted.check_size(path, plans, paths)
  local read, write = 0, 0
  for _, where in pairs(paths) do read = read + model.open(where):bytes() end
  for _, row in ipairs(plans) do write = write + row.model:bytes() end
  if write < 0 or write > many * read + some then
    error(string.format("%s, run without trust: it would write %.0f MB, made of %.0f MB; more than %d times as much is "
      .. "refused [OutputTooLarge]", path, write / 1e6, read / 1e6, many), 0)
  end
end

return untrusted
