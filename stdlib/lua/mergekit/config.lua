-- SPDX-License-Identifier: Apache-2.0
-- mergekit's configuration language, read: from the tables of yaml.read to a description of the
-- merge with everything checked that the text alone can tell. No model is opened here and nothing
-- is computed; mergekit/build.lua does that. Every error is one line, "config.yml:12: …".
--
-- The description:
--   method, row       name of the method and its row of mergekit/methods.lua
--   dtype, out_dtype  tarn's names ("bf16"), or nil
--   models            all models in order of appearance: {path =, label =, at = "config.yml:7"}
--   document          its `name`, where the file has several documents; a model that is one of them has
--                     document = that name
--   slices            {sources = {{model =, first =, last =}, …}, base = model or nil}; first and last
--                     are half open and nil where a model is taken whole
--   groups            {slices = …, module = name or nil, where =}: parts of the model that are merged each by
--                     itself; slices are those of all groups
--   tokenizer         {at =, source = "union", "base", a model or {path =} of a tokenizer, multiple =,
--                     tokens = {[token] = {source =, force =}}}; a token's source is "zero" or
--                     {model =, token = text, id or nil}
--   template          {at =, text = a template, a name or nil (auto)}
--   setting(slice, source, name) -> setting or nil; value(setting, tensor, t) -> number or nil

local catalogue = require "mergekit.methods"
local nearest = require "nearest"
local templates = require "chat.templates"

local dtypes = { bfloat16 = "bf16", float16 = "f16", float32 = "f32" }

local Reader = {}
Reader.__index = Reader

-- ---- errors and kinds ----

function Reader:where(t, key)
  local p = self.at[t]
  local line = p and ((key ~= nil and p.lines[key]) or p.line) or 1
  return self.name .. ":" .. line
end

function Reader:fail(t, key, message, ...)
  error(self:where(t, key) .. ": " .. message:format(...), 0)
end

function Reader:has(t, key) return t[key] ~= nil and t[key] ~= self.null end

function Reader:kind(v)
  if v == self.null then return "nothing" end
  local p = self.at[v]
  if p then return "a " .. p.kind end
  if type(v) == "string" then return ("the text '%s'"):format(v) end
  return tostring(v)
end

function Reader:map(t, key, what)
  local v = t[key]
  if v == nil or v == self.null then return nil end
  if not (self.at[v] and self.at[v].kind == "map") then
    self:fail(t, key, "%s is %s, expected a map", what, self:kind(v))
  end
  return v
end

function Reader:list(t, key, what)
  local v = t[key]
  if not (self.at[v] and self.at[v].kind == "list") then
    self:fail(t, key, "%s is %s, expected a list", what, self:kind(v))
  end
  if #v == 0 then self:fail(t, key, "%s is an empty list", what) end
  return v
end

function Reader:text(t, key, what)
  local v = t[key]
  if type(v) ~= "string" or v == "" then
    self:fail(t, key, "%s is %s, expected a text%s", what, self:kind(v),
      type(v) ~= "table" and v ~= self.null and " (quote it)" or "")
  end
  return v
end

-- A number as mergekit takes one: also a text that reads as a number, true as 1.
local function number_of(v)
  if type(v) == "boolean" then return v and 1 or 0 end
  if type(v) == "number" then return v end
  return type(v) == "string" and not v:find "[xX]" and tonumber(v) or nil
end

local function did_you_mean(word, words)
  local near = nearest(word, words)
  return near and ("; did you mean '%s'?"):format(near) or ""
end

-- Where a key belongs that is often found in a wrong place.
local places = {
  random_seed = "the seed is an option of the command: --seed N",
  out_path = "the output is the second argument of the command",
  revision = "models are local folders, without revisions",
  layer_range = "it stands beside the model, in each of the sources of a slice",
  merge_method = "a file has one for each document; give this part a document of its own, with a name",
  pad_to_multiple_of = "it belongs under tokenizer",
  filter = "it belongs to a value: [{filter: …, value: …}, …]",
  dtype = "it belongs to the top level", out_dtype = "it belongs to the top level",
  tokenizer_source = "it belongs to the top level", chat_template = "it belongs to the top level",
}

