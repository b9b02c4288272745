-- SPDX-License-Identifier: Apache-2.0
-- A function of models that remembers. The key of a model is a fingerprint: of the plan and of its
-- input files where there are such, else of the values. The same userdata is looked up without one.
local read_lines = require "search.journal".read

local function plain(v)
  local kind = type(v)
  if kind == "table" then
    for _, item in pairs(v) do
      if not plain(item) then return false end
    end
    return getmetatable(v) == nil
  end
  return kind == "number" or kind == "string" or kind == "boolean"
end

return function(f, options, check, core)
  if type(options) == "string" then options = { path = options } end
  check("cache", options, { "path", "key" })
  local expect = require "expect"(core.kind)
  expect("cache", options, { path = "the path of a file" })
  local o = options or {}
  if not expect.fits(f, "a function") then
    error("cache: expected a function of a model, got " .. core.kind(f), 3)
  end
  local key = o.key or type(f) == "table" and f.key or nil
  if type(key) == "function" then key = key() end
  if o.path and not key then
    error("cache: a file is only right for the function that it was made with; give key = \"a text that changes "
      .. "when the function does\" (the functions of eval know theirs)", 3)
  end
  local seen, known = setmetatable({}, { __mode = "k" }), {}
  if o.path then
    for _, row in ipairs(read_lines(o.path)) do
      if row.key == key then known[row.model] = row.value end
    end
  end

  return function(x, ...)
    local kind = core.kind(x)
    if select("#", ...) > 0 or (kind ~= "model" and kind ~= "tensor") then
      error("cache: the function is called with one model or tensor, got "
        .. (select("#", ...) > 0 and "more" or kind), 2)
    end
    local id = kind == "model" and seen[x] or core.fingerprint(x)
    if kind == "model" then seen[x] = id end -- a tensor may be changed in place
    local value = known[id]
    if value == nil then
      value = f(x)
      if value == nil then error("cache: the function gave nothing", 2) end
      known[id] = value
      if o.path then
        if not plain(value) then
          error("cache: only numbers, texts and tables of them can be kept in a file, got a " .. core.kind(value), 2)
        end
        require "search.journal".append(o.path, { key = key, model = id, value = value })
      end
    end
    return value
  end
end
