-- SPDX-License-Identifier: Apache-2.0
-- Hashes that were recorded against what is there.
local lock, saved_of, attempt = require "recipe.lock", require "recipe.saved", require "attempt"

local function row(what, result, detail) return { what = what, result = result, detail = detail } end

local function compare(what, recorded, found)
  if recorded == found then return row(what, "same") end
  return row(what, "different", string.format("recorded %.12s…, found %.12s…", recorded, found))
end

local function output_rows(native, m, path, saved, out)
  local output = saved.provenance.output
  if type(output) ~= "table" or type(output.digest) ~= "string" then
    out[#out + 1] = row("output", "unknown", "no digest was recorded (a run of a recipe into a folder records one); "
      .. "tarn replay compares every byte")
  else
    out[#out + 1] = compare("output", output.digest, m:digest())
  end
  local now = {}
  for _, file in ipairs(lock.side_files(native, path)) do now[file[1]] = file[2] end
  local names = {}
  for name, sum in pairs(type(output) == "table" and type(output.files) == "table" and output.files or {}) do
    if type(sum) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    out[#out + 1] = now[name] and compare(name, output.files[name], now[name]) or row(name, "different", "it is gone")
  end
end

local function input_row(input, given)
  local what, path = "input " .. input.label, given[input.label] or input.path
  if not input.digest then return row(what, "unknown", "it was in memory") end
  if not path then
    return row(what, "unknown", "where it lies is not recorded; give --input " .. input.label .. "=PATH")
  end
  local ok, m = attempt(model.open, path)
  if not ok then return row(what, "unknown", tostring(m)) end
  return compare(what, input.digest, m:digest())
end

return function(native, path, o)
  local m, out = model.open(path), {}
  local saved = saved_of(m, path)
  output_rows(native, m, path, saved, out)
  if saved.plan and type(saved.provenance.plan) == "string" then
    out[#out + 1] = compare("plan", saved.provenance.plan, native.sha256(saved.plan))
  end
  for _, input in ipairs(saved.inputs) do out[#out + 1] = input_row(input, o.input or {}) end
  return out
end
