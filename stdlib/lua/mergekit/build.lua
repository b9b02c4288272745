-- SPDX-License-Identifier: Apache-2.0
-- From the description of mergekit/config.lua to a model: opens the inputs, checks against their
-- headers what the text could not tell, and says the merge in tarn's own language. Reads no data.
-- Every value that is made on the way is noted in d.said with the expression that makes it, so that
-- mergekit/script.lua writes down what was done here, and nothing else.

local config = require "mergekit.config"
local say = require "mergekit.say"

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

local function opened(m, d, options)
  local made = options.made[m.document]
  local label = m.lora and m.path:match "[^/]+$" or m.label
  local ok, r = true, made
  if made then
    m.variable = d.said[made]
  else
    ok, r = pcall(model.open, m.path, { label = label, strict = options.strict })
    if ok then say.open(d, m, r, label) end
  end
  if ok then return m.lora and say.lora(d, m, r + model.lora(m.lora, r), r) or r end
  if type(r) == "userdata" and r.code == "NotFound" then
    fail(m.at, "%s does not exist; models are local folders, nothing is downloaded", m.path)
  end
  error(r, 0)
end

-- Opens a model, or takes what an earlier document made, and finds its one stack of layers.
local function open(m, d, options)
  local r = located(m.at, opened, m, d, options)
  local stacks = r:structure().stacks
  m.stacks, m.stack = stacks, #stacks == 1 and stacks[1] or nil
  m.layers = m.stack and m.stack.count or r:structure().depths
  if d.dtype and r:dtype() ~= d.dtype then
    r = options.made[m.document] == r and say.call(d, r, "cast", d.dtype) or say.cast(d, r, d.dtype)
  end
  m.model = r
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

-- A file beside the weights of a model, or nil.
local function text_of(m, name)
  local file = io.open((m.folder or m.path) .. "/" .. name, "rb")
  local text = file and file:read "a"
  if file then file:close() end
  return text
end

-- With a tokenizer source mergekit moves rows of embeddings to the tokens' new places: nothing moves
-- when every model has the same tokenizer, so that is what we ask for.
local function check_tokenizers(d)
  local first, whose
  for _, m in ipairs(d.tokenizer and d.models or {}) do
    local text = text_of(m, "tokenizer.json")
    if not text then
      fail(d.tokenizer.at, "%s: %s has no tokenizer.json", d.tokenizer.what, m.label)
    elseif first and text ~= first then
      fail(d.tokenizer.at, "tokenizer source '%s': the tokenizers of %s and %s differ, so rows of "
        .. "embeddings would have to move; that is not supported yet", d.tokenizer.what, whose, m.label)
    end
    first, whose = text, m.label
  end
end

-- The chat template of a model, as it stands in its file.
local function template_of(m)
  local jinja, settings = text_of(m, "chat_template.jinja"), text_of(m, "tokenizer_config.json")
  local _, at = (settings or ""):find '"chat_template"%s*:%s*'
  if jinja or not at then return jinja end
  local from = at + 1
  if settings:sub(from, from) ~= '"' then return settings:match("^%b[]", from) end
  while true do  -- to the quote that no backslash stands before
    at = settings:find('["\\]', at + 2)
    if not at or settings:sub(at, at) == '"' then return at and settings:sub(from, at) end
  end
end

-- With chat_template: auto mergekit takes the template that most models have; here the output's is the
-- base's (or the first model's), so that must be the one.
local function check_templates(d)
  local donor = d.base or d.models[1]
  local own = d.template and template_of(donor)
  for _, m in ipairs(d.template and d.models or {}) do
    local other = template_of(m)
    if other and other ~= own then
      fail(d.template, "chat_template auto: %s; remove the key, and the output has that of %s", own
        and ("the templates of %s and %s differ"):format(donor.label, m.label)
        or ("%s has a template, %s has none"):format(m.label, donor.label), donor.label)
    end
  end
end

-- ---- where tensors go ----