-- The nearest of the keys that may stand here, else where this one belongs.
local function advice(key, allowed)
  local near = did_you_mean(key, allowed)
  return near == "" and places[key] and "; " .. places[key] or near
end

local function words(t)
  local list = {}
  for w in pairs(t) do list[#list + 1] = w end
  table.sort(list)
  return table.concat(list, ", ")
end

-- ---- parameters ----

-- One number of parameter `p`, checked against its row.
function Reader:number(t, key, what, row, v)
  local x = number_of(v)
  if not x then self:fail(t, key, "%s is %s, expected a number", what, self:kind(v)) end
  if x ~= x or x - x ~= 0 then self:fail(t, key, "%s is %s, expected a finite number", what, x) end
  if row.min and (x < row.min or x > row.max) then
    self:fail(t, key, "%s is %.14g, outside %g..%g", what, x, row.min, row.max)
  end
  if row.integer and x ~= math.floor(x) then
    self:fail(t, key, "%s is %.14g, expected a whole number", what, x)
  end
  if row.flag and x ~= 0 and x ~= 1 then
    self:fail(t, key, "%s is %s, expected true or false", what, self:kind(v))
  end
  return x
end

function Reader:gradient(t, key, what, row)
  local list, out = self:list(t, key, what), {}
  if row.flag then
    self:fail(t, key, "%s is a list; expected true or false, or entries of filter and value", what)
  end
  for i = 1, #list do
    out[i] = self:number(list, i, ("%s, entry %d"):format(what, i), row, list[i])
  end
  return { gradient = out }
end

function Reader:rule(list, i, what, row)
  local entry = list[i]
  if not (self.at[entry] and self.at[entry].kind == "map") then
    self:fail(list, i, "%s is %s, expected {filter =, value =}", what, self:kind(entry))
  end
  for _, k in ipairs(self.at[entry].keys) do
    if k ~= "filter" and k ~= "value" then
      self:fail(entry, k, "%s: unknown key '%s'; an entry has filter and value", what, k)
    end
  end
  if entry.value == nil then self:fail(entry, nil, "%s has no value", what) end
  local filter = entry.filter
  if filter == self.null or filter == "*" then filter = nil end
  if filter ~= nil then self:text(entry, "filter", what .. ", filter") end
  return { filter = filter, setting = self:setting(entry, "value", what, row, true), what = what,
    at = self:where(entry, "filter") }
end

-- A value as it stands in the file: {number =}, {gradient = {…}} or {rules = {…}}.
function Reader:setting(t, key, what, row, inner)
  local v = t[key]
  local p = self.at[v]
  if not p then return { number = self:number(t, key, what, row, v) } end
  if p.kind == "map" and not inner then
    return { rules = { self:rule({ v }, 1, what, row) } }
  end
  local first = p.kind == "list" and self.at[v[1]]
  if not first or inner then return self:gradient(t, key, what, row) end
  local rules = {}
  for i = 1, #v do rules[i] = self:rule(v, i, ("%s, entry %d"):format(what, i), row) end
  return { rules = rules }
end

-- Says once, at the first of several models, that a parameter does nothing.
function Reader:idle(map, key)
  if self.said[key] then return end
  self.said[key] = true
  warn(("%s: %s has no effect on %s, in mergekit neither"):format(self:where(map, key), key, self.method))
end

-- A name that the method has no parameter of. Many published files carry parameters over from another method, which
-- mergekit leaves alone; what no method has is a mistake.
function Reader:no_parameter(map, key, whose, source)
  local lacking = source and self:lacking(map, whose) or ""
  if lacking == "" and catalogue.parameters[key] then return self:idle(map, key) end
  self:fail(map, key, "%sunknown parameter %s for %s%s%s", (whose:gsub("^ of (.*)$", "%1: ")), key, self.method,
    advice(key, self.row.parameters), lacking)
end

-- All of a `parameters` map, by name. `whose`: " of model code" or "".
function Reader:parameters(t, whose, source)
  local out, map = {}, self:map(t, "parameters", "parameters")
  for _, key in ipairs(map and self.at[map].keys or {}) do
    local row = self.row.parameters[key]
    if not row then
      self:no_parameter(map, key, whose, source)
    elseif source and not row.model then
      self:fail(map, key, "%s is one value for all models of %s; it belongs to the slice or to the "
        .. "top-level parameters, not to a model", key, self.method)
    else
      out[key] = self:setting(map, key, key .. whose, row)
      if row.unused and out[key].number ~= number_of(row.default) then self:idle(map, key) end
    end
  end
  return out
end

-- "; model code has no weight": a misspelt name usually is why.
function Reader:lacking(map, whose)
  for key, row in pairs(self.row.parameters) do
    if row.model and row.default == nil and map[key] == nil and not (self.top or {})[key] then
      return (";%s has no %s"):format(whose:sub(#" of" + 1), key)
    end
  end
  return ""
end

-- ---- models ----

function Reader:keys(t, what, allowed)
  for _, key in ipairs(self.at[t].keys) do
    if not allowed[key] then
      local why = advice(key, allowed)
      if self.row and self.row.parameters[key] then
        why = t.parameters == self.null and " beside an empty parameters (wrong indentation)"
          or "; it belongs under parameters"
      end
      self:fail(t, key, "%s %s%s", what and what .. ": unknown key" or "unknown top-level key", key, why)
    end
  end
end

-- A path of a reference; revisions have no meaning here.
function Reader:folder(t, key, what, path)
  if path:find("@", 1, true) then
    self:fail(t, key, "%s '%s': revisions (model@revision) are not supported, models are read from "
      .. "local folders (a folder with @ in its name: {model: {path: …}})", what, path)
  elseif path == "" then
    self:fail(t, key, "%s has an empty path", what)
  end
  return (path:gsub("(.)/+$", "%1"))
end

-- {path: …, revision: …}, or a text.
function Reader:inner(t, key, what)
  if not self.at[t[key]] then return (self:text(t, key, what):gsub("(.)/+$", "%1")) end
  local inner = self:map(t, key, what)
  if inner.revision ~= nil and inner.revision ~= self.null then
    self:fail(inner, "revision", "%s: revisions are not supported, models are local folders", what)
  end
  return (self:text(inner, "path", what):gsub("(.)/+$", "%1"))
end

-- A model reference: path, path+adapter, or the long form {model: {path:}, lora: {path:}}. Two paths.
function Reader:path(t, key, what)
  local v = t[key]
  if not self.at[v] then
    local text = self:text(t, key, what)
    local path, lora = text:match "^(.-)%+(.*)$"
    if not path then return self:folder(t, key, what, text) end
    if lora:find("+", 1, true) then
      self:fail(t, key, "%s '%s': one adapter may follow the model (a folder with + in its name: {model: {path: …}})",
        what, text)
    end
    return self:folder(t, key, what, path), self:folder(t, key, what, lora)
  end
  local ref = self:map(t, key, what)
  for _, k in ipairs(self.at[ref].keys) do
    if k == "override_architecture" and ref[k] ~= self.null then
      self:fail(ref, k, "%s: override_architecture is not supported: structure is read from names", what)
    elseif k ~= "model" and k ~= "lora" and k ~= "override_architecture" and k ~= "path" then
      self:fail(ref, k, "%s: unknown key '%s'", what, k)
    end
  end
  local lora = ref.lora ~= nil and ref.lora ~= self.null and self:inner(ref, "lora", what) or nil
  if ref.path then return self:inner(ref, "path", what), lora end
  if ref.model == nil then self:fail(t, key, "%s has no path", what) end
  return self:inner(ref, "model", what), lora
end

local function last(path) return path:match "[^/]+$" or path end

function Reader:model(t, key, what)
  local path, lora = self:path(t, key, what)
  local whole = lora and path .. "+" .. lora or path
  local m = self.by_path[whole]
  if not m then
    m = { path = path, lora = lora, document = self.documents[path] and path, whole = whole,
      label = lora and last(path) .. "+" .. last(lora) or last(path),
      at = self:where(t, key) }
    self.by_path[whole] = m
    self.models[#self.models + 1] = m
  end
  return m
end

-- Two models whose folders have the same name are called by their whole paths.
function Reader:name_apart()
  local count = {}
  for _, m in ipairs(self.models) do count[m.label] = (count[m.label] or 0) + 1 end
  for _, m in ipairs(self.models) do
    if count[m.label] > 1 then m.label = m.whole end
  end
end

function Reader:layer_range(t, model)
  local what = "layer_range of model " .. model.label
  if t.layer_range == nil then self:fail(t, nil, "%s is missing", what) end
  local r = self:list(t, "layer_range", what)
  if #r ~= 2 then self:fail(t, "layer_range", "%s has %d entries, expected [first, end]", what, #r) end
  local n = {}
  for i = 1, 2 do
    n[i] = number_of(r[i])
    n[i] = n[i] and math.tointeger(n[i])
    if not n[i] or n[i] < 0 then
      self:fail(t, "layer_range", "%s, entry %d is %s, expected a layer's number", what, i, self:kind(r[i]))
    end
  end
  if n[2] < n[1] then
    self:fail(t, "layer_range", "layer_range [%d, %d] of model %s: end before begin", n[1], n[2], model.label)
  end
  return n[1], n[2]
end

-- ---- slices ----

local source_keys = { model = true, parameters = true }
local ranged_keys = { model = true, parameters = true, layer_range = true }
local slice_keys = { sources = true, parameters = true, base_model = true, residual_weight = true }

function Reader:source(list, i, what, ranged)
  local t = list[i]
  local place = ("%s[%d]"):format(what, i)
  if not (self.at[t] and self.at[t].kind == "map") then
    self:fail(list, i, "%s is %s, expected {model: …}", place, self:kind(t))
  end
  self:keys(t, place, ranged and ranged_keys or source_keys)
  if t.model == nil then self:fail(t, nil, "%s has no model", place) end
  return { model = self:model(t, "model", place), at = t }
end

function Reader:finish_source(s, ranged)
  if ranged then s.first, s.last = self:layer_range(s.at, s.model) end
  s.parameters = self:parameters(s.at, " of model " .. s.model.label, true)
end

function Reader:check_twice(sources)
  local seen = {}
  for _, s in ipairs(sources) do
    if seen[s.model] then self:fail(s.at, "model", "model %s is listed twice", s.model.label) end
    seen[s.model] = true
  end
end

local function labels(sources)
  local l = {}
  for i, s in ipairs(sources) do l[i] = s.model.label end
  return #l < 2 and l[1] or table.concat(l, ", ", 1, #l - 1) .. " and " .. l[#l]
end

-- Whether a base is no operand of its own but what the others are measured from.
local function apart(row, base)
  return row.base == "required" or row.base == "optional" and base ~= nil
end

-- Adds the base where it takes part without being listed, and counts.
function Reader:check_base(slice, whole, place)
  local row, base, listed, others = self.row, slice.base, nil, 0
  for _, s in ipairs(slice.sources) do
    if s.model == base then listed = s else others = others + 1 end
  end
  if listed and apart(row, base) and next(listed.parameters) then
    warn(("%s: parameters of %s, the base, have no effect, in mergekit neither"):format(
      self:where(listed.at, "parameters"), base.label))
  end
  if not base and (row.base == "required" or row.base_needed) then
    error(("%s: %s needs base_model%s"):format(self.name, self.method, place), 0)
  end
  if base and not listed then
    if whole then
      slice.sources[#slice.sources + 1] = { model = base, parameters = {}, at = self.doc }
    elseif apart(row, base) or row.base_needed then
      self:fail(slice.at, "sources", "%s needs its base among the sources: add {model: %s, "
        .. "layer_range: …}%s", self.method, base.path, place)
    end
  end
  local n = apart(row, base) and others or #slice.sources
  if row.most and n > row.most or n < row.least then
    local want = ({ "one model", "two models" })[row.most or row.least]
    if apart(row, base) then want = want .. " besides the base" end
    if row.base_needed then want = want .. ", one of them the base" end
    self:fail(slice.at, whole and "models" or "sources", "%s takes %s%s; got %s%s", self.method,
      row.most and "" or "at least ", want, labels(slice.sources), place)
  end
end

function Reader:check_required(slice)
  for key, row in pairs(self.row.parameters) do
    local above = slice.parameters[key] or slice.module[key] or self.top[key]
    if row.default == nil and not above then
      if not row.model then
        error(("%s: %s needs the parameter %s"):format(self.name, self.method, key), 0)
      end
      for _, s in ipairs(slice.sources) do
        local base = apart(self.row, slice.base) and s.model == slice.base
        if not base and not s.parameters[key] and s.at == self.doc then
          self:fail(self.doc, "base_model", "%s merges base_model as one more model, and %s has no %s: list it under "
            .. "models with one, or leave base_model out", self.method, s.model.label, key)
        elseif not base and not s.parameters[key] then
          self:fail(s.at, "model", "model %s has no %s", s.model.label, key)
        end
      end
    end
  end
end

function Reader:check_lengths(slice, k)
  local length, first = nil, nil
  for _, s in ipairs(slice.sources) do
    local n = s.first and s.last - s.first
    if n and length and n ~= length then
      self:fail(s.at, "layer_range", "slice %d: its sources span %d and %d layers", k, length, n)
    end
    length, first = length or n, first or s
  end
end

-- module: the parameters of the module that the slice is of.
function Reader:slice(sources, t, base, module, k)
  local whole = k == nil
  local slice = { sources = sources, base = base, at = t, parameters = {}, module = module }
  self:check_twice(sources)
  for _, s in ipairs(sources) do self:finish_source(s, not whole) end
  if not whole then
    slice.parameters = self:parameters(t, "", false)
    self:check_lengths(slice, k)
  end
  self:check_base(slice, whole, whole and "" or (" (slice %d)"):format(k))
  self:check_required(slice)
  return slice
end

function Reader:read_models(doc, base, module)
  local list, sources = self:list(doc, "models", "models"), {}
  for i = 1, #list do sources[i] = self:source(list, i, "models", false) end
  self:name_apart()
  return { self:slice(sources, doc, base, module, nil) }
end

function Reader:read_slices(doc, base, module)
  local list, slices = self:list(doc, "slices", "slices"), {}
  for k = 1, #list do  -- names first: messages call models by them
    local t, place = list[k], ("slices[%d]"):format(k)
    if not (self.at[t] and self.at[t].kind == "map") then
      self:fail(list, k, "%s is %s, expected {sources: …}", place, self:kind(t))
    end
    self:keys(t, place, slice_keys)
    if t.sources == nil then self:fail(t, nil, "%s has no sources", place) end
    if t.residual_weight ~= nil and t.residual_weight ~= self.null then
      warn(("%s: residual_weight has no effect, in mergekit neither"):format(self:where(t, "residual_weight")))
    end
    local of, sources = self:list(t, "sources", place .. ".sources"), {}
    for i = 1, #of do sources[i] = self:source(of, i, place .. ".sources", true) end
    local own = t.base_model ~= nil and t.base_model ~= self.null
    slices[k] = { t, sources, own and self:model(t, "base_model", place .. ".base_model") or base }
  end
  self:name_apart()
  for k, s in ipairs(slices) do slices[k] = self:slice(s[2], s[1], s[3], module, k) end
  return slices
end

-- The slices of a document or a module, which has models or slices.
function Reader:read_inputs(t, base, module)
  local models, slices = self:has(t, "models"), self:has(t, "slices")
  if models == slices then
    self:fail(t, models and "slices" or nil, models and "both models and slices are given"
      or "neither models nor slices are given")
  end
  return models and self:read_models(t, base, module) or self:read_slices(t, base, module)
end

local module_keys = { models = true, slices = true, parameters = true }

-- Which modules a model has is told by its names (mergekit/build.lua looks).
function Reader:read_modules(doc, base)
  local map, groups = self:map(doc, "modules", "modules"), {}
  for i, name in ipairs(self.at[map].keys) do
    local t = self:map(map, name, "module " .. name)
    if not t then self:fail(map, name, "module %s is empty, expected models or slices", name) end
    self:keys(t, "module " .. name, module_keys)
    groups[i] = { module = name, where = self:where(map, name), at = t, parameters = self:parameters(t, "", false) }
  end
  if #groups == 0 then self:fail(doc, "modules", "modules is an empty map") end
  for _, g in ipairs(groups) do g.slices = self:read_inputs(g.at, base, g.parameters) end
  return groups
end

-- ---- the whole ----

local top_keys = { merge_method = true, models = true, slices = true, modules = true,
  base_model = true, parameters = true, dtype = true, out_dtype = true, tokenizer_source = true,
  tokenizer = true, chat_template = true, name = true }

-- Keys that the configurations of mergekit's other commands have.
local tools = { experts = "mergekit-moe; model.moe builds mixtures of experts", genome = "mergekit-evolve" }

function Reader:read_method(doc)
  for key, tool in pairs(tools) do
    if doc[key] ~= nil then self:fail(doc, key, "%s: this is a configuration of %s", key, tool) end
  end
  if doc.merge_method == nil or doc.merge_method == self.null then
    for _, key in ipairs(self.at[doc].keys) do
      local near = top_keys[key] and "" or did_you_mean(key, { merge_method = true })
      if near ~= "" then self:fail(doc, key, "unknown top-level key %s%s", key, near) end
    end
    error(("%s: the key merge_method is missing"):format(self.name), 0)
  end
  local name = self:text(doc, "merge_method", "merge_method")
  local row = catalogue.methods[name]
  if not row and catalogue.absent[name] then
    self:fail(doc, "merge_method", "merge_method '%s' is one of mergekit's that tarn does not have "
      .. "yet; it has %s", name, words(catalogue.methods))
  elseif not row then
    local all = {}
    for w in pairs(catalogue.methods) do all[w] = true end
    for w in pairs(catalogue.absent) do all[w] = true end
    local near = did_you_mean(name, all)
    self:fail(doc, "merge_method", "merge_method '%s' does not exist%s", name,
      near ~= "" and near or "; there are " .. words(catalogue.methods))
  end
  self.method, self.row = name, row
end

function Reader:read_dtype(doc, key)
  if doc[key] == nil or doc[key] == self.null then return nil end
  local name = self:text(doc, key, key):gsub("^torch%.", "")
  local dtype = dtypes[name]
  if not dtype then
    self:fail(doc, key, "%s '%s' is unknown; expected bfloat16, float16 or float32%s", key, name,
      did_you_mean(name, dtypes))
  end
  return dtype
end

-- The model that a tokenizer or a token comes from: one of those that are merged.
function Reader:listed(t, key, what)
  local path, lora = self:path(t, key, what)
  local m = self.by_path[lora and path .. "+" .. lora or path]
  if not m then self:fail(t, key, "%s '%s' is none of the models of this configuration", what, path) end
  return m
end

-- union, base, one of the models, or the folder of a tokenizer that belongs to none: {path =}.
function Reader:tokenizer_from(t, key, what)
  if t[key] == "union" or t[key] == "base" then return t[key] end
  local path, lora = self:path(t, key, what)
  return not lora and not self.by_path[path] and { path = path } or self:listed(t, key, what)
end

function Reader:token_source(t, what)
  local map = t.source
  local kind = self.at[map] and map.kind
  if kind == nil then return { model = self:listed(t, "source", what .. ", source") } end
  if kind == "zero" then
    self:keys(map, what .. ", source", { kind = true })
    return "zero"
  elseif kind ~= "model_token" then
    self:fail(map, "kind", "%s, source: kind is %s; expected zero or model_token", what, self:kind(kind))
  end
  self:keys(map, what .. ", source", { kind = true, model = true, token = true, token_id = true })
  if map.model == nil then self:fail(map, nil, "%s, source has no model", what) end
  if self:has(map, "token") == self:has(map, "token_id") then
    self:fail(map, nil, "%s, source: one of token and token_id is expected", what)
  end
  local token = map.token
  if self:has(map, "token_id") then
    token = math.tointeger(number_of(map.token_id))
    if not token or token < 0 then
      self:fail(map, "token_id", "%s, source: token_id is %s, expected a whole number", what, self:kind(map.token_id))
    end
  else
    self:text(map, "token", what .. ", source: token")
  end
  return { model = self:listed(map, "model", what .. ", source"), token = token }
end

function Reader:tokens(t)
  local map, out = self:map(t, "tokens", "tokens"), {}
  for _, token in ipairs(map and self.at[map].keys or {}) do
    local what = "token " .. tostring(token)
    if type(token) ~= "string" then self:fail(map, token, "%s is no text (quote it)", what) end
    local said, entry = self:map(map, token, what), {}
    if said then
      self:keys(said, what, { source = true, force = true })
      if self:has(said, "source") then entry.source = self:token_source(said, what) end
      if self:has(said, "force") then
        if type(said.force) ~= "boolean" then self:fail(said, "force", "%s: force is true or false", what) end
        entry.force = said.force
      end
      if entry.force and not entry.source then self:fail(said, "force", "%s has force and no source", what) end
    end
    out[token] = entry
  end
  return out
end

-- tokenizer_source, or `tokenizer`. Only the files of the models tell what moves (mergekit/build.lua).
function Reader:read_tokenizer(doc)
  if not self:has(doc, "tokenizer") then
    if not self:has(doc, "tokenizer_source") then return nil end
    local source = self:tokenizer_from(doc, "tokenizer_source", "tokenizer_source")
    return { at = self:where(doc, "tokenizer_source"), source = source, tokens = {} }
  elseif self:has(doc, "tokenizer_source") then
    self:fail(doc, "tokenizer", "both tokenizer_source and tokenizer are given")
  end
  local t = self:map(doc, "tokenizer", "tokenizer")
  self:keys(t, "tokenizer", { source = true, tokens = true, pad_to_multiple_of = true })
  local source = self:has(t, "source") and self:tokenizer_from(t, "source", "tokenizer, source") or "union"
  local multiple
  if self:has(t, "pad_to_multiple_of") then
    multiple = math.tointeger(number_of(t.pad_to_multiple_of))
    if not multiple or multiple < 1 or multiple > 1 << 20 then
      self:fail(t, "pad_to_multiple_of", "pad_to_multiple_of is %s, expected a whole number from 1",
        self:kind(t.pad_to_multiple_of))
    end
  end
  return { at = self:where(doc, "tokenizer"), source = source, tokens = self:tokens(t), multiple = multiple }
end

-- chat_template: auto, a name, or the template itself.
function Reader:read_template(doc)
  if not self:has(doc, "chat_template") then return nil end
  local text = self:text(doc, "chat_template", "chat_template")
  if text == "auto" then return { at = self:where(doc, "chat_template") } end
  local names = templates.names
  if not names[text] and (#text < 20 or not text:find("{", 1, true)) then
    self:fail(doc, "chat_template", "chat_template '%s' is neither auto, nor a template (at least 20 bytes with a "
      .. "brace), nor one of %s%s", text, words(names), did_you_mean(text, names))
  end
  return { at = self:where(doc, "chat_template"), text = text }
end

-- read(doc, at, name, null, documents) -> description; doc, at from yaml.read. documents: the names that
-- the documents of a file of several have. Errors are texts.
local function read(doc, at, name, null, documents)
  local r = setmetatable({ at = at, name = name, null = null, doc = doc, models = {}, by_path = {},
    documents = documents or {}, said = {} }, Reader)
  if doc == null then error(name .. ": the file is empty", 0) end
  if not (at[doc] and at[doc].kind == "map") then
    error(("%s: %s, expected a map with merge_method, models …"):format(name, r:kind(doc)), 0)
  end
  r:read_method(doc)
  r:keys(doc, nil, top_keys)
  if r:has(doc, "name") then r:text(doc, "name", "name") end
  local modules = r:has(doc, "modules")
  for _, key in ipairs { "models", "slices" } do
    if modules and r:has(doc, key) then r:fail(doc, "modules", "both modules and %s are given", key) end
  end
  local d = { method = r.method, row = r.row, dtype = r:read_dtype(doc, "dtype"),
    out_dtype = r:read_dtype(doc, "out_dtype"), template = r:read_template(doc), slices = {},
    name = name, document = documents and r:has(doc, "name") and doc.name or nil }
  r.top = r:parameters(doc, "", false)
  local base = r:has(doc, "base_model") and r:model(doc, "base_model", "base_model") or nil
  if base then base.base = true end
  d.groups = modules and r:read_modules(doc, base) or { { slices = r:read_inputs(doc, base, {}) } }
  for _, g in ipairs(d.groups) do table.move(g.slices, 1, #g.slices, #d.slices + 1, d.slices) end
  d.models, d.base, d.tokenizer = r.models, base, r:read_tokenizer(doc)
  for _, s in ipairs(d.slices) do
    s.where = r:where(s.at, s.at.models and "models" or nil)
    for _, source in ipairs(s.sources) do
      source.where = r:where(source.at, source.at.layer_range and "layer_range" or "model")
    end
  end
  d.top = r.top
  return d
end

-- The value of a setting for a tensor at position t (0..1) of its slice; nil: no rule fits.
local function value(setting, tensor, t)
  if setting.number then return setting.number end
  local g = setting.gradient
  if g then
    local x = t * (#g - 1)
    local i = math.floor(x)
    local f = x - i
    if f == 0 then return g[i + 1] end
    return (1 - f) * g[i + 1] + f * g[math.min(i + 2, #g)]
  end
  for _, rule in ipairs(setting.rules) do
    if not rule.filter or tensor:find(rule.filter, 1, true) then
      return value(rule.setting, tensor, t)
    end
  end
  return nil
end

-- The settings that apply, nearest first: of the source, the slice, the module, the top.
local function settings(d, slice, source, key)
  local list = {}
  for _, level in ipairs { source and source.parameters or {}, slice.parameters, slice.module, d.top } do
    if level[key] then list[#list + 1] = level[key] end
  end
  return list
end

-- What mergekit takes for a parameter that nobody gives; nil: it is required.
local function default_of(d, key)
  local default = d.row.parameters[key].default
  return type(default) == "boolean" and (default and 1 or 0) or default
end

-- The value of parameter `key` for one tensor by mergekit's precedence: source, slice, module, top
-- level, default; nil where it is required and nothing fits.
local function resolve(d, slice, source, key, tensor, t)
  for _, s in ipairs(settings(d, slice, source, key)) do
    local v = value(s, tensor, t)
    if v then return v end
  end
  return default_of(d, key)
end

return { read = read, resolve = resolve, settings = settings, value = value, default = default_of }
