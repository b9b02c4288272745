-- SPDX-License-Identifier: Apache-2.0
-- Parameters as a flat table name -> tensor, whatever they came in: one tensor, tables of tensors (names
-- are paths, "a.b"), a model. A gradient in another form of the same names fits too.
return function(core)
  local leaves = {}

  local function sorted_keys(t)
    local keys = {}
    for key in pairs(t) do keys[#keys + 1] = key end
    table.sort(keys, function(x, y)
      if type(x) == type(y) then return x < y end
      return type(x) == "number"
    end)
    return keys
  end

  local function walk(x, path, out, what)
    if type(x) == "table" then
      for _, key in ipairs(sorted_keys(x)) do
        walk(x[key], path == "" and tostring(key) or path .. "." .. tostring(key), out, what)
      end
      return
    end
    local kind = core.kind(x)
    if kind ~= "tensor" and kind ~= "number" then
      error(("%s: %s is a %s, not a tensor"):format(what, path, kind), 4)
    end
    out[path] = x
  end

  local function rebuilt(x, path, values)
    if type(x) ~= "table" then return values[path] end
    local out = {}
    for key, v in pairs(x) do
      out[key] = rebuilt(v, path == "" and tostring(key) or path .. "." .. tostring(key), values)
    end
    return out
  end

  local floating = require "floating"
  leaves.floating = floating

  -- The floating tensors of a model that is loaded where it is not; those without an axis get one, since
  -- what is computed of them would be numbers (core.with_values takes it off again).
  local function of_model(m)
    local out = {}
    m = m:load()
    for _, name in ipairs(m:names()) do
      local t = m:tensor(name)
      if floating[t.dtype] then out[name] = #t.shape == 0 and t:reshape { 1 } or t end
    end
    return out
  end

  -- x -> {[name] = tensor}, function(table like it) -> x with those values
  function leaves.flatten(x, what)
    local kind = core.kind(x)
    if kind == "tensor" or kind == "number" then
      return { value = x }, function(values) return values.value end
    elseif kind == "model" then
      return of_model(x), function(values) return core.with_values(x, values) end
    elseif kind ~= "table" then
      error(("%s: expected a tensor, a model or a table of tensors, got %s"):format(what, kind), 3)
    end
    local out = {}
    walk(x, "", out, what)
    return out, function(values) return rebuilt(x, "", values) end
  end

  leaves.names = sorted_keys

  -- f(name, …) for each name of a flat table, in byte order.
  function leaves.map(t, f)
    local out = {}
    for _, name in ipairs(sorted_keys(t)) do out[name] = f(t[name], name) end
    return out
  end

  return leaves
end
