-- SPDX-License-Identifier: Apache-2.0
-- Arguments of a command, read by the comment block at the head of its file: the text that
-- `tarn help` prints is the declaration, so the two cannot differ.
--
--     -- compare A B [FILE…]: one line of summary
--     --
--     -- Options:
--     --   --rtol X          relative tolerance (default 0)      X: a number
--     --   --limit N         at most so many lines               N: an integer
--     --   -o, --out PATH    where to write                      any other word: text
--     --   --input NAME=DIR…  may be given several times         …: a list
--     --   --stats           a flag
--     --   --NAME PATH       any other option, by its name: args.NAME = { name = text }
--
--     local args = require("command").parse()
--     args[1], args[2]                  what stood in the places of A and B
--     args.rtol, args.out, args.stats   options; nil when absent ("-" in a name becomes "_")
--     args.json, args.quiet             options of the program (tarn.options)
--
-- What is wrong with the arguments ends the program with one line and exit code 2.

local nearest = require "nearest"

local command = {}

-- command.misused(format, …): says what is wrong with the arguments; exit code 2.
function command.misused(format, ...)
  io.stderr:write("tarn: ", tarn.command or "script", ": ", string.format(format, ...), "\n")
  os.exit(2)
end

-- "MODEL [OUT] FILE…" -> least and greatest number of places, and their names.
local function read_places(usage)
  local names, least, most = {}, 0, 0
  usage = usage:gsub("%[%-[^%]]*%]", "")
  for bracket, name, dots in usage:gmatch "(%[?)([A-Z][A-Z0-9_.=-]*)([^%s%]]*)" do
    names[#names + 1] = name
    least = least + (bracket == "" and 1 or 0)
    most = dots == "…" and math.huge or most + 1
  end
  return { names = names, least = least, most = most }
end

-- "-o, --out PATH" -> a row under each of its names, and in the list.
local function read_option(spec, text, rows, list)
  local row = { names = {}, text = text }
  list[#list + 1] = row
  for word in spec:gmatch "%S+" do -- a value may hold commas: MEAN,STD
    if word:sub(1, 1) == "-" then
      word = word:gsub(",$", "")
      rows[word] = row
      table.insert(row.names, word)
      row.name = word
    else
      row.value = word:gsub("…$", "")
      row.list = word:find("…", 1, true) ~= nil
    end
  end
  row.field = row.name:gsub("^%-+", ""):gsub("%-", "_")
end

-- What a command's head declares: usage line, places, options by name, list of options in their order
-- (names, value, text).
function command.declaration(text)
  local first, rest = text:match "^([^\n]*)\n?(.*)$"
  local d = { usage = first:match "^(.-):" or first, options = {}, list = {} }
  d.places = read_places(d.usage)
  for line in rest:gmatch "[^\n]+" do
    local spec = line:match "^%-%-%s+(%-.*)$"
    local names, said = (spec or ""):match "^(.-)%s%s+(.*)$"
    if spec then read_option(names or spec, said or "", d.options, d.list) end
    local more = not spec and #d.list > 0 and line:match "^%-%-%s%s%s%s%s%s+(.*)$"
    if more then d.list[#d.list].text = d.list[#d.list].text .. " " .. more end
  end
  return d
end

local function unknown(name, options)
  local known = {}
  for word in pairs(options) do known[word] = true end
  for word in pairs(tarn.options) do known["--" .. word] = true end
  local near = nearest(name, known)
  command.misused("unknown option '%s'%s", name, near and "; did you mean '" .. near .. "'?" or
    " (tarn help " .. tostring(tarn.command) .. " lists them)")
end

local function convert(row, text)
  local value = text
  if row.value == "N" then value = math.tointeger(tonumber(text)) end
  if row.value == "X" then value = tonumber(text) end
  if value == nil then
    command.misused("option %s: '%s' is not %s", row.name, text,
      row.value == "N" and "an integer" or "a number")
  end
  return value
end

local function store(result, row, value, name)
  if row.name == "--NAME" then
    local named = result.NAME or {}
    named[name:sub(3)] = value
    result.NAME = named
  elseif row.list then
    local list = result[row.field] or {}
    list[#list + 1] = value
    result[row.field] = list
  else
    result[row.field] = value
  end
end

-- One option at words[i]; returns the index of the next word.
local function take_option(words, i, options, result)
  local name, text = words[i]:match "^(%-%-[^=]*)=(.*)$"
  name = name or words[i]
  local row = options[name] or (name:find "^%-%-[%a_][%w_]*$" and options["--NAME"])
  if not row then unknown(name, options) end
  if not row.value then
    if text then command.misused("option %s takes no value", name) end
    result[row.field] = true
    return i + 1
  end
  if not text then
    i = i + 1
    text = words[i]
  end
  if not text then command.misused("option %s needs a value: %s %s", name, name, row.value) end
  store(result, row, convert(row, text), name)
  return i + 1
end

-- command.parse([words [, text]]): the arguments of the running command, or of `words` by the
-- declaration `text`.
function command.parse(words, text)
  words = words or arg
  local d = command.declaration(text or tarn.usage or "")
  local result = {}
  for name, value in pairs(tarn.options) do
    if value ~= false then result[name] = value end
  end
  local i, plain = 1, false
  while i <= #words do
    if plain or words[i]:sub(1, 1) ~= "-" or words[i] == "-" then
      result[#result + 1] = words[i]
      i = i + 1
    elseif words[i] == "--" then
      plain, i = true, i + 1
    else
      i = take_option(words, i, d.options, result)
    end
  end
  local places = d.places
  if #result < places.least then
    command.misused("%s is missing (usage: tarn %s)", places.names[#result + 1], d.usage)
  elseif #result > places.most then
    command.misused("one argument too many: '%s' (usage: tarn %s)", result[places.most + 1],
      d.usage)
  end
  return result
end

-- { "NAME=VALUE", … } of an option that may be given several times -> { NAME = VALUE }.
function command.named(list, option)
  local out = {}
  for _, word in ipairs(list or {}) do
    local name, value = word:match "^([^=]+)=(.+)$"
    if not name then command.misused("%s %s: expected NAME=VALUE", option, word) end
    out[name] = value
  end
  return out
end

-- command.inputs(args): where models lie, from --input NAME=PATH and --NAME PATH.
function command.inputs(args)
  local out = command.named(args.input, "--input")
  for name, path in pairs(args.NAME or {}) do out[name] = path end
  return out
end

return command
