-- SPDX-License-Identifier: Apache-2.0
-- Schedules: values that depend on which tensor they meet. A schedule can stand wherever a method
-- takes a number per tensor, and can multiply a model. It is resolved when it meets a model, from
-- names alone, so a plan holds the numbers themselves.

local Schedule = {}
Schedule.__index = Schedule
Schedule.__name = "schedule"
Schedule.__metatable = false

local made = setmetatable({}, { __mode = "k" }) -- what is a schedule; a look-alike is none
local check -- check(function, options, {name, …}, positional)

local function make(origin, value_of)
  local schedule = setmetatable({ origin = origin, value_of = value_of }, Schedule)
  made[schedule] = true
  return schedule
end

local function is_schedule(x)
  return made[x] == true
end

-- A number inside a recorded function: a tensor whose value is not known yet.
local function is_recorded(x)
  return type(x) == "userdata" and x.planned == true
end

local function is_value(x)
  return type(x) == "number" or is_recorded(x)
end

local function check_value(x, what)
  if not is_value(x) and not is_schedule(x) then
    error(string.format("%s: expected a number or another by.…, got %s", what, type(x)), 3)
  end
  return x
end

local places = { "embed", "head", "final", "other" }

local function check_places(t, what)
  check(what, t, places, true)
  for _, place in ipairs(places) do
    if t[place] ~= nil and not is_value(t[place]) then
      error(string.format("%s: %s is a %s, not a number", what, place, type(t[place])), 3)
    end
  end
end

-- by.depth

