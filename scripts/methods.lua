-- SPDX-License-Identifier: Apache-2.0
-- methods [NAME]: the merge methods, or all there is to say of one
--
-- Without NAME a line for each: how many models it takes, whether besides them a base (yes, may:
-- one may be given), its tier of reproducibility, summary and paper. Tier A: the same bytes on any
-- machine; B: given the BLAS library and the core type. Below them the functions that make models in
-- other ways: averages over folders, layers, adapters, experts, vocabularies. With NAME what help
-- "merge.NAME" shows: parameters with defaults and ranges, variants and who uses which, an example.
--
-- Options:
--   --json            the rows as data, one object a method
local json, nearest = require "json", require "nearest"
local command = require "command"
local args = command.parse()

local rows, by_name = merge.methods(), {}
for _, row in ipairs(rows) do by_name[row.name] = row end

local function models(row)
  if not row.most then return row.least .. "+" end
  return row.most == row.least and tostring(row.least) or row.least .. "-" .. row.most
end

-- What makes a model of others and is no row.
local functions = { "merge.map", "merge.swa", "merge.lawa", "merge.lora_ranks", "model.operators", "by.blocks",
  "model.stack", "model:layers", "model.join", "model:only", "model:rename", "model:slice", "model:cast", "model:save",
  "model.moe", "model:fill", "model.lora", "model.lora_sum", "model:save_adapter", "model:resize_vocab",
  "model.token_union", "model.one_tokenizer" }
local docs = {}
for _, d in ipairs(tarn.docs()) do docs[d.name] = d end

-- An object without the members that are nil.
local function object(list)
  local kept = {}
  for _, key in ipairs(list) do
    if list[key] ~= nil then kept[#kept + 1] = { key, list[key] } end
  end
  return json.object(kept)
end

local function param_json(p)
  local out = { "name", "type", "default", "min", "max", "choices", "per_model", "uniform", "doc" }
  for key, v in pairs(p) do out[key] = v end
  out.choices = p.choices and json.list(p.choices)
  return object(out)
end

local function row_json(row)
  local out = { "name", "summary", "paper", "detail", "version", "tier", "base", "least", "most", "params", "example" }
  for key, v in pairs(row) do out[key] = v end
  local params = {}
  for i, p in ipairs(row.params) do params[i] = param_json(p) end
  out.params = json.list(params)
  return json.encode(object(out))
end

-- The identifier of a citation where it has one.
local function identifier(paper)
  return paper:match "arXiv:[%w./-]*%w" or paper:match "doi:%S*%w" or paper
end

local function print_table()
  local base = { required = "yes", optional = "may", none = "" }
  local name, summary = #"method", #"summary"
  for _, row in ipairs(rows) do
    name, summary = math.max(name, #row.name), math.max(summary, utf8.len(row.summary))
  end
  local function line(a, b, c, d, e, f)
    local gap = (" "):rep(summary - utf8.len(e))
    print((("%-" .. name .. "s  %-6s %-5s %-5s %s%s  %s"):format(a, b, c, d, e, gap, f):gsub(" +$", "")))
  end
  line("method", "models", "base", "tier", "summary", "paper")
  for _, row in ipairs(rows) do
    line(row.name, models(row), base[row.base], row.tier, row.summary, identifier(row.paper))
  end
  print "\nmodels of models by other functions (tarn methods NAME, or ?NAME at the prompt)"
  for _, key in ipairs(functions) do
    print(("%-18s %s"):format(key, (docs[key].text .. "\n"):match "^(.-)[.:;]%s"))
  end
end

local word = args[1] and args[1]:gsub("^merge%.", "")
for _, name in ipairs(functions) do
  if word and not by_name[word] and (args[1] == name or word == name:match "[.:](.*)") then
    help(name)
    return
  end
end
if word and not by_name[word] then
  local near = nearest(word, by_name)
  error(("no method '%s'%s"):format(word, near and ("; did you mean '%s'?"):format(near)
    or " (tarn methods lists them)"), 0)
end
if args.json then
  for _, row in ipairs(rows) do
    if not word or row.name == word then print(row_json(row)) end
  end
elseif word then
  help("merge." .. word)
else
  print_table()
end
