-- SPDX-License-Identifier: Apache-2.0
-- Running a recipe: plan, lock, save, check. Whatever can be refused is refused before the first byte is
-- written.
local licences, lock = require "recipe.licences", require "recipe.lock"
local session_of = require "recipe.session"

local function about(session, lock_text)
  local a, inputs = session.about, {}
  for i, row in ipairs(a.inputs) do
    inputs[i] = { label = row.name, source = row.source, license = row.license }
  end
  return { name = a.name, version = a.version, license = a.license, summary = a.summary, text = session.text,
    lock = lock_text, inputs = inputs }
end

-- Warnings on licences, from what the recipe says of its inputs and the cards of those say of themselves.
local function judge(session)
  local rows = {}
  for _, row in ipairs(session.about.inputs) do
    local path = session.paths[row.name]
    if path then rows[#rows + 1] = { row.name, row.license or licences.of_folder(path) } end
  end
  return licences.judge(session.about.license, rows)
end

-- Stops with the list of differences when a lock is there and says something else. -> its text or nil
local function check_lock(native, session, plans, which)
  if which == false then return nil end
  local path = type(which) == "string" and which or lock.path(session.path)
  local text, state = lock.read(path)
  if not text then
    if type(which) == "string" then error(path .. ": no such lock", 0) end
    return nil
  end
  local list = lock.differences(state, lock.state(native, session, plans))
  if #list > 0 then
    error(string.format("%s does not match (`tarn lock` writes it anew):\n  %s", path, table.concat(list, "\n  ")), 0)
  end
  return text
end

local function target(out, name)
  return name == "" and out or out .. "/" .. name
end

-- Several models go into one folder, or none of them does.
local function prepare(native, session, plans, o)
  if plans[1].name == "" then return end
  if o.out:find "%.safetensors$" then
    error(session.path .. ": the recipe makes several models, so the output is a folder", 0)
  end
  for _, row in ipairs(plans) do
    if native.kind(target(o.out, row.name)) and not o.overwrite then
      error(target(o.out, row.name) .. " is there already (--force replaces it)", 0)
    end
  end
  native.make_folder(o.out)
end

-- run(native, path, options of recipe.run) -> session
return function(native, path, o)
  local session = session_of(native, path, o)
  local plans = session:plans()
  local lock_text = check_lock(native, session, plans, o.lock)
  for _, warning in ipairs(judge(session)) do warn("licence of ", warning, " (a hint, not legal advice)") end
  prepare(native, session, plans, o)
  local outputs, saved = {}, {}
  for i, row in ipairs(plans) do
    local out = target(o.out, row.name)
    native.save(row.model, out, about(session, lock_text), o.overwrite)
    if o.digest ~= false then require "recipe.seal"(native, out) end
    outputs[i] = row.name
    saved[row.name == "" and "out" or "out:" .. row.name] = out
  end
  if session.about.check then session:ask("check", outputs, saved) end
  if session.about.unchecked then
    warn(path, ": what was saved is not checked: the recipe's check reads data, which it does not get without trust")
  end
  session.saved, session.outputs, session.locked = saved, outputs, lock_text ~= nil
  return session
end
