-- SPDX-License-Identifier: Apache-2.0
-- Parameters as one vector: a tensor of one dimension, with the way there and back. What makes many products of
-- such vectors (bases, projections) is then matrix algebra on [k, n] instead of a loop over tensors.
return function(core)
  local net_of = require "nn.net"
  local floating = require "floating"
  local expect = require "expect"(core.kind)

  -- Names of the floating parameters of theta, in theta's order; buffers of the network are none.
  local function chosen(what, theta, net, only)
    local buffer = {}
    for _, p in ipairs(net and net_of.is(net) and net:params() or {}) do buffer[p.name] = p.buffer end
    local picked
    if only ~= nil then
      if core.kind(theta) ~= "model" then error(what .. ": only needs a model, not a table of tensors", 0) end
      picked = {}
      for _, name in ipairs(theta:only(only):names()) do picked[name] = true end
    end
    local order = {}
    if core.kind(theta) == "model" then
      order = theta:names()
    else
      for name in pairs(theta) do order[#order + 1] = expect.one(what, "a name", name, "a text") end
      table.sort(order)
    end
    local names = {}
    for _, name in ipairs(order) do
      local t = core.kind(theta) == "model" and theta:tensor(name)
        or expect.one(what, tostring(name), theta[name], "a tensor")
      if floating[t.dtype] and not buffer[name] and (not picked or picked[name]) then names[#names + 1] = name end
    end
    if #names == 0 then error(what .. ": there are no floating parameters" .. (only and " in only" or ""), 0) end
    return names
  end

  -- For a tensor: itself, in one dimension.
  local function of_tensor(t)
    local shape = t.shape
    local wide = t.dtype == "f64" and "f64" or "f32"
    return { n = t:numel(), dtype = wide, pack = function(v) return v:to(wide):flatten() end,
      unpack = function(v) return v:reshape(shape) end }
  end

  -- flat(what, theta, net or nil, only or nil) -> { n, dtype, names, pack(x) -> vector, unpack(vector) -> x }.
  -- theta: a model, a table of tensors or a tensor. unpack gives a model of mass 0 of the chosen names alone, whose
  -- tensors are views of the vector (which is frozen by that).
  return function(what, theta, net, only)
    local kind = core.kind(theta)
    if kind == "tensor" then return of_tensor(theta) end
    if kind ~= "model" and kind ~= "table" then
      error(("%s: expected a model or a table of tensors, got %s"):format(what, kind), 0)
    end
    local names = chosen(what, theta, net, only)
    local function tensor_of(m, name)
      if kind == "model" then return m:tensor(name) end
      return m[name]
    end
    local shapes, counts, n, dtype = {}, {}, 0, "f32"
    for i, name in ipairs(names) do
      local t = tensor_of(theta, name)
      shapes[i], counts[i] = t.shape, t:numel()
      n = n + counts[i]
      if t.dtype == "f64" then dtype = "f64" end
    end
    local self = { n = n, dtype = dtype, names = names }
    function self.pack(m)
      local list = {}
      for i, name in ipairs(names) do list[i] = tensor_of(m, name):to(dtype):flatten() end
      return tensor.cat(list, 1)
    end
    function self.unpack(v)
      local out, at = {}, 1
      for i, name in ipairs(names) do
        local t = v[{ { at, at + counts[i] - 1 } }]:reshape(shapes[i])
        if kind == "model" then out[i] = { name, t } else out[name] = t end
        at = at + counts[i]
      end
      return kind == "model" and model.new(out, { mass = 0 }) or out
    end
    return self
  end
end
