-- SPDX-License-Identifier: Apache-2.0
-- A recipe file that is open: what it says of itself, where its inputs lie, which values its parameters
-- have. The script is in a host of its own and is asked in JSON (stdlib/bind/recipe.h); this side has the
-- files.
local json, decode = require "json", require "json.decode".decode
local make, hub = require "recipe.make", require "recipe.hub"
local nearest, attempt = require "nearest", require "attempt"

local limit = 60 -- seconds for an answer that reads no data
local most_config = 1 << 20 -- bytes of an adapter_config.json

local Session = {}
Session.__index = Session
Session.__name = "recipe session"

local function read(path)
  local file, why = io.open(path, "rb")
  if not file then error("cannot open " .. why, 0) end
  local text = file:read "a"
  file:close()
  return text or error(path .. " is not a file", 0)
end

local function folder_of(path)
  return path:match "^(.*/)[^/]*$" or "./"
end

-- Where an input lies that the recipe states the source of. Links must not lead out of the recipe's folder.
local function find(native, folder, row)
  if row.source:find "^hub:" then return hub.find(row.source) end
  local path, home = native.real(folder .. row.source), native.real(folder)
  if not path then error(string.format("%s%s is not there; give --%s PATH", folder, row.source, row.name), 0) end
  if path:sub(1, #home + 1) ~= home .. "/" then
    error(string.format("%s%s leads out of the recipe's folder; give --%s PATH", folder, row.source, row.name), 0)
  end
  return folder .. row.source
end

-- adapter_config.json names the model that the adapter was made for, and the script's side knows models by the
-- names of inputs alone: where it is that of the base's path or source, it becomes that of the input.
local function name_base(session, row, config)
  local function last(path) return path and (path:match "([^/]+)/*$" or path):gsub("@.*", ""):lower() end
  local base = row.adapter_of
  local path, source = last(session.paths[base]), nil
  for _, other in ipairs(session.about.inputs) do
    if other.name == base then source = last(other.source) end
  end
  return (config:gsub('("base_model_name_or_path"%s*:%s*)"([^"\\]+)"', function(before, name)
    local made_for = last(name)
    if made_for == path or made_for == source then return before .. '"' .. base .. '"' end
  end))
end

-- Of a folder as PEFT writes it the file with the factors, and the text that says how they are scaled.
local function open_adapter(native, session, row)
  local path = session.paths[row.name]
  local file = path .. "/adapter_model.safetensors"
  path = native.kind(path) == "folder" and native.kind(file) and file or path
  local config = (native.kind(path) == "folder" and path .. "/" or folder_of(path)) .. "adapter_config.json"
  local whole = native.kind(config) == "file" and native.real(config)
  local home = native.real(session.folder)
  if session.within[row.name] and whole and whole:sub(1, #home + 1) ~= home .. "/" then
    return string.format("%s leads out of the recipe's folder; give --%s PATH", config, row.name)
  end
  local text = whole and read(config)
  if not text or #text > most_config then
    return string.format("%s: %s is %s, and says how an adapter is scaled", row.name, config,
      text and "too large" or "not there")
  end
  session.paths[row.name], session.adapters[row.name] = path, name_base(session, row, text)
  session.adapter_hashes[row.name] = native.sha256(text)
end

local function find_all(native, session, given)
  local known, mistakes = {}, {}
  for _, row in ipairs(session.about.inputs) do
    known[row.name] = true
    if given[row.name] then
      if native.kind(given[row.name]) then
        session.paths[row.name] = given[row.name]
      else
        mistakes[#mistakes + 1] = string.format("--%s %s: nothing is there", row.name, given[row.name])
      end
    elseif row.source then
      local ok, path, revision = attempt(find, native, session.folder, row)
      session.paths[row.name] = ok and path or nil
      session.revisions[row.name] = ok and revision or nil
      session.within[row.name] = not row.source:find "^hub:"
      if not ok and not row.optional then mistakes[#mistakes + 1] = tostring(path) end
    elseif not row.optional then
      mistakes[#mistakes + 1] = string.format("where is the input %s%s? Give --%s PATH", row.name,
        row.doc and " (" .. row.doc .. ")" or "", row.name)
    end
  end
  for _, row in ipairs(session.about.inputs) do
    if row.adapter_of and session.paths[row.name] then
      mistakes[#mistakes + 1] = not session.paths[row.adapter_of]
        and string.format("%s is an adapter of %s, which is not given", row.name, row.adapter_of)
        or open_adapter(native, session, row)
    end
  end
  for name in pairs(given) do
    if not known[name] then
      local near = nearest(name, known)
      mistakes[#mistakes + 1] = string.format("the recipe has no input '%s'%s", name,
        near and "; did you mean '" .. near .. "'?" or "")
    end
  end
  table.sort(mistakes)
  return mistakes
end

local function object(t)
  local names, members = {}, {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do members[i] = { name, t[name] } end
  return json.object(members)
end

-- What the script answers; `more`: further models that it may open, by name.
function Session:ask(question, outputs, more)
  local paths = {}
  for name, path in pairs(self.paths) do paths[name] = path end
  for name, path in pairs(more or {}) do paths[name] = path end
  local asked = json.encode(json.object { { "params", object(self.params) }, { "adapters", object(self.adapters) },
    { "outputs", json.list(outputs or {}) } })
  if self.answer then return self.answer(question, asked, paths) end
  return decode(self.native.ask(self.host, question, asked, paths))
end

-- { {name, model, plan}, … }: what the recipe makes, as plans that were read back and checked.
function Session:plans()
  local out = {}
  for i, row in ipairs(self:ask "build".outputs) do
    local m = model.of_plan(row.plan, { input = self.paths })
    out[i] = { name = row.name, plan = self.answer and m:plan().json or row.plan, model = m }
  end
  if self.answer then require "recipe.untrusted".check_size(self.path, out, self.paths) end
  return out
end

-- The score of what the recipe makes, without saving it.
function Session:try() return self:ask "try".score end

-- Other values of parameters; raises with all that is wrong.
function Session:set(given)
  local params, mistakes = make.resolve(self.about.params, given)
  if #mistakes > 0 then error(self.path .. ": " .. table.concat(mistakes, "\n  "), 0) end
  self.params = params
end

-- open(native, path, {input =, set =, bare =}) -> session. bare: only what the recipe says of itself.
return function(native, path, o)
  if native.kind(path) == "folder" then error(path .. " is a folder, not the file of a recipe", 0) end
  local text = read(path)
  local session = setmetatable({ native = native, path = path, text = text, folder = folder_of(path), paths = {},
    revisions = {}, within = {}, adapters = {}, adapter_hashes = {}, params = {} }, Session)
  if o.untrusted then
    local ask = type(o.untrusted) == "function" and o.untrusted or tarn.untrusted
    session.answer = require "recipe.untrusted".answerer(path, text, limit, ask)
  else
    session.host = native.open(path, text, limit)
  end
  session.about = session:ask "describe"
  if o.bare then return session end
  local mistakes = find_all(native, session, o.input or {})
  if #mistakes > 0 then error(path .. ": " .. table.concat(mistakes, "\n  "), 0) end
  session:set(o.set or {})
  return session
end
