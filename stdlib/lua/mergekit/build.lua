-- SPDX-License-Identifier: Apache-2.0
-- From the description of mergekit/config.lua to a model: opens the inputs, checks against their
-- headers what the text could not tell, and says the merge in tarn's own language. Reads no data.
-- Every value that is made on the way is noted in d.said with the expression that makes it, so that
-- mergekit/script.lua writes down what was done here, and nothing else.

local config = require "mergekit.config"
local parts_of = require "mergekit.modules"
local decode = require("json.decode").decode
local say, text_file = require "mergekit.say", require "text_file"

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
  message = message:gsub("^scripts/%a+%.lua:%d+: ", ""):gsub("^model%.one_tokenizer: ", "")
    :gsub("(hint: .-)missing = \"(%a+)\"", "%1--missing %2"):gsub("the number of a model or ", "a model or ")
  error(where .. ": " .. message, 0)
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
    fail(m.at, "%s does not exist; models are local folders, nothing is downloaded%s", m.path,
      tostring(r):match "; did you mean [^\n]-%?" or "")
  end
  error(r, 0)
end

-- Opens a model, or takes what an earlier document made.
local function open(m, d, options)
  local r = located(m.at, opened, m, d, options)
  if d.dtype and r:dtype() ~= d.dtype then
    r = options.made[m.document] == r and say.call(d, r, "cast", d.dtype) or say.cast(d, r, d.dtype)
  end
  m.model = r
end

-- An adapter stands for a model only where all are adapters. A whole model may have adapters inside; an adapter has
-- no final norm.
local function check_adapters(d)
  local adapter, other
  for _, m in ipairs(d.models) do
    local whole = #m.model:names(function(_, info) return info.place == "final" end) > 0
    if not whole and #m.model:names "lora_(embedding_)?A" > 0 then adapter = adapter or m else other = other or m end
  end
  if adapter and other then
    fail(adapter.at, "%s is an adapter, not a model; a model with it is written MODEL+%s", adapter.label, adapter.path)
  end
end

-- ---- tokenizers and templates ----

