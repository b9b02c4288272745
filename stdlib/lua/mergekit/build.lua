-- SPDX-License-Identifier: Apache-2.0
-- From the description of mergekit/config.lua to a model: opens the inputs, checks against their
-- headers what the text could not tell, and says the merge in tarn's own language. Reads no data.

local config = require "mergekit.config"

local function fail(where, message, ...)
  error(where .. ": " .. message:format(...), 0)
end

-- f(…), with the line of the configuration before what it raises. Texts raised by f have that
-- already, or the line of the command, which is no help.
local function located(where, f, ...)
  local ok, r = pcall(f, ...)
  if ok then return r end
  local message = tostring(r)
  if type(r) == "userdata" then
    message = r.message .. (r.code ~= "" and " [" .. r.code .. "]" or "")
  elseif message:find("^" .. where:gsub(":%d+$", ""):gsub("%p", "%%%0") .. ":%d") then
    error(message, 0)
  end
  error(where .. ": " .. message:gsub("^scripts/merge%.lua:%d+: ", ""), 0)
end

-- ---- the models ----

-- Opens a model and finds its one stack of layers.
local function open(m, d, options)
  local opened = located(m.at, function()
    local ok, r = pcall(model.open, m.path, { label = m.label, strict = options.strict })
    if ok then return r end
    if type(r) == "userdata" and r.code == "NotFound" then
      fail(m.at, "%s does not exist; models are local folders, nothing is downloaded", m.path)
    end
    error(r, 0)
  end)
  local stacks = opened:structure().stacks
  m.stacks, m.stack = stacks, #stacks == 1 and stacks[1] or nil
  m.layers = m.stack and m.stack.count or opened:structure().depths
  m.info = {}
  for i, name in ipairs(opened:names()) do m.info[i] = opened:info(name) end
  m.model = d.dtype and opened:dtype() ~= d.dtype and opened:cast(d.dtype) or opened
end

