-- SPDX-License-Identifier: Apache-2.0
-- The steps of a merge that mergekit/build.lua takes, each done and noted: d.said[value] is the
-- expression that makes the value, d.steps the lines of a script in order. What a script would say and
-- what is done cannot differ, since one call does both.

local say = {}

-- Layers first … last - 1 of a model; embed, head: with what stands before the layers, after them. As
-- a text, since scripts need it too.
say.slice_source = [[
-- Layers first … last - 1 of m, with what stands before the layers (embed) or after them (head).
local function slice(m, first, last, embed, head)
  return m:only(function(_, info)
    if info.place == "layer" then return info.layer >= first and info.layer < last end
    if info.place == "final" or info.place == "head" then return head end
    return embed
  end)
end
]]
local slice = load(say.slice_source .. "return slice", "=slice", "t")()

-- ---- texts of values ----

local function quoted(s)
  if s:find "[\\\"]" and not s:find "%]%]" and not s:find "\n" and s:sub(-1) ~= "]" then return "[[" .. s .. "]]" end
  return '"' .. s:gsub('[\\"]', "\\%0"):gsub("\n", "\\n") .. '"'
end

local function number(v)
  if v == 0 and 1 / v < 0 then return "-0.0" end
  if v == math.floor(v) and math.abs(v) < 1e15 then return string.format("%d", math.tointeger(v) or v) end
  local short = string.format("%.15g", v)
  return tonumber(short) == v and short or string.format("%.17g", v)
end