-- The value at depth d of n layers: knots spread evenly from the first layer to the last.
local function interpolate(knots, d, n)
  if #knots == 1 or n == 1 then
    return knots[1]
  end
  local x = d * (#knots - 1) / (n - 1)
  local k = math.min(math.floor(x), #knots - 2)
  local t = x - k
  if t == 0 or t == 1 then
    return knots[k + 1 + t // 1]
  end
  return (1 - t) * knots[k + 1] + t * knots[k + 2]
end

local function depth(t)
  local layered = type(t) == "userdata" -- a tensor: one value a layer
  if not layered and type(t) ~= "table" then
    error("by.depth: expected { v1, v2, … } or a tensor, got " .. type(t), 2)
  end
  local knots = t
  if layered and is_recorded(t) then
    knots = {}
    for k = 1, t.rank == 1 and t.shape[1] or 0 do knots[k] = t[k] end
  elseif layered then
    knots = t:totable()
  end
  if layered and (type(knots) ~= "table" or type(knots[1]) == "table" or t.rank ~= 1) then
    error("by.depth: a tensor of one value a layer has one dimension", 2)
  end
  if not layered then
    check_places(t, "by.depth")
  end
  for k, v in ipairs(knots) do
    if not is_value(v) then
      error(string.format("by.depth: knot %d is a %s, not a number", k, type(v)), 2)
    end
  end
  if #knots == 0 then
    error("by.depth: at least one knot is needed", 2)
  end
  local embed = not layered and t.embed or knots[1]
  local head = not layered and t.head or knots[#knots]
  local final = not layered and (t.final or t.head) or knots[#knots]
  local other = not layered and t.other or nil
  local ends = { embed = embed, head = head, final = final }
  return make("by.depth", function(info, structure)
    if info.depth then
      if layered and #knots ~= structure.depths then
        error(string.format("by.depth: %d values, but the model has %d layers", #knots, structure.depths), 0)
      end
      return interpolate(knots, info.depth, structure.depths)
    end
    return ends[info.place] or other
      or error(string.format("by.depth: %s is in no layer (%s); give other = a value", info.name, info.place), 0)
  end)
end

-- by.layer

local function layer(rules)
  if type(rules) ~= "table" then
    error("by.layer: expected { {first, last, value}, … }, got " .. type(rules), 2)
  end
  check_places(rules, "by.layer")
  for k, rule in ipairs(rules) do
    if type(rule) ~= "table" or math.type(rule[1]) ~= "integer" or math.type(rule[2]) ~= "integer"
      or not is_value(rule[3]) then
      error(string.format("by.layer: rule %d is not {first, last, value}", k), 2)
    end
  end
  return make("by.layer", function(info)
    if info.layer then
      for _, rule in ipairs(rules) do
        if info.layer >= rule[1] and info.layer <= rule[2] then
          return rule[3]
        end
      end
    end
    return rules[info.place] or rules.other
      or error(string.format("by.layer: no rule holds for %s; give other = a value", info.name), 0)
  end)
end

-- by.name

local function name(rules)
  if type(rules) ~= "table" or #rules == 0 then
    error("by.name: expected { {pattern, value}, … }", 2)
  end
  check("by.name", rules, {}, true)
  for k, rule in ipairs(rules) do
    if type(rule) ~= "table" or type(rule[1]) ~= "string" then
      error(string.format("by.name: rule %d is not {pattern, value}", k), 2)
    end
    check_value(rule[2], string.format("by.name: rule %d", k))
  end
  local schedule = make("by.name", true)
  schedule.prepare = function(m)
    local found = {}
    for _, rule in ipairs(rules) do
      for _, hit in ipairs(m:names(rule[1])) do
        if found[hit] == nil then
          found[hit] = rule[2]
        end
      end
    end
    return function(info)
      return found[info.name]
        or error(string.format("by.name: no rule matches %s; end with a rule {\".\", value}", info.name), 0)
    end
  end
  return schedule
end

-- by.blocks

local block_weights -- loaded on first use

-- "GRAD_V", "0, 0.5, …" or a list, as block -> value.
local function read_blocks(t)
  local data = block_weights
  if type(t) == "string" and not t:find "," then
    local f = data.presets[t]
    if not f then
      local near = require "nearest"(t, data.presets)
      error(string.format("by.blocks: no preset is called '%s'%s", t,
        near and string.format("; did you mean '%s'?", near) or ""), 3)
    end
    local values = { BASE = data.base[t] or 0 }
    for k = 2, #data.blocks do
      values[data.blocks[k]] = f((k - 2) / (#data.blocks - 2))
    end
    return values
  end
  local list = t
  if type(t) == "string" then
    list = {}
    for word in t:gmatch "[^,]+" do
      list[#list + 1] = tonumber(word) or error(string.format("by.blocks: '%s' is no number", word), 3)
    end
  end
  local names = #list == #data.short and data.short or data.blocks
  if #list ~= #names and #list > 0 then
    error(string.format("by.blocks: %d values; a list has %d (SD1) or %d (SDXL), BASE first", #list,
      #data.blocks, #data.short), 3)
  end
  local values = {}
  for k, v in ipairs(list) do
    if not is_value(v) then
      error(string.format("by.blocks: value %d is a %s, not a number", k, type(v)), 3)
    end
    values[names[k]] = v
  end
  return values
end

-- Where a tensor belongs: its block, or what its name says.
local function block_of(info)
  if info.block then
    return info.block
  end
  for _, rule in ipairs(block_weights.outside) do
    if info.name:find(rule[1]) then
      return rule[2]
    end
  end
  return "BASE"
end

local function blocks(t)
  block_weights = block_weights or require "block_weights"
  local data = block_weights
  if type(t) ~= "string" and type(t) ~= "table" then
    error("by.blocks: expected a preset's name, a list of weights or { IN00 =, … }, got " .. type(t), 2)
  end
  local names = { "VAE", "TIME", "HEAD", table.unpack(data.blocks) }
  local first = type(t) == "table" and type(t[1]) == "string"
  local values = read_blocks((type(t) == "string" and t) or (first and t[1]) or t)
  if type(t) == "table" then
    check("by.blocks", t, names, true)
    for _, block in ipairs(names) do
      if t[block] ~= nil and not is_value(t[block]) then
        error(string.format("by.blocks: %s is a %s, not a number", block, type(t[block])), 2)
      end
      values[block] = t[block] or values[block]
    end
  end
  local schedule = make("by.blocks", true)
  schedule.prepare = function(m)
    local last
    for _, stack in ipairs(m:structure().stacks) do
      last = stack.name == "unet" and string.format("OUT%02d", (stack.count - 1) // 2 - 1) or last
    end
    if not last then
      error("by.blocks: the model has no UNet, whose blocks these are", 0)
    end
    local instead = { VAE = "BASE", TIME = "IN00", HEAD = last }
    return function(info)
      local block = block_of(info)
      return values[block] or values[instead[block]]
        or error(string.format("by.blocks: %s is in %s, which has no value", info.name, block), 0)
    end
  end
  return schedule
end

-- by.tensor

local function tensor_(f)
  if type(f) ~= "function" then
    error("by.tensor: expected a function(name, info)", 2)
  end
  return make("by.tensor", function(info)
    return f(info.name, info)
  end)
end

-- Resolving: the number for every tensor of m, in order.

local function resolver(schedule, m, structure)
  local value_of = schedule.prepare and schedule.prepare(m) or schedule.value_of
  local inner = {}
  return function(info)
    local v = value_of(info, structure)
    if is_schedule(v) then
      inner[v] = inner[v] or resolver(v, m, structure)
      return inner[v](info)
    end
    return v
  end
end

local function values_for(schedule, m)
  local value_of = resolver(schedule, m, m:structure())
  local out = {}
  for i, n in ipairs(m:names()) do
    local v = value_of(m:info(n))
    if not is_value(v) then
      error(string.format("%s: the value for %s is a %s, not a number", schedule.origin, n, type(v)), 0)
    end
    out[i] = v
  end
  return out
end

-- nil and a message, to be told at the place in the script, where a schedule has no value for a tensor.
local function resolve(schedule, m)
  local ok, out = pcall(values_for, schedule, m)
  if ok then return out end
  if type(out) == "string" and out:find "^by%.%l+: " then return nil, out end
  error(out, 0)
end

return function(checker)
  check = checker
  return {
    is_schedule = is_schedule,
    resolve = resolve,
    functions = { depth = depth, layer = layer, name = name, tensor = tensor_, blocks = blocks },
  }
end