-- What a slice takes of a source: that part of its model under its names in the output, and for each
-- of these names {from = name in the source, t = position, layer = number in the output}. Embeddings
-- come from the first slice, final norm and head from the last, at t = 0.
local function part(d, k, source)
  local m, before, where = source.model, 0, {}
  local function taken(info)
    if info.place == "layer" then
      return not source.first or info.layer >= source.first and info.layer < source.last
    end
    local late = info.place == "final" or info.place == "head"
    return k == (late and #d.slices or 1)
  end
  local function position(info)
    if info.place ~= "layer" then return 0 end
    local i, n = info.layer, source.last
    if source.first then
      i, n = i - source.first, n - source.first
    else
      for _, s in ipairs(m.stacks) do
        if s.name == info.stack then i, n = info.depth - s.first, s.count end
      end
    end
    return n > 1 and i / (n - 1) or 1
  end
  for j = 1, k - 1 do
    local s = d.slices[j].sources[1]
    before = before + (s.last or 0) - (s.first or 0)
  end
  local cut = source.first and say.slice(d, m.model, source.first, source.last, k == 1, k == #d.slices) or m.model
  local out = source.first and located(d.slices[k].where, say.call, d, cut, "renumber", before) or cut
  local names = out:names()
  for i, name in ipairs(cut:names()) do
    local info = cut:info(name)
    if taken(info) then
      where[names[i]] = { from = name, t = position(info), layer = out:info(names[i]).layer }
    end
  end
  return out, where
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

-- The rules of all levels in one list, {filter or nil, number or {gradient = …}}, up to the first that
-- fits every tensor; and whether there is one.
local function rules_of(d, slice, source, key)
  local list = {}
  local function add(filter, s)
    list[#list + 1] = { filter, s.number or s }
    return not filter
  end
  for _, s in ipairs(config.settings(d, slice, source, key)) do
    if not s.rules then return list, add(nil, s) end
    for _, rule in ipairs(s.rules) do
      if add(rule.filter, rule.setting) then return list, true end
    end
  end
  local default = config.default(d, key)
  return list, default ~= nil and add(nil, { number = default })
end

-- A parameter as merge.* takes it: a number, or a schedule by tensor.
local function parameter(d, slice, source, key, where, lead)
  local v = constant(d, slice, source, key)
  if v then return v end
  local rules, whole = rules_of(d, slice, source, key)
  local own = {}
  for name, place in pairs(where) do
    own[name] = not whole and value_of(d, slice, source, key, place, name) or nil
  end
  for _, rule in ipairs(rules) do
    -- a filter on a number of a layer means the source's own numbers, and a slice has others
    if source and source.first and rule[1] and rule[1]:find "%d" then
      for name, place in pairs(where) do own[name] = value_of(d, slice, source, key, place, name) end
      return say.each(d, own)
    end
  end
  return say.schedule(d, rules, lead or source, where)
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
    local option = row.option or key
    if row.option ~= false then
      if row.model then
        o[option] = {}
        for i, s in ipairs(sources) do o[option][i] = parameter(d, slice, s, key, where[s]) end
      elseif row.flag then
        local on = flag(d, slice, key, where[sources[1]])
        if row.warning and on then warn(("%s: %s: %s"):format(slice.where, key, row.warning)) end
        if row.choice then on = row.choice[on] end
        o[option] = on
      else
        o[option] = parameter(d, slice, nil, key, where[sources[1]], sources[1])
      end
    end
  end
  if d.row.finish then d.row.finish(o) end
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
  if base and d.row.base == "joins" then
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
    call[i], where[s] = part(d, k, s)
  end
  if next(where[list[1]]) == nil then return nil end  -- a slice without layers in the middle
  if d.method == "passthrough" then
    local scale = parameter(d, slice, list[1], "scale", where[list[1]])
    return scale == 1 and call[1] or say.scaled(d, scale, call[1])
  end
  for key, v in pairs(options(d, slice, list, where)) do call[key] = v end
  if base then call.base = part(d, k, base) end
  if d.row.random then call.seed = o.seed end
  call.missing, call.on_integer = o.missing, o.on_integer
  return located(slice.where, say.merge, d, d.row.method or d.method, call)
end

-- build(description, {seed =, strict =, missing =, on_integer =, made =, said =, steps =, names =}) -> model.
-- missing and on_integer as in merge.*. made: the models of earlier documents by name; said, steps and names
-- are what they noted.
local function build(d, o)
  d.said, d.steps, d.names = o.said or {}, o.steps or {}, o.names or {}
  for _, m in ipairs(d.models) do open(m, d, o) end
  check_layers(d)
  check_tokenizers(d)
  check_templates(d)
  local parts = {}
  for k = 1, #d.slices do parts[#parts + 1] = merge_slice(d, k, o) end
  if #parts == 0 then fail(d.name, "nothing is left to merge: every slice is empty") end
  local merged = #parts == 1 and parts[1] or say.join(d, parts)
  if not d.document then return merged end
  local dtype = d.out_dtype or d.dtype  -- of what mergekit would have written
  return say.document(d, dtype and merged:dtype() ~= dtype and say.call(d, merged, "cast", dtype) or merged)
end

return { build = build }