-- "by.name { a, b }" on one line while it is short, else an entry a line, or (dense) what fits.
local function listed(head, entries, dense)
  local line = head .. "{ " .. table.concat(entries, ", ") .. " }"
  if #entries < 2 or #line < 70 then return line end
  local lines = { "" }
  for _, entry in ipairs(entries) do
    local last = lines[#lines]
    if last ~= "" and (not dense or #last + #entry > 90) then
      lines[#lines + 1] = entry .. ","
    else
      lines[#lines] = last .. (last == "" and "" or " ") .. entry .. ","
    end
  end
  return head .. "{\n  " .. table.concat(lines, "\n"):gsub("\n", "\n  ") .. "\n}"
end

-- An option of merge.*: a number, a flag, a text, a schedule, a model, or a list of them.
local function text_of(d, v)
  if d.said[v] then return d.said[v] end
  if type(v) == "number" then return number(v) end
  if type(v) == "string" then return quoted(v) end
  if type(v) ~= "table" then return tostring(v) end
  local parts = {}
  for i, x in ipairs(v) do parts[i] = text_of(d, x) end
  return listed("", parts)
end

local function said(d, v, text)
  d.said[v] = text
  return v
end

-- ---- names ----

local reserved = { base = true }
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while model merge by tensor slice arg merged]]):gmatch "%a+" do
  reserved[word] = word ~= "base" or nil
end

-- A name for a local variable: like the label, and no other's.
local function variable(d, label)
  local word = label:match("[^/]+$"):gsub("%.safetensors$", ""):gsub("[^%w]+", "_"):lower()
  word = word:gsub("^_+", ""):gsub("_+$", "")
  if word == "" or word:find "^%d" or reserved[word] and word ~= "base" then word = "model_" .. word end
  local name, n = word, 1
  while d.names[name] do
    n = n + 1
    name = word .. "_" .. n
  end
  d.names[name] = true
  return name
end

local function step(d, v, name)
  d.steps[#d.steps + 1] = { name = name, text = d.said[v] }
  d.said[v] = name
  return v
end

-- ---- steps ----

function say.open(d, m, opened, label)
  m.variable = variable(d, label)
  local plain = m.path:match "[^/]+$" == label and not label:find "%.safetensors$"
  local options = plain and "" or (", { label = %s }"):format(quoted(label))
  said(d, opened, ("model.open(%s%s)"):format(quoted(m.path), options))
  return step(d, opened, m.variable)
end

function say.lora(d, m, sum, opened)
  said(d, sum, ("%s + model.lora(%s, %s)"):format(d.said[opened], quoted(m.lora), d.said[opened]))
  return step(d, sum, variable(d, m.variable .. "_" .. m.lora))
end

-- The dtype of all that is computed with a model: part of its opening.
function say.cast(d, m, dtype)
  local last = d.steps[#d.steps]
  last.text = (last.text:find(" + ", 1, true) and "(%s):cast(%s)" or "%s:cast(%s)"):format(last.text, quoted(dtype))
  return said(d, m:cast(dtype), last.name)
end

-- m:method(argument)
function say.call(d, m, method, argument)
  return said(d, m[method](m, argument), ("%s:%s(%s)"):format(d.said[m], method, text_of(d, argument)))
end

function say.slice(d, m, first, last, embed, head)
  d.steps.slicing = true
  return said(d, slice(m, first, last, embed, head), ("slice(%s, %d, %d, %s, %s)"):format(d.said[m], first, last,
    tostring(embed), tostring(head)))
end

-- stack: the name of the stack to number, where the model has several.
function say.renumber(d, m, first, stack)
  if not stack then return say.call(d, m, "renumber", first) end
  return said(d, m:renumber(first, { stack = stack }), ("%s:renumber(%d, { stack = %s })"):format(d.said[m], first,
    quoted(stack)))
end

-- The part of a model that is a module.
function say.only(d, m, whole, module, pattern)
  local part = said(d, whole:only(pattern), ("%s:only(%s)"):format(d.said[whole], quoted(pattern)))
  return step(d, part, variable(d, (m.variable or "model") .. "_" .. module))
end

-- ---- tokenizers ----

local function tokens_of(tokens)
  local names, entries = {}, {}
  for token in pairs(tokens) do names[#names + 1] = token end
  table.sort(names)
  for i, token in ipairs(names) do
    local from, fields = tokens[token].from, {}
    if type(from) == "table" then
      from = ("{ %d, %s }"):format(from[1], type(from[2]) == "string" and quoted(from[2]) or number(from[2]))
    elseif from then
      from = type(from) == "string" and quoted(from) or number(from)
    end
    fields[1] = from and "from = " .. from
    fields[#fields + 1] = tokens[token].force and "force = true" or nil
    entries[i] = ("[%s] = %s"):format(quoted(token):gsub("^%[%[", " [["), #fields == 0 and "{}"
      or "{ " .. table.concat(fields, ", ") .. " }")
  end
  return listed("", entries)
end

-- Side files of the result in the place of those that its models carry; an earlier step made them, or none did.
function say.side_files(d, files)
  d.files, d.files_name = files, files and d.said[files]
end

-- list, files: what model.one_tokenizer made of call; files nil: they are there already.
function say.one_tokenizer(d, call, list, files)
  local models, lines, has_files = {}, {}, files and next(files) ~= nil
  for k, m in ipairs(call) do models[k] = d.said[m] end
  lines[1] = "  " .. table.concat(models, ", ") .. ","
  if call.base then lines[#lines + 1] = "  base = " .. call.base .. "," end
  lines[#lines + 1] = "  source = " .. (type(call.source) == "string" and quoted(call.source) or call.source) .. ","
  if call.tokens then lines[#lines + 1] = "  tokens = " .. tokens_of(call.tokens):gsub("\n", "\n  ") .. "," end
  if call.multiple_of then lines[#lines + 1] = "  multiple_of = " .. call.multiple_of .. "," end
  if call.among then lines[#lines + 1] = "  among = " .. text_of(d, call.among) .. "," end
  local numbers, entries = {}, {}
  for k in pairs(call.files or {}) do numbers[#numbers + 1] = k end
  table.sort(numbers)
  for i, k in ipairs(numbers) do entries[i] = ("[%d] = %s"):format(k, d.said[call.files[k]]) end
  if #entries > 0 then lines[#lines + 1] = "  files = " .. listed("", entries) .. "," end
  local name = variable(d, "same")
  if has_files then say.side_files(d, said(d, files, variable(d, "files"))) end
  d.moved = true
  d.steps[#d.steps + 1] = { name = name .. (has_files and ", " .. d.files_name or ""),
    text = "model.one_tokenizer {\n" .. table.concat(lines, "\n") .. "\n}" }
  for k, m in pairs(list) do
    if m and m ~= call[k] then said(d, m, ("%s[%d]"):format(name, k)) end
  end
end

-- The files that set the chat template `text`.
function say.template(d, donor, text)
  local old = d.files_name
  local call = ("model.chat_template(%s, %s%s)"):format(d.said[donor], ("%q"):format(text):gsub("\\\n", "\\n"),
    old and ", " .. old or "")
  say.side_files(d, said(d, model.chat_template(donor, text, d.files), variable(d, "files")))
  d.steps[#d.steps + 1] = { name = d.files_name, text = call }
end

-- ---- schedules ----

-- A plain text as a regular expression.
local function pattern_of(filter)
  return (filter:gsub("[%^%$%.%[%]|()?*+{}\\]", "\\%0"))
end

-- The layers that tensors of the first source lie in, by stack: {regex =, {layer, t}, …}.
local function stacks_of(lead, where)
  local of, list = {}, {}
  local m = lead.part
  for _, s in ipairs(m.stacks) do
    of[s.name] = { regex = s.regex, seen = {} }
    list[#list + 1] = of[s.name]
  end
  for _, place in pairs(where) do
    local info = m.model:info(place.from)
    local s = info.place == "layer" and of[info.stack]
    if s and not s.seen[place.layer] then
      s.seen[place.layer] = true
      s[#s + 1] = { place.layer, place.t }
    end
  end
  for _, s in ipairs(list) do table.sort(s, function(x, y) return x[1] < y[1] end) end
  return list
end

-- A gradient runs over the layers of each stack; what is in none of them takes its first value.
local function gradient(d, g, lead, where)
  local stacks = stacks_of(lead, where)
  if #stacks == 1 and #stacks[1] > 1 and not lead.part.several then  -- depths are those of the whole model
    local t, text = { embed = g[1], final = g[1], head = g[1], other = g[1] }, {}
    for i, v in ipairs(g) do t[i], text[i] = v, number(v) end
    local ends = number(g[1])
    return said(d, by.depth(t), ("by.depth { %s, embed = %s, final = %s, head = %s, other = %s }"):format(
      table.concat(text, ", "), ends, ends, ends, ends))
  end
  local rules, texts = {}, {}
  for _, s in ipairs(stacks) do
    local t, text = { other = g[1] }, {}
    for i, at in ipairs(s) do
      local v = require("mergekit.config").value({ gradient = g }, "", at[2])
      t[i], text[i] = { at[1], at[1], v }, ("{%d, %d, %s}"):format(at[1], at[1], number(v))
    end
    if #s > 0 then
      text[#text + 1] = "other = " .. number(g[1])
      rules[#rules + 1] = { s.regex, by.layer(t) }
      texts[#texts + 1] = ("{%s, %s}"):format(quoted(s.regex), listed("by.layer ", text, true))
    end
  end
  rules[#rules + 1], texts[#texts + 1] = { ".", g[1] }, ('{".", %s}'):format(number(g[1]))
  return said(d, by.name(rules), listed("by.name ", texts))
end

-- rules: {filter or nil, number or {gradient =}} in order, the last of them without a filter if they
-- cover everything.
function say.schedule(d, rules, lead, where)
  local list, texts = {}, {}
  for i, rule in ipairs(rules) do
    local v = rule[2]
    if type(v) == "table" then v = gradient(d, v.gradient, lead, where) end
    if not rule[1] and i == 1 then return v end
    local pattern = rule[1] and pattern_of(rule[1]) or "."
    list[i], texts[i] = { pattern, v }, ("{%s, %s}"):format(quoted(pattern), text_of(d, v))
  end
  return said(d, by.name(list), listed("by.name ", texts))
end

-- A value for each name.
function say.each(d, values)
  local names, list, texts = {}, {}, {}
  for name in pairs(values) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local pattern = "^" .. pattern_of(name) .. "$"
    list[i], texts[i] = { pattern, values[name] }, ("{%s, %s}"):format(quoted(pattern), number(values[name]))
  end
  return said(d, by.name(list), listed("by.name ", texts))
end

-- ---- merging ----

function say.scaled(d, scale, m)
  return step(d, said(d, scale * m, ("%s * %s"):format(text_of(d, scale), d.said[m])), variable(d, "scaled"))
end

-- merge.METHOD(call). Lines: the models, then one option each.
function say.merge(d, method, call, module)
  local models, keys, lines = {}, {}, {}
  for i, m in ipairs(call) do models[i] = d.said[m] end
  for key in pairs(call) do
    if type(key) == "string" and key ~= "base" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  if call.base then table.insert(models, 1, "base = " .. d.said[call.base]) end
  local line = "  " .. table.concat(models, ", ") .. ","
  lines[1] = #line <= 100 and line or "  " .. table.concat(models, ",\n  ") .. ","
  for i, key in ipairs(keys) do
    local note = (d.row.options or {})[key] ~= nil and "  -- mergekit's variant" or ""
    lines[i + 1] = ("  %s = %s,%s"):format(key, text_of(d, call[key]):gsub("\n", "\n  "), note)
  end
  local merged = merge[method](call)
  said(d, merged, ("merge.%s {\n%s\n}"):format(method, table.concat(lines, "\n")))
  local name = module or #d.slices > 1 and "part" or d.document
  return step(d, merged, name and variable(d, name) or "merged")
end

function say.join(d, parts)
  local texts = {}
  for i, m in ipairs(parts) do texts[i] = d.said[m] end
  local joined = said(d, model.join(parts), listed("model.join ", texts))
  return step(d, joined, d.document and variable(d, d.document) or "merged")
end

-- The result of a document that later ones use: a variable.
function say.document(d, m)
  return d.said[m]:find "^[%a_][%w_]*$" and m or step(d, m, variable(d, d.document))
end

return say