local function check_layers(d)
  for _, slice in ipairs(d.slices) do
    local first = slice.sources[1].model
    for _, s in ipairs(slice.sources) do
      local m = s.model
      if not s.first and m.layers ~= first.layers then
        fail(s.where, "%s has %d layers, %s has %d", m.label, m.layers, first.label, first.layers)
      elseif s.first and not m.stack then
        fail(s.where, "layer_range of model %s: it has %d stacks of layers, slices need one", m.label, #m.stacks)
      elseif s.last and s.last > m.layers then
        fail(s.where, "layer_range [%d, %d] of model %s: it has %d layers", s.first, s.last, m.label, m.layers)
      end
    end
  end
end

-- With a tokenizer source mergekit moves rows of embeddings to the tokens' new places: nothing moves
-- when every model has the same tokenizer, so that is what we ask for.
local function check_tokenizers(d)
  local first, whose
  for _, m in ipairs(d.tokenizer and d.models or {}) do
    local file = io.open(m.path .. "/tokenizer.json", "rb")
    local text = file and file:read "a" or nil
    if file then file:close() end
    if not text then
      fail(d.tokenizer.at, "%s: %s has no tokenizer.json", d.tokenizer.what, m.label)
    elseif first and text ~= first then
      fail(d.tokenizer.at, "tokenizer source '%s': the tokenizers of %s and %s differ, so rows of "
        .. "embeddings would have to move; that is not supported yet", d.tokenizer.what, whose, m.label)
    end
    first, whose = text, m.label
  end
end

-- ---- where tensors go ----

-- What a slice makes of a source: output name -> {from = name in the source, t = position}.
-- Embeddings come from the first slice, final norm and head from the last, at t = 0.
local function places(d, k, source)
  local m, slice, out = source.model, d.slices[k], {}
  local before = 0
  for j = 1, k - 1 do
    local s = d.slices[j].sources[1]
    before = before + (s.last or 0) - (s.first or 0)
  end
  local span = (source.last or m.layers) - (source.first or 0)
  for _, info in ipairs(m.info) do
    local name = info.name
    if info.place == "layer" and not source.first then
      local stack
      for _, s in ipairs(m.stacks) do stack = s.name == info.stack and s or stack end
      local n, i = stack.count, info.depth - stack.first
      out[name] = { from = name, t = n > 1 and i / (n - 1) or 1 }
    elseif info.place == "layer" and info.layer >= source.first and info.layer < source.last then
      local i = info.layer - source.first
      local head, tail = name:sub(1, #info.stack), name:sub(#info.stack + 1):match "^%.%d+(%..+)$"
      if head ~= info.stack or not tail then
        fail(slice.where, "cannot renumber the layer of %s in %s", name, m.label)
      end
      out[("%s.%d%s"):format(head, before + i, tail)] = { from = name, t = span > 1 and i / (span - 1) or 1 }
    elseif info.place ~= "layer" then
      local late = info.place == "final" or info.place == "head"
      if (late and k == #d.slices) or (not late and k == 1) then out[name] = { from = name, t = 0 } end
    end
  end
  return out
end

-- The part of a source's model that a slice takes, under its names in the output.
local function part(source, where)
  local to = {}
  for name, place in pairs(where) do
    to[place.from] = to[place.from] or name
  end
  local m = source.model.model
  if not source.first then return m end
  return m:only(function(name) return to[name] ~= nil end):rename(to)
end

-- ---- parameters ----

-- Whether every setting that may apply is one number; then that number.
local function constant(d, slice, source, key)
  local first = config.settings(d, slice, source, key)[1]
  if first then return first.number end
  return config.resolve(d, slice, source, key, "", 0)
end

local function value_of(d, slice, source, key, place, name)
  -- a model's own parameters are matched against its own names, shared ones against the output's
  local v = config.resolve(d, slice, source, key, source and place.from or name, place.t)
  if not v then
    fail(slice.where, "no entry of %s%s fits %s", key,
      source and " of model " .. source.model.label or "", name)
  end
  return v
end

-- A parameter as merge.* takes it: a number, or a schedule by tensor.
local function parameter(d, slice, source, key, where)
  local v = constant(d, slice, source, key)
  if v then return v end
  return by.tensor(function(name) return value_of(d, slice, source, key, where[name], name) end)
end

-- A flag is one for all tensors; entries with filters that come to the same are fine.
local function flag(d, slice, key, where)
  local v = constant(d, slice, nil, key)
  if v then return v ~= 0 end
  local one
  for name, place in pairs(where) do
    local x = value_of(d, slice, nil, key, place, name)
    if one and x ~= one then fail(slice.where, "%s differs between tensors: not supported yet", key) end
    one = x
  end
  return one ~= 0
end

local function options(d, slice, sources, where)
  local o = {}
  for key, v in pairs(d.row.options or {}) do o[key] = v end
  for key, row in pairs(d.row.parameters) do
    if row.option ~= false and row.only == nil then
      if row.model then
        o[key] = {}
        for i, s in ipairs(sources) do o[key][i] = parameter(d, slice, s, key, where[s]) end
      elseif row.flag then
        local on = flag(d, slice, key, where[sources[1]])
        if row.choice then on = row.choice[on] end
        o[key] = on
      else
        o[key] = parameter(d, slice, nil, key, where[sources[1]])
      end
    end
  end
  return o
end

-- ---- slices ----

-- The sources in the order of the operands: a required base apart, a base that joins in front, so
-- that order and side files come from it.
local function operands(d, slice)
  local base, list = nil, {}
  for _, s in ipairs(slice.sources) do
    if s.model == slice.base then base = s else list[#list + 1] = s end
  end
  if base and d.row.base ~= "required" then
    table.insert(list, 1, base)
    base = nil
  end
  return base, list
end

local function merge_slice(d, k, o)
  local slice = d.slices[k]
  local base, list = operands(d, slice)
  local where, call = {}, {}
  for i, s in ipairs(list) do
    where[s] = places(d, k, s)
    call[i] = part(s, where[s])
  end
  if next(where[list[1]]) == nil then return nil end  -- a slice without layers in the middle
  if d.method == "passthrough" then
    local scale = parameter(d, slice, list[1], "scale", where[list[1]])
    return scale == 1 and call[1] or scale * call[1]
  end
  for key, v in pairs(options(d, slice, list, where)) do call[key] = v end
  if base then call.base = part(base, places(d, k, base)) end
  if d.row.random then call.seed = o.seed end
  call.missing, call.on_integer = o.missing, o.on_integer
  return located(slice.where, merge[d.method], call)
end

-- build(description, {seed =, strict =, missing =, on_integer =}) -> model; the last two as in merge.*
local function build(d, o)
  for _, m in ipairs(d.models) do open(m, d, o) end
  check_layers(d)
  check_tokenizers(d)
  local parts = {}
  for k = 1, #d.slices do parts[#parts + 1] = merge_slice(d, k, o) end
  if #parts == 0 then fail(d.name, "nothing is left to merge: every slice is empty") end
  return #parts == 1 and parts[1] or model.join(parts)
end

return { build = build }
