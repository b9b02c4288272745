-- SPDX-License-Identifier: Apache-2.0
-- The answers of a recipe to the questions of stdlib/bind/recipe.h, inside the host that its script runs
-- in. Everything that comes and goes is JSON; models come in through open(name).
local json, decode, make = require "json", require "json.decode".decode, require "recipe.make"
local nearest, show = require "nearest", require "show"

local function list_or(v) return type(v) == "table" and json.list(v) or v end

local function describe(recipe)
  local inputs, params = {}, {}
  for i, row in ipairs(recipe.inputs) do
    inputs[i] = json.pick(row, { "name", "source", "license", "doc", "architecture", "adapter_of", "optional" })
  end
  for i, row in ipairs(recipe.params) do
    params[i] = json.pick({ name = row.name, type = row.type, default = list_or(row.default), min = row.min,
      max = row.max, choices = list_or(row.choices), doc = row.doc, domain = make.domain(row) },
      { "name", "type", "default", "min", "max", "choices", "doc", "domain" })
  end
  return json.pick({ name = recipe.name, version = recipe.version, license = recipe.license, tarn = recipe.tarn,
    summary = recipe.summary, authors = json.list(recipe.authors), inputs = json.list(inputs),
    params = json.list(params), check = recipe.check ~= nil, score = recipe.score ~= nil },
    { "name", "version", "license", "tarn", "summary", "authors", "inputs", "params", "check", "score" })
end

local function fail(recipe, mistakes)
  error(string.format("recipe '%s': %s", recipe.name, table.concat(mistakes, "\n  ")), 0)
end

-- What a recipe is given, by the names of rows: one that it does not declare is a mistake, and no nil.
local function strict(t, rows, what)
  local names = {}
  for _, row in ipairs(rows) do names[row.name] = true end
  return setmetatable(t, { __metatable = false, __index = function(_, key)
    if names[key] then return nil end
    local near = type(key) == "string" and nearest(key, names)
    error(("the recipe has no %s '%s'%s"):format(what, show(tostring(key)),
      near and "; did you mean '" .. near .. "'?" or ""), 2)
  end })
end

-- What an input says of itself against what the recipe expects.
local function expectations(row, m, mistakes)
  if row.architecture then
    local ok, config = pcall(decode, m:config() or "null")
    local type_ = ok and type(config) == "table" and config.model_type
    if type_ ~= row.architecture then
      mistakes[#mistakes + 1] = string.format("%s is %s, the recipe is for %s", row.name,
        type_ and "of the architecture " .. tostring(type_) or "without a config.json that names an architecture",
        row.architecture)
    end
  end
  local names = {}
  for name in pairs(row.shape or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local ok, info = pcall(m.info, m, name)
    local have, want = ok and table.concat(info.shape, ", "), table.concat(row.shape[name], ", ")
    if have ~= want then
      mistakes[#mistakes + 1] = string.format("%s: %s is %s, the recipe expects {%s}", row.name, name,
        have and "{" .. have .. "}" or "not there", want)
    end
  end
end

return function(recipe, open, planning, plan_of, adapter)
  if not make.is(recipe) then
    error("the file does not return a recipe: it ends with return recipe { … }", 0)
  end

  -- Models first: what an adapter changes depends on the names and shapes of its base.
  local function open_all(request)
    local m, configs = {}, request.adapters or {}
    for _, row in ipairs(recipe.inputs) do m[row.name] = not row.adapter_of and open(row.name) or nil end
    for _, row in ipairs(recipe.inputs) do
      local factors = row.adapter_of and open(row.name)
      m[row.name] = factors and adapter(factors, m[row.adapter_of], configs[row.name]) or m[row.name]
    end
    return m
  end

  local function inputs(request)
    local m, mistakes = open_all(request), {}
    for _, row in ipairs(recipe.inputs) do
      if m[row.name] then
        expectations(row, m[row.name], mistakes)
      elseif not row.optional then
        mistakes[#mistakes + 1] = string.format("the input %s is not there", row.name)
      end
    end
    if #mistakes > 0 then fail(recipe, mistakes) end
    return strict(m, recipe.inputs, "input")
  end

  local function params(request)
    local p, mistakes = make.resolve(recipe.params, request.params or {})
    if #mistakes > 0 then fail(recipe, mistakes) end
    return strict(p, recipe.params, "parameter")
  end

  -- { {name, model}, … } as build made them.
  local function build(m, p)
    planning(true)
    local made = recipe.build(m, p)
    local list = {}
    if plan_of(made) then
      list[1] = { "", made }
    elseif type(made) == "table" then
      for name in pairs(made) do
        if type(name) ~= "string" or not name:find "^[%w_][%w_.-]*$" then
          fail(recipe, { string.format("build: '%s' is no name for an output", show(tostring(name))) })
        end
        list[#list + 1] = { name, made[name] }
      end
      table.sort(list, function(a, b) return a[1] < b[1] end)
    end
    if #list == 0 then fail(recipe, { "build returns a " .. type(made) .. ", not a model or a table of models" }) end
    return list
  end

  local answers = {}

  function answers.describe() return describe(recipe) end

  function answers.build(request)
    local p, outputs = params(request), {}
    for i, row in ipairs(build(inputs(request), p)) do
      local text, replayable = plan_of(row[2])
      if not text then fail(recipe, { string.format("build: %s is no model", row[1]) }) end
      if not replayable then
        fail(recipe, { "build makes values that no plan can hold (tensors in memory): that takes a script" })
      end
      outputs[i] = json.object { { "name", row[1] }, { "plan", text } }
    end
    planning(false)
    local resolved = {}
    for i, row in ipairs(recipe.params) do resolved[i] = { row.name, list_or(p[row.name]) } end
    return json.object { { "params", json.object(resolved) }, { "outputs", json.list(outputs) } }
  end

  -- Numbers of an answer: one, or several with names.
  local function numbers(score)
    if type(score) == "number" then return score end
    local out = {}
    for name, value in pairs(type(score) == "table" and score or {}) do
      if type(name) ~= "string" or type(value) ~= "number" then
        fail(recipe, { "score: expected a number or { name = number, … }" })
      end
      out[#out + 1] = { name, value }
    end
    if #out == 0 then
      fail(recipe, { "score returns a " .. type(score) .. ", not a number or { name = number, … }" })
    end
    table.sort(out, function(a, b) return a[1] < b[1] end)
    return json.object(out)
  end

  -- What was saved, as build returned it.
  local function saved(request)
    if request.outputs[1] == "" then return open "out" end
    local out = {}
    for _, name in ipairs(request.outputs) do out[name] = open("out:" .. name) end
    return out
  end

  function answers.check(request)
    local fine, why = recipe.check(saved(request), inputs(request), params(request))
    if fine == false then fail(recipe, { "check: " .. tostring(why or "the output is not as it should be") }) end
    return json.object {}
  end

  function answers.score(request)
    return json.object { { "score", numbers(recipe.score(saved(request), inputs(request), params(request))) } }
  end

  function answers.try(request)
    local m, p = inputs(request), params(request)
    local out = {}
    local list = build(m, p)
    planning(false)
    for _, row in ipairs(list) do out[row[1]] = row[2] end
    return json.object { { "score", numbers(recipe.score(out[""] or out, m, p)) } }
  end

  return function(question, text)
    local answer = answers[question] or error("a recipe is not asked " .. question, 0)
    return json.encode(answer(decode(text)))
  end
end
