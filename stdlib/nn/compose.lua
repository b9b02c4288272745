-- SPDX-License-Identifier: Apache-2.0
-- Networks of networks: one after the other, side by side, around a shortcut; layers of one's own; and the cutting
-- and joining of chains.
local net = require "nn.net"
local layer = require "nn.layer"
local nearest = require "nearest"

local compose = {}

-- A network, a function(x) or the name of an activation, as a network.
local function as_net(what, x)
  if net.is(x) then return x end
  if type(x) == "string" then
    layer.activation_function(what, x)
    return layer.activation(x)
  end
  if type(x) == "function" then return net.new { kind = "function", forward = function(_, y) return x(y) end } end
  net.fail("%s: expected a layer, a function or the name of an activation, got %s", what, net.kind(x))
end

-- { layer, {"name", layer}, … } as children; names default to 0, 1, … as in torch. `also`: what else it may hold.
local function parts(what, list, also)
  local children, last = {}, 0
  if net.kind(list) ~= "table" then net.fail("%s: expected a list of layers, got %s", what, net.kind(list)) end
  for key in pairs(list) do
    if math.type(key) ~= "integer" and key ~= also then
      net.fail("%s: '%s' is no part of the list: a named part is {\"%s\", layer}", what, tostring(key), tostring(key))
    end
    last = math.type(key) == "integer" and math.max(key, last) or last
  end
  for i, entry in ipairs(list) do
    local named = type(entry) == "table" and not net.is(entry)
    if named and type(entry[1]) ~= "string" then
      net.fail("%s: part %d is a %s; expected a layer or {\"name\", layer}", what, i, net.kind(entry))
    end
    local part
    if named then part = entry[2] else part = entry end
    children[i] = { name = named and entry[1] or tostring(i - 1), net = as_net(what, part) }
  end
  if #children < last then net.fail("%s: part %d is nil; expected a layer", what, #children + 1) end
  return children
end

function compose.sequential(list, o)
  local children = parts("nn.sequential", list)
  if #children == 0 then net.fail("nn.sequential: expected a list of layers") end
  o = o or {}
  if o.input ~= nil then layer.sizes("nn.sequential", "input", o.input) end
  return net.new { kind = "sequential", chain = true, children = children, input = o.input or children[1].net.input }
end

-- children: { {name =, net =, at =, group =}, … } as they stand. For architectures.
function compose.chain(o)
  o.chain = true
  return net.new(o)
end

