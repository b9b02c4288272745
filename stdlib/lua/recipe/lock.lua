-- SPDX-License-Identifier: Apache-2.0
-- recipe.lock: what a recipe stands on, written beside it. Weights are named by the digest of their
-- contents, so a copy that is split over other files is the same input; the files beside them that go into
-- the output (config, tokenizer …) by their SHA-256. The version of the program is told and not compared:
-- what would change bytes is the version of a method.
local json, decode, text_file = require "json", require "json.decode".decode, require "text_file"

local lock = {}

-- Files beside the weights of an input that count: what a saved model carries on.
local beside = { "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
  "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
  "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json", "preprocessor_config.json",
  "processor_config.json", "modules.json", "configuration.json", "scheduler_config.json",
  "feature_extractor_config.json", "normalizer.json" }
table.sort(beside)

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- { {name, sha256}, … } of the files beside the weights of a folder.
function lock.side_files(native, path)
  local out = {}
  if native.kind(path) == "folder" then
    for _, name in ipairs(beside) do
      local full = path .. "/" .. name
      local text = native.kind(full) == "file" and text_file(full, true) -- a FIFO would wait
      if text then out[#out + 1] = { name, native.sha256(text) } end
    end
  end
  return out
end

-- recipe.lua -> recipe.lock
function lock.path(path)
  return (path:gsub("%.lua$", "")) .. ".lock"
end

-- Methods with their versions, and seeds, of plans: { name = version }, { "output/node NAME" = seed }.
local function of_plans(plans)
  local methods, seeds = {}, {}
  for _, row in ipairs(plans) do
    for i, node in ipairs(decode(row.plan).nodes) do
      if type(node.method) == "string" and node.version then methods[node.method] = node.version end
      for _, value in ipairs(node.values or {}) do
        if value.name == "seed" and value.number then
          seeds[string.format("%snode %d", row.name == "" and "" or row.name .. " ", i - 1)] = value.number
        end
      end
    end
  end
  return methods, seeds
end

-- What a session stands on now: a table of plain values, by sections.
function lock.state(native, session, plans)
  local inputs, plan_hashes = {}, {}
  for _, row in ipairs(session.about.inputs) do
    local path = session.paths[row.name]
    if path then
      local entry = { digest = model.open(path):digest(), source = row.source, license = row.license,
        revision = session.revisions[row.name], files = {} }
      for _, file in ipairs(lock.side_files(native, path)) do entry.files[file[1]] = file[2] end
      entry.files["adapter_config.json"] = session.adapter_hashes[row.name]
      inputs[row.name] = entry
    end
  end
  for _, row in ipairs(plans) do plan_hashes[row.name] = native.sha256(row.plan) end
  local methods, seeds = of_plans(plans)
  return { format = 1, tarn = native.version, recipe = { name = session.about.name, version = session.about.version,
    sha256 = native.sha256(session.text) }, inputs = inputs, params = session.params, seeds = seeds, methods = methods,
    plans = plan_hashes }
end

-- Canonical text: keys in byte order, two spaces a level.
local function write(v, indent, out)
  if type(v) ~= "table" then
    out[#out + 1] = json.encode(v)
  elseif #v > 0 then
    out[#out + 1] = json.encode(json.list(v))
  else
    local keys = sorted(v)
    out[#out + 1] = "{"
    for i, key in ipairs(keys) do
      out[#out + 1] = (i > 1 and ",\n" or "\n") .. indent .. "  " .. json.encode(key) .. ": "
      write(v[key], indent .. "  ", out)
    end
    out[#out + 1] = #keys > 0 and "\n" .. indent .. "}" or "}"
  end
end

function lock.text(state)
  local out = {}
  write(state, "", out)
  return table.concat(out) .. "\n"
end

-- Writes the lock of a session beside its recipe; returns its path.
function lock.write(native, session)
  local path = lock.path(session.path)
  local text = lock.text(lock.state(native, session, session:plans()))
  local part = path .. ".part"
  local file, why = io.open(part, "wb")
  if not file then error("cannot write " .. why, 0) end
  local good = file:write(text)
  good = file:close() and good
  if not good or not os.rename(part, path) then
    os.remove(part)
    error("cannot write " .. path, 0)
  end
  return path
end

-- The text of a lock and its state, nil when there is no such file.
function lock.read(path)
  local text = text_file(path, true)
  if not text then return nil end
  local ok, state = pcall(decode, text)
  if not ok or type(state) ~= "table" or state.format ~= 1 then
    local why = ok and "" or " (" .. tostring(state) .. ")"
    error(string.format("%s is not a lock that this program can read%s", path, why), 0)
  end
  return text, state
end

local function show(v)
  local s = type(v) == "string" and v or json.encode(v)
  return #s > 40 and s:sub(1, 12) .. "…" or s
end

local function compare(where, was, now, out)
  if type(was) == "table" and type(now) == "table" and #was == 0 and #now == 0 then
    local keys = {}
    for key in pairs(was) do keys[key] = true end
    for key in pairs(now) do keys[key] = true end
    for _, key in ipairs(sorted(keys)) do
      compare(key == "" and where or where .. "." .. key, was[key], now[key], out) -- the one output has no name
    end
  elseif was == nil then
    out[#out + 1] = string.format("%s: not in the lock, now %s", where, type(now) == "table" and "there" or show(now))
  elseif now == nil then
    out[#out + 1] = string.format("%s: locked%s, now absent", where, type(was) == "table" and "" or " " .. show(was))
  elseif type(was) ~= type(now) or (type(was) == "table" and json.encode(was) ~= json.encode(now))
    or (type(was) ~= "table" and was ~= now) then
    out[#out + 1] = string.format("%s: locked %s, now %s", where, show(was), show(now))
  end
end

-- The differences between a lock and what is there, as a list of lines.
function lock.differences(state, now)
  local out, parts = {}, { "recipe", "params", "inputs", "methods", "seeds" }
  if state.tarn == now.tarn then parts[#parts + 1] = "plans" end -- a later program may write the same plan otherwise
  for _, part in ipairs(parts) do compare(part, state[part], now[part], out) end
  return out
end

-- The path of a session's lock, and what differs from it.
function lock.check(native, session)
  local path = lock.path(session.path)
  local text, state = lock.read(path)
  if not text then error(path .. ": no such lock", 0) end
  return path, lock.differences(state, lock.state(native, session, session:plans()))
end

return lock
