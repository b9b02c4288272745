-- SPDX-License-Identifier: Apache-2.0
-- A network with tensors of other shapes: the same parts under the same names, other widths. Layers that state their
-- widths are made anew (their field `resize`); what is composed of parts takes its widths from them.
local net = require "nn.net"

local function same(a, b) return net.shape_text(a) == net.shape_text(b) end

-- The list of tensors with their new shapes, and whether one differs.
local function declared(list, at, shapes)
  local out, changed = {}, false
  for i, p in ipairs(list) do
    local shape = shapes[at .. p.name]
    out[i] = p
    if shape and not same(shape, p.shape) then
      if #shape ~= #p.shape then
        net.fail("nn: %s has the shape %s, where the network has %s: only widths may differ", at .. p.name,
          net.shape_text(shape), net.shape_text(p.shape))
      end
      changed = true
      local copy = {}
      for k, v in pairs(p) do copy[k] = v end
      copy.shape = { table.unpack(shape) }
      out[i] = copy
    end
  end
  return out, changed
end

local function resized(n, at, shapes)
  local weights, other = declared(n.weights, at, shapes)
  local buffers, more = declared(n.buffers, at, shapes)
  local changed, children = other or more, {}
  if changed and n.resize then
    return n.resize(function(name) return shapes[at .. name] or n.declared[name].shape end)
  end
  for i, c in ipairs(n.children) do
    local part = resized(c.net, at .. c.at, shapes)
    changed = changed or part ~= c.net
    children[i] = { name = c.name, net = part, at = c.at, group = c.group }
  end
  if not changed then return n end
  local copy = {}
  for k, v in pairs(n) do copy[k] = v end
  copy.weights, copy.buffers, copy.children = weights, buffers, children
  -- nn.from takes the widths from the tensors then. Other programs would take them from the config.
  local own = n.config and n.config.tarn
  copy.config = own and own.net and { tarn = { net = own.net, options = own.options, widths = "tensors" } } or nil
  return net.new(copy)
end

-- shapes: name -> shape; names that it lacks keep theirs. The network itself where nothing differs.
return function(root, shapes) return resized(root, "", shapes) end