local joins = {
  add = function(a, ...)
    for _, b in ipairs { ... } do a = a + b end
    return a
  end,
  mean = function(a, ...)
    local n = 1 + select("#", ...)
    for _, b in ipairs { ... } do a = a + b end
    return a / n
  end,
  cat = function(...)
    local list = { ... }
    return tensor.cat(list, #list[1].shape)
  end,
}

-- The same input through every part, and their outputs joined.
function compose.branch(list, join)
  local children = parts("nn.branch", list, "join")
  join = join or list.join or "add"
  local f = type(join) == "function" and join or joins[join]
  if not f then
    net.fail("nn.branch: join = %s; expected \"add\", \"mean\", \"cat\" or a function", net.shown(join))
  end
  if #children == 0 then net.fail("nn.branch: expected a list of layers") end
  return net.new { kind = "branch", group = "layer", children = children,
    forward = function(s, x)
      local outputs = {}
      for i, c in ipairs(children) do outputs[i] = s:call(c.name, x) end
      return f(table.unpack(outputs))
    end }
end

function compose.checkpoint(body)
  local copy = { again = true }
  for key, v in pairs(as_net("nn.checkpoint", body)) do copy[key] = v end
  return net.new(copy)
end

-- x + f(x), or shortcut(x) + f(x), and an activation after it.
function compose.residual(body, o)
  o = o or {}
  local children = { { name = "body", net = as_net("nn.residual", body), at = "" } }
  if o.shortcut then children[2] = { name = "shortcut", net = as_net("nn.residual", o.shortcut) } end
  local act = o.act and layer.activation_function("nn.residual", o.act)
  return net.new { kind = "residual", group = "layer", children = children,
    forward = function(s, x)
      local y = s:call("body", x) + (o.shortcut and s:call("shortcut", x) or x)
      return act and act(y) or y
    end }
end

-- ---- layers of one's own ----

local roles = { weight = true, bias = true, embedding = true, scale = true, shift = true }

-- {3, 2} or { shape = {3, 2}, init = } as the description of a tensor.
local function described(name, t)
  if type(name) ~= "string" or net.kind(t) ~= "table" and net.kind(t) ~= "shape" then
    net.fail("nn.layer: the shape of %s is %s; expected { name = {3, 2} } or { {\"name\", {3, 2}} }", net.shown(name),
      net.shown(t))
  end
  local shape = layer.sizes("nn.layer", "the shape of " .. name, t.shape or t)
  local fan_in = #shape > 1 and layer.count(shape, 2) or shape[1]
  local fan_out = layer.count(shape) // (#shape > 1 and shape[2] or 1)
  local how = t.init or #shape > 1 and "weight" or "shift"
  local p = { name = name, shape = { table.unpack(shape) }, fan_in = math.max(fan_in or 1, 1), fan_out = fan_out }
  if type(how) == "number" then
    p.value, p.role = how, "shift"
  elseif roles[how] then
    p.role = how
  else
    net.fail("nn.layer: init of %s is %s; expected a number, weight, bias, embedding, scale or shift",
      name, net.shown(how))
  end
  return p
end

-- {name = shape, …} in byte order, or { {name, shape}, … } in order.
local function described_all(list)
  local out, names = {}, {}
  if list ~= nil and net.kind(list) ~= "table" then
    net.fail("nn.layer: expected tables of shapes by name, got %s", net.kind(list))
  end
  for i, entry in ipairs(list or {}) do
    if type(entry) ~= "table" then
      net.fail("nn.layer: tensor %d is %s; expected {\"name\", shape}", i, net.shown(entry))
    end
    out[i] = described(entry[1], entry[2])
  end
  for name in pairs(list or {}) do
    if type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do out[#out + 1] = described(name, list[name]) end
  return out
end

function compose.layer(o)
  if type(o) ~= "table" or type(o.forward) ~= "function" then
    net.fail("nn.layer: expected { params = { weight = {3, 2} }, forward = function(s, x) … end }")
  end
  for option, of in pairs { kind = "string", note = "string", group = "string", cost = "function" } do
    if o[option] ~= nil and type(o[option]) ~= of then
      net.fail("nn.layer: %s is a %s; expected a %s", option, net.kind(o[option]), of)
    end
  end
  local forward = o.forward
  return net.new { kind = o.kind or "layer", weights = described_all(o.params), buffers = described_all(o.buffers),
    children = parts("nn.layer", o.parts or {}), group = o.group or o.parts and "layer", note = o.note, cost = o.cost,
    forward = function(s, x, ...) return forward(s, x, ...) end }
end

-- ---- cutting chains ----

-- The leaves of nested chains with their full paths, where their tensors live, and the group that they are in.
local function links(n, path, at, group, out)
  for _, c in ipairs(n.children) do
    local where, below = path == "" and c.name or path .. "." .. c.name, at .. c.at
    local place = group or c.group or c.net.group
    if c.net.chain then
      links(c.net, where, below, place, out)
    else
      out[#out + 1] = { name = where, net = c.net, at = below, group = place }
    end
  end
  return out
end

-- The links up to `name`, and those behind it.
local function cut(what, root, name)
  if type(name) ~= "string" then net.fail("%s: expected the name of a part, got %s", what, net.kind(name)) end
  if not root.chain then net.fail("%s: a %s is no chain of parts", what, root.kind) end
  local before, behind, last = {}, {}, nil
  local list = links(root, "", "", root.group, {})
  for i, c in ipairs(list) do
    if c.name == name or c.name:sub(1, #name + 1) == name .. "." then last = i end
  end
  if not last then
    local names = {}
    for _, c in ipairs(list) do names[c.name] = true end
    local near = nearest(name, names)
    net.fail("%s: the network has no part %s to cut behind%s", what, name,
      near and ("; did you mean %s?"):format(near) or ": parts that can be cut are the links of its chain")
  end
  for i, c in ipairs(list) do table.insert(i <= last and before or behind, c) end
  return before, behind
end

local function piece(root, children, input)
  return net.new { kind = root.kind, chain = true, children = children, scheme = root.scheme, input = input }
end

function compose.upto(root, name)
  local before = cut("net:upto", root, name)
  return piece(root, before, root.input)
end

function compose.from(root, name)
  local _, behind = cut("net:from", root, name)
  if #behind == 0 then net.fail("net:from: %s is the last part of the network", name) end
  return piece(root, behind)
end

return compose
