-- SPDX-License-Identifier: Apache-2.0
-- How the axes of a network's tensors hang together: the network is recorded, with nothing of it computed, and the
-- axis tracer (vm/op/axes.h, vm/op/symmetry.h) reads the graph. What comes out:
--
--   classes  [c] = {id =, name =, size =, kind = "permutation" | "signed" | "scaled" | "linear", under = {c1, …}} of
--            all that may move; ids are the same whatever is pinned, so there are gaps. under: classes on whose index
--            this one's map may depend (inside a head, under the head), outermost first
--   tensors  [name] = {shape =, axes = {{segment, …}, …}}; a segment is {offset =, size =, dual =, factor, …}, with
--            factors {size =, class =, dual =} in row-major order; without a class it stays. dual: it takes the inverse
--            (who reads features), else the map (who makes them). The segment's is that of its first factor that moves
--   sites    [path] = {input = {axes =, rank =}, output = …}: the values that go into and come out of parts
local net_of = require "nn.net"

local layout = {}
local traced = setmetatable({}, { __mode = "k" })
local core

function layout.open(functions) core = functions end

-- ---- recording ----

local function zeros(shape)
  local ones = {}
  for i = 1, math.max(#shape, 1) do ones[i] = 1 end
  return tensor.zeros(ones):expand(#shape == 0 and { 1 } or shape)
end

local function is_tensor(v) return core.kind(v) == "tensor" end

-- Tensors in a value that a network returned.
local function leaves(v, out)
  if is_tensor(v) then
    out[#out + 1] = v
  elseif type(v) == "table" and not getmetatable(v) then
    for _, one in pairs(v) do leaves(one, out) end
  end
  return out
end

local function input_of(root, x)
  if x ~= nil then return x end
  if not root.input then
    net_of.fail("align: this network does not say what inputs it takes; give one: { x = a batch }")
  end
  local shape = { 1, table.unpack(root.input) }
  return root.tokens and tensor.full(shape, 0, { dtype = "i64" }) or tensor.zeros(shape)
end

-- What the tracer says: classes by number, tensors by name, sites by path.
local function trace(root, x)
  local theta, list = {}, net_of.structure(root).tensors
  for _, t in ipairs(list) do theta[t.name] = zeros(t.shape) end
  local given = input_of(root, x)
  local floating = is_tensor(given) and given.dtype:find "f" and given or nil
  local found
  local at = { theta = theta, x = floating }
  jvp(function(p)
    local values, places, seen = {}, {}, {}
    local function add(path, what, v)
      if not is_tensor(v) then return end
      values[#values + 1], places[#places + 1] = v, { path = path, what = what, rank = #v.shape }
    end
    local y = net_of.run(root, p.theta, p.x or given, { watch = function(_, path, into, out)
      if seen[path] then return end
      seen[path] = true
      add(path, "input", into)
      add(path, "output", out)
    end })
    local params = {}
    for i, t in ipairs(list) do params[i] = p.theta[t.name] end
    local classes, tensors, sites = core.axes(leaves(y, {}), params, values)
    found = { classes = classes, tensors = {}, sites = {} }
    for i, t in ipairs(list) do found.tensors[t.name] = tensors[i] end
    for i, place in ipairs(places) do
      local site = found.sites[place.path] or {}
      found.sites[place.path] = site
      site[place.what] = { axes = sites[i], rank = place.rank }
    end
    return 0
  end, at, {})
  return found
end

-- ---- names ----

-- A class is called by the first tensor that makes its features, with its place in an axis that holds others.
local function name_classes(root, found)
  local names, taken = {}, {}
  local function visit(dual)
    for _, t in ipairs(net_of.structure(root).tensors) do
      local stem = t.name:match "^(.+)%.weight$" or t.name:match "^(.+)%.bias$" or t.name
      for _, axis in ipairs(found.tensors[t.name]) do
        for s, segment in ipairs(axis) do
          for k, factor in ipairs(segment) do
            local c = factor.class
            if c and not names[c] and factor.dual == dual then
              local name = stem .. (#axis > 1 and ("[%d]"):format(s) or "")
                .. (#segment > 1 and (":%d"):format(k) or "")
              taken[name] = (taken[name] or 0) + 1
              names[c] = taken[name] == 1 and name or ("%s (%d)"):format(name, taken[name])
            end
          end
        end
      end
    end
  end
  visit(false)
  visit(true)
  return names
end

-- ---- what moves ----

local function each_factor(axes, f)
  for _, axis in ipairs(axes) do
    for _, segment in ipairs(axis) do
      for _, factor in ipairs(segment) do f(factor) end
    end
  end
end

-- The classes that a list of names and patterns means: of classes, or of tensors, whose classes are all meant.
local function meant(found, names, option, list)
  local by, chosen, all = {}, {}, {}
  for c, name in pairs(names) do by[name] = { [c] = true } end
  for name, axes in pairs(found.tensors) do
    by[name] = by[name] or {}
    each_factor(axes, function(factor) if factor.class then by[name][factor.class] = true end end)
  end
  for name in pairs(by) do all[name] = tensor.zeros { 1 } end
  local text = model.new(all)
  for _, pattern in ipairs(type(list) == "table" and list or { list }) do
    if type(pattern) ~= "string" then
      net_of.fail("align: %s holds a %s; expected names or patterns of tensors or groups", option, type(pattern))
    end
    local hits = by[pattern] and { pattern } or text:names(pattern)
    if #hits == 0 then
      local near = require "nearest"(pattern, by)
      net_of.fail("align: %s: no tensor or group is called '%s'%s", option, pattern,
        near and ("; did you mean '%s'?"):format(near) or " or matches it")
    end
    for _, name in ipairs(hits) do
      for c in pairs(by[name]) do chosen[c] = true end
    end
  end
  return chosen
end

-- Axes with the classes that do not move left out.
local function moving(axes, classes)
  local out = {}
  for d, axis in ipairs(axes) do
    local own = {}
    for s, segment in ipairs(axis) do
      local one = { offset = segment.offset, size = segment.size, dual = false }
      for k = #segment, 1, -1 do
        local factor = segment[k]
        local moves = factor.class and classes[factor.class]
        one[k] = moves and { size = factor.size, class = factor.class, dual = factor.dual } or { size = factor.size }
        if moves then one.dual = factor.dual end
      end
      own[s] = one
    end
    out[d] = own
  end
  return out
end

local function made(root, found, pin, free)
  local names, classes, tensors, sites = name_classes(root, found), {}, {}, {}
  local held = pin and meant(found, names, "pin", pin) or {}
  local freed = free and meant(found, names, "free", free) or {}
  for c, class in ipairs(found.classes) do
    if names[c] and not held[c] and (freed[c] or not class.anchored) then
      classes[c] = { id = c, name = names[c], size = class.size, kind = class.kind }
    end
  end
  for c, class in pairs(classes) do
    class.under = {}
    for _, g in ipairs(found.classes[c].under) do
      if classes[g] then class.under[#class.under + 1] = g end
    end
  end
  for _, t in ipairs(net_of.structure(root).tensors) do
    tensors[t.name] = { shape = { table.unpack(t.shape) }, axes = moving(found.tensors[t.name], classes) }
  end
  for path, site in pairs(found.sites) do
    sites[path] = {}
    for what, v in pairs(site) do sites[path][what] = { axes = moving(v.axes, classes), rank = v.rank } end
  end
  return { classes = classes, tensors = tensors, sites = sites }
end

-- The layout of a network. o: pin, free (names or patterns of tensors or groups: what stays; what may move though it is
-- seen from outside), x (a batch, where the network does not say what it takes).
function layout.of(root, o)
  o = o or {}
  if not net_of.is(root) then net_of.fail("align: expected a network (nn.…), got a %s", core.kind(root)) end
  local found = traced[root]
  if not found then
    local raw = trace(root, o.x)
    found = { raw = raw, whole = made(root, raw), x = o.x }
    traced[root] = found
  end
  return (o.pin or o.free) and made(root, found.raw, o.pin, o.free) or found.whole
end

-- The batch that a network was recorded with, where one had to be given.
function layout.example(root) return traced[root] and traced[root].x end

return layout
