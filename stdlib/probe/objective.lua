-- SPDX-License-Identifier: Apache-2.0
-- A function of the parameters near a point, on vectors of one dimension: values and gradients at theta + d. What
-- searches near a point (sharpness) needs nothing else of a network.
return function(core)
  local flat_of = require "probe.flat"(core)
  local objective = {}

  -- of(what, f, theta, only) -> { n, dtype, centre (vector), value(d), both(d) -> value, gradient, unpack }. f: a loss,
  -- or a function that grad() can differentiate.
  function objective.of(what, f, theta, only)
    local loss = core.kind(f) == "loss"
    if not loss and type(f) ~= "function" then
      error(("%s: expected net:loss(data) or a function, got %s"):format(what, core.kind(f)), 0)
    end
    if core.kind(theta) == "model" then theta = theta:load() end
    if core.kind(theta) == "table" then error(what .. ": theta is a model or a tensor, not a table of tensors", 0) end
    local space = flat_of(what, theta, loss and f.net, only)
    local self = { n = space.n, dtype = space.dtype, centre = space.pack(theta), unpack = space.unpack }
    local function at(d) return d and theta + space.unpack(d) or theta end
    function self.value(d)
      local v = f(at(d))
      if core.kind(v) == "tensor" then return v:item() end
      if type(v) ~= "number" then error(what .. ": the function gives a " .. core.kind(v) .. ", not a number", 0) end
      return v
    end
    function self.both(d)
      if loss then
        local H <close> = f:linearize(at(d), { keep = false })
        return H.value, space.pack(H:grad())
      end
      local v, g = value_and_grad(f, at(d))
      return v, space.pack(g)
    end
    return self
  end

  -- The objectives of parts of m rows each, for a loss over data; what is left over at the end is a part too.
  function objective.parts(what, f, theta, only, m)
    if m == nil then return { objective.of(what, f, theta, only) } end
    if core.kind(f) ~= "loss" then error(what .. ": m is of a loss over data", 0) end
    local list, o = {}, {}
    for key, v in pairs(f.options) do o[key] = v end
    o.key, o.bn = f.key, f.bn
    require "probe.over"(core).chunks(what, f.data, m, function(batch)
      o.batch = batch.x.shape[1]
      list[#list + 1] = objective.of(what, f.net:loss({ x = batch.x, y = batch.y }, o), theta, only)
    end)
    return list
  end

  return objective
end