-- The numbers in d.models of a slice's models; nil where they are all.
local function numbers_of(d, slice)
  local there, list = {}, {}
  for _, s in ipairs(slice.sources) do there[s.model] = true end
  for k, m in ipairs(d.models) do
    if there[m] then list[#list + 1] = k end
  end
  return #list < #d.models and list or nil
end

-- Rows are lent only between the models of the slice that embedding or head come from. slice.models: those of
-- d.models as this slice takes them, where that is another than m.model.
local function unify_slices(d, call)
  local made = {}
  for _, g in ipairs(d.groups) do
    for k, slice in ipairs(g.slices) do
      local among = (k == 1 or k == #g.slices) and numbers_of(d, slice)
      if slice.base ~= d.base then
        fail(slice.where, "a base_model of a slice is not supported where tokenizers differ")
      end
      if among then
        local key = table.concat(among, " ")
        if not made[key] then
          call.among = among
          made[key] = located(d.tokenizer.at, model.one_tokenizer, call)
          say.one_tokenizer(d, call, made[key])
        end
        slice.models = {}
        for _, i in ipairs(among) do slice.models[d.models[i]] = made[key][i] end
      end
    end
  end
end

-- Brings the models to one tokenizer; d.files are its files.
local function unify(d)
  local t, number, call = d.tokenizer, {}, {}
  for k, m in ipairs(d.models) do
    number[m], call[k] = k, m.model
    if m.files then
      call.files = call.files or {}
      call.files[k] = m.files
    end
  end
  call.base, call.multiple_of = number[d.base], t.multiple
  call.source = number[t.source] or type(t.source) == "table" and t.source.path or t.source
  for token, said in pairs(t.tokens) do
    call.tokens = call.tokens or {}
    local from = said.source
    if type(from) == "table" then from = from.token and { number[from.model], from.token } or number[from.model] end
    call.tokens[token] = { from = from, force = said.force }
  end
  local made = located(t.at, function() return { model.one_tokenizer(call) } end)
  local list, files, lent = made[1], made[2], made[3]
  local moved = next(files) ~= nil
  for k, m in ipairs(list) do moved = moved or m ~= call[k] end
  if not moved then return end
  say.one_tokenizer(d, call, list, files)
  if lent then unify_slices(d, call) end
  for k, m in ipairs(d.models) do m.model = list[k] end
end

-- Without a tokenizer vocabularies of several sizes are cut to the rows that all have, where that is asked for.
local function check_rows(d, cut)
  local least, most, rows, whole = math.huge, nil, {}, d.method ~= "passthrough"
  for _, m in ipairs(d.models) do
    rows[m] = 0
    for _, name in ipairs(m.model:names(function(_, info) return info.place == "embed" and #info.shape == 2 end)) do
      rows[m] = math.max(rows[m], m.model:info(name).shape[1])
    end
    if rows[m] > 0 then least = math.min(least, rows[m]) end
    most = most and rows[most] >= rows[m] and most or m
  end
  for _, g in ipairs(d.groups) do whole = whole and #g.slices == 1 end
  for _, m in ipairs(d.models) do
    if rows[m] > least and cut then
      m.model = say.call(d, m.model, "resize_vocab", math.tointeger(least))
    elseif rows[m] > 0 and rows[m] < rows[most] and whole and not cut then
      fail(m.at, "%s has %d rows of tokens, %s has %d: tokenizer_source: union brings models to one vocabulary by "
        .. "their tokenizers, --truncate-embeddings cuts to the rows that all have", m.label, rows[m], most.label,
        rows[most])
    end
  end
end

local function text_of(m, name)
  if m.files and m.files[name] ~= nil then return m.files[name] or nil end
  local folder = m.model:folder()
  return folder and text_file(folder .. "/" .. name, true)
end

-- The chat template of a model, without the space around it.
local function template_of(m)
  local text = text_of(m, "chat_template.jinja")
  if not text then
    local settings = text_of(m, "tokenizer_config.json")
    local ok, t = pcall(decode, settings or "{}")
    text = ok and type(t) == "table" and t.chat_template
    for _, named in ipairs(type(text) == "table" and text or {}) do -- several by name
      if type(named) == "table" and named.name == "default" then text = named.template end
    end
  end
  text = type(text) == "string" and text:match "^%s*(.-)%s*$"
  return text ~= "" and text or nil
end

-- auto: the template that most models have, of several the first.
local function most_common(d)
  local count, best = {}, nil
  for _, m in ipairs(d.models) do
    local t = template_of(m)
    if t then count[t] = (count[t] or 0) + 1 end
  end
  for _, m in ipairs(d.models) do
    local t = template_of(m)
    if t and (not best or count[t] > count[best]) then best = t end
  end
  return best
end

local function set_template(d)
  local donor = d.base or d.models[1]
  local text = d.template.text or most_common(d)
  if not text or not d.template.text and text == template_of(donor) and not d.files then return end
  say.template(d, donor.model, text)
end

-- ---- modules ----

-- A source's part of its model, in the place of the whole: {model =, stacks =, stack =, layers =, label =}.
local function part_of(d, g, slice, m, patterns)
  m.parts = m.parts or {}
  local whole = slice.models and slice.models[m] or m.model
  local key = (g.module or "") .. d.said[whole]
  local p = m.parts[key]
  if not p then
    p = { model = g.module and say.only(d, m, whole, g.module, patterns[g.module]) or whole, label = m.label }
    local there = {}
    for _, name in ipairs(p.model:names()) do there[p.model:info(name).stack or ""] = true end
    p.stacks, p.several = {}, #p.model:structure().stacks > 1
    for _, s in ipairs(p.model:structure().stacks) do -- those of the whole model
      if there[s.name] then p.stacks[#p.stacks + 1] = s end
    end
    p.stack = #p.stacks == 1 and p.stacks[1] or nil
    p.layers = p.stack and p.stack.count or #p.stacks == 0 and 0 or p.model:structure().depths
    m.parts[key] = p
  end
  return p
end

-- The patterns of the modules that m has, which have to be those of the configuration.
local function patterns_of(d, m)
  local patterns, list, asked = {}, {}, {}
  for _, part in ipairs(parts_of(m.model)) do
    patterns[part[1]] = part[2]
    list[#list + 1] = part[1]
  end
  for _, g in ipairs(d.groups) do
    if not patterns[g.module] then
      fail(g.where, "%s has no module %s; it has %s", m.label, g.module, table.concat(list, ", "))
    end
    asked[g.module] = true
  end
  for _, name in ipairs(list) do
    if not asked[name] then
      fail(d.groups[1].where, "module %s of %s is not listed, and the merge would lack its %d tensors; add %s: "
        .. "{models: …}", name, m.label, #m.model:names(patterns[name]), name)
    end
  end
  return patterns
end

local function split(d)
  local patterns = {}
  for _, g in ipairs(d.groups) do
    for _, slice in ipairs(g.slices) do
      for _, s in ipairs(slice.sources) do
        local m = s.model
        if g.module then patterns[m] = patterns[m] or patterns_of(d, m) end
        s.part = part_of(d, g, slice, m, patterns[m])
      end
    end
  end
end

local function check_layers(d)
  for _, slice in ipairs(d.slices) do
    local first = slice.sources[1].part
    for _, s in ipairs(slice.sources) do
      local m = s.part
      if not s.first and m.layers ~= first.layers then
        fail(s.where, "%s has %d layers, %s has %d", m.label, m.layers, first.label, first.layers)
      elseif s.first and not m.stack then
        fail(s.where, "layer_range of model %s: it has %d stacks of layers, slices need one%s", m.label, #m.stacks,
          #m.stacks > 1 and " (modules name the parts of a model)" or "")
      elseif s.last and s.last > m.layers then
        fail(s.where, "layer_range [%d, %d] of model %s: it has %d layers", s.first, s.last, m.label, m.layers)
      end
    end
  end
end

-- ---- where tensors go ----

-- What a slice takes of a source: that part of its model under its names in the output, and for each
-- of these names {from = name in the source, t = position, layer = number in the output}. Embeddings
-- come from the first slice, final norm and head from the last, at t = 0.
local function part(d, g, k, source)
  local m, before, where = source.part, 0, {}
  local function taken(info)
    if info.place == "layer" then
      return not source.first or info.layer >= source.first and info.layer < source.last
    end
    local late = info.place == "final" or info.place == "head"
    return k == (late and #g.slices or 1)
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
    local s = g.slices[j].sources[1]
    before = before + (s.last or 0) - (s.first or 0)
  end
  local cut = source.first and say.slice(d, m.model, source.first, source.last, k == 1, k == #g.slices) or m.model
  local out = source.first and located(g.slices[k].where, say.renumber, d, cut, before, m.several and m.stack.name)
    or cut
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

-- Notes which filters of a parameter fit no tensor so far: d.unfit, those that fit none at all are warned of.
local function look_for_filters(d, slice, source, key, where)
  for _, s in ipairs(config.settings(d, slice, source, key)) do
    for _, rule in ipairs(s.rules or {}) do
      local found = not rule.filter or d.unfit[rule] == false
      for name, place in pairs(found and {} or where) do
        found = found or (source and place.from or name):find(rule.filter, 1, true) ~= nil
      end
      d.unfit[rule] = not found
    end
  end
end

local function warn_of_filters(d)
  local list = {}
  for rule, unfit in pairs(d.unfit) do
    if unfit then
      list[#list + 1] = ("%s: %s: no tensor has '%s' in its name, so this entry has no effect"):format(rule.at,
        rule.what, rule.filter)
    end
  end
  table.sort(list)
  for _, text in ipairs(list) do warn(text) end
end

-- A parameter as merge.* takes it: a number, or a schedule by tensor.
local function parameter(d, slice, source, key, where, lead)
  local v = constant(d, slice, source, key)
  if v then return v end
  look_for_filters(d, slice, source, key, where)
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
  look_for_filters(d, slice, nil, key, where)
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
    if s.model == slice.base and d.row.base then base = s else list[#list + 1] = s end
  end
  if base and d.row.base == "joins" then
    table.insert(list, 1, base)
    base = nil
  end
  return base, list
end

-- Of a slice's leading source: how it is called, its model, and the names of heads tied to its embedding, each with
-- whether it is stored too.
local function head_of(d, slice)
  local base, list = operands(d, slice)
  local source = base or list[1]
  local h = { label = source.part.label, of = source.model, model = source.part.model, tied = {} }
  for _, tie in ipairs(h.model:structure().tied) do h.tied[tie.other] = tie.stored end
  return h
end

-- Whether `other` has as a tensor of its own what is tied in h.
local function apart(h, other)
  for name in pairs(h.tied) do
    if other.tied[name] == nil and #other.model:names(function(n) return n == name end) > 0 then return true end
  end
  return false
end

-- Embeddings come from the first slice and the head from the last. Where one of the two has its head tied to its
-- embedding and the other has not, the output would lack a head, or hold one that its config.json says is tied.
local function check_heads(d)
  for _, g in ipairs(d.groups) do
    local where = g.slices[#g.slices].where
    local first, last = head_of(d, g.slices[1]), head_of(d, g.slices[#g.slices])
    local late = apart(last, first)
    if late or apart(first, last) then
      fail(where, "the head would come from %s and the embedding from %s, but %s has its head tied to its "
        .. "embedding and %s has not; a last slice of no layers, layer_range: [0, 0] of %s, takes both from one",
        last.label, first.label, late and last.label or first.label, late and first.label or last.label, first.label)
    end
    for name, stored in pairs(last.of ~= first.of and last.tied or {}) do
      if stored and first.tied[name] ~= nil then
        fail(where, "%s is tied to the embedding, which would come from %s, and %s has it stored as well; a last slice "
          .. "of no layers, layer_range: [0, 0] of %s, takes both from one", name, first.label, last.label, first.label)
      end
    end
  end
end

local function merge_slice(d, g, k, o)
  local slice = g.slices[k]
  local base, list = operands(d, slice)
  local where, call = {}, {}
  for i, s in ipairs(list) do
    call[i], where[s] = part(d, g, k, s)
  end
  if next(where[list[1]]) == nil then return nil end  -- a slice without layers in the middle
  if d.method == "passthrough" then
    local scale = parameter(d, slice, list[1], "scale", where[list[1]])
    return scale == 1 and call[1] or say.scaled(d, scale, call[1])
  end
  for key, v in pairs(options(d, slice, list, where)) do call[key] = v end
  if base then call.base = part(d, g, k, base) end
  if d.row.random then call.seed = o.seed end
  call.missing, call.on_integer = o.missing, o.on_integer
  return located(slice.where, say.merge, d, d.row.method or d.method, call, g.module)
end

-- build(description, {seed =, strict =, missing =, on_integer =, made =, said =, steps =, names =}) -> model.
-- missing and on_integer as in merge.*. made: the models of earlier documents by name; said, steps and names
-- are what they noted.
local function build(d, o)
  d.said, d.steps, d.names, d.unfit = o.said or {}, o.steps or {}, o.names or {}, {}
  for _, m in ipairs(d.models) do open(m, d, o) end
  check_adapters(d)
  say.side_files(d, (d.base or d.models[1]).files)
  if d.tokenizer then unify(d) else check_rows(d, o.truncate) end
  if d.template then set_template(d) end
  split(d)
  check_layers(d)
  check_heads(d)
  local parts = {}
  for _, g in ipairs(d.groups) do
    local first, last = #g.slices[1].sources, #g.slices[#g.slices].sources
    if last > first then
      warn(("%s: final norm and head are made of all %d sources of the last slice; mergekit takes as many as the first "
        .. "slice has, %d"):format(g.slices[#g.slices].where, last, first))
    end
    for k = 1, #g.slices do parts[#parts + 1] = merge_slice(d, g, k, o) end
  end
  warn_of_filters(d)
  if #parts == 0 then fail(d.name, "nothing is left to merge: every slice is empty") end
  local merged = #parts == 1 and parts[1] or say.join(d, parts)
  if not d.document then return merged end
  local dtype = d.out_dtype or d.dtype  -- of what mergekit would have written
  return say.document(d, dtype and merged:dtype() ~= dtype and say.call(d, merged, "cast", dtype) or merged)
end

return { build = build }
