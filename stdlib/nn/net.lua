-- SPDX-License-Identifier: Apache-2.0
-- A network is a value: which tensors it has, under PyTorch's names and in its layouts, and what it does with them.
-- A layer is a small network, so there is one type. Its fields:
--
--   kind      what it is called in tables and messages: "linear"
--   weights   { {name =, shape =, role =, fan_in =, fan_out =}, … }; roles say how it is initialised (nn.init)
--   buffers   { {name =, shape =, value =}, … }
--   children  { {name =, net =, at =, group =}, … } in order. `at` is where the child's tensors live below this
--             network, its name with a dot unless something else is said
--   chain     true: the children are applied one after the other; such a network can be cut (upto, from)
--   forward   function(s, x, …) -> y otherwise; s is a scope: s.weight is a tensor of the network, s:call("conv1", x)
--             applies a child, s:fail(…) raises with the path
--   group     what schedules by depth see in it: "layer" (all of it is one layer), "beside" (it belongs to the layer
--             before it: norms), "embed", "final", "head"; nil: its children decide
--   again     true: a backward pass computes it again instead of keeping what it computes
--   frozen    true: it runs in evaluation mode whatever the mode of the network around it
--   resize    function(shape) -> this layer with other widths; shape(name) is that of a tensor (nn.resize)
--   cost      function(net, x, y) -> floating-point operations of its products, from shapes
--
-- Nothing here knows whether tensors are in memory or recorded.
local nearest = require "nearest"

local module = {}
local Net = {}

-- ---- errors ----

-- A message that is given the caller's position when it leaves the network.
local Message = {}
Message.__tostring = function(m) return m.text end

local function fail(text, ...)
  error(setmetatable({ text = select("#", ...) > 0 and text:format(...) or text }, Message), 0)
end
module.fail = fail

-- An error as it was raised; of ours the text, whose place is still to be told.
function module.text_of(err) return getmetatable(err) == Message and err.text or err end

-- f(…), where an error of ours is raised at the place that called the function that ends in this call.
local function guarded(f, ...)
  local results = table.pack(pcall(f, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local err = results[2]
  local text = module.text_of(err)
  error(text, text == err and 0 or 2)
end
module.guarded = guarded

-- "tensor", "model" or the type of Lua; stdlib/nn.lua gives a function that tells more kinds apart.
local function shape_of(v) return v.shape end
function module.kind(v)
  return type(v) ~= "userdata" and type(v) or pcall(shape_of, v) and "tensor" or "model"
end
local function kind(v) return module.kind(v) end

module.shown = require "expect"(kind).shown

local function shape_text(shape) return "[" .. table.concat(shape, ", ") .. "]" end
module.shape_text = shape_text

local function same_shape(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local function join(path, name) return path == "" and name or name == "" and path or path .. "." .. name end

-- ---- making ----

function module.new(n)
  n.weights, n.buffers, n.children = n.weights or {}, n.buffers or {}, n.children or {}
  n.declared, n.child = {}, {}
  for _, list in ipairs { n.weights, n.buffers } do
    for _, p in ipairs(list) do
      if n.declared[p.name] then fail("nn: %s has two tensors called %s", n.kind, p.name) end
      n.declared[p.name] = p
    end
  end
  for _, c in ipairs(n.children) do
    c.at = c.at or c.name .. "."
    if n.child[c.name] then fail("nn: %s has two parts called %s", n.kind, c.name) end
    n.child[c.name] = c
  end
  return setmetatable(n, Net)
end

function module.is(x) return getmetatable(x) == Net end

-- visit(net, path, at, scheme) for the network and all its parts, in order. `at` is put before the names of its
-- tensors; `scheme` is the way of initialising that the nearest network around it names.
local function walk(n, visit, path, at, scheme)
  path, at, scheme = path or "", at or "", n.scheme or scheme
  visit(n, path, at, scheme)
  for _, c in ipairs(n.children) do walk(c.net, visit, join(path, c.name), at .. c.at, scheme) end
end
module.walk = walk

-- ---- layers, as schedules by depth see them ----

local function has_tensors(n)
  local any = false
  walk(n, function(part) any = any or #part.weights + #part.buffers > 0 end)
  return any
end

-- { {place =, name =, names = {…}, at = {…}}, … } in order of the forward pass; at: where its tensors live.
local function find_groups(root)
  local groups, seen = {}, {}
  local function open(place, path)
    local last = groups[#groups]
    if last and (place == "beside" or last.place == place and place ~= "layer") then return last end
    place = place == "beside" and "layer" or place
    last = { place = place, name = place ~= "layer" and place or path ~= "" and path or "layer", names = {}, at = {} }
    groups[#groups + 1] = last
    return last
  end
  local function add(g, n, at)
    for _, list in ipairs { n.weights, n.buffers } do
      for _, p in ipairs(list) do
        if not seen[at .. p.name] then -- a tied tensor belongs to where it stands first
          seen[at .. p.name] = true
          g.names[#g.names + 1], g.at[#g.at + 1] = at .. p.name, at == "" and p.name or at:sub(1, -2)
        end
      end
    end
  end
  local function visit(n, path, at, group)
    group = group or n.group or #n.children == 0 and "layer"
    if not has_tensors(n) then return end
    if group then
      local g = open(group, path)
      walk(n, function(part, _, where) add(g, part, where) end, path, at)
      return
    end
    if #n.weights > 0 then add(open("embed", path), n, at) end
    for _, c in ipairs(n.children) do visit(c.net, join(path, c.name), at .. c.at, c.group) end
  end
  visit(root, "", "")
  local filled = {}
  for _, g in ipairs(groups) do filled[#filled + 1] = #g.names > 0 and g or nil end
  return filled
end

-- What follows from the structure alone, made once: tensors in order, groups, depth.
local known = setmetatable({}, { __mode = "k" })

local function structure(root)
  if known[root] then return known[root] end
  local s = { tensors = {}, by_name = {}, groups = find_groups(root), depth = 0 }
  walk(root, function(n, path, at, scheme)
    for k, list in ipairs { n.weights, n.buffers } do
      for _, p in ipairs(list) do
        local t = { name = at .. p.name, shape = p.shape, path = path, spec = p, buffer = k == 2, scheme = scheme }
        if not s.by_name[t.name] then -- a tensor may be used in two places
          s.by_name[t.name] = t
          s.tensors[#s.tensors + 1] = t
        end
      end
    end
  end)
  for _, g in ipairs(s.groups) do
    if g.place == "layer" then
      g.depth = s.depth
      s.depth = s.depth + 1
    end
    for _, name in ipairs(g.names) do s.by_name[name].group = g end
  end
  known[root] = s
  return s
end
module.structure = structure

-- ---- running ----

local Scope, scope = {}, {} -- raw fields of a scope: 1 the run, 2 the network, 3 its path, 4 where its tensors live

Scope.__index = function(s, key)
  if scope[key] then return scope[key] end
  local spec = s[2].declared[key]
  return spec and s[1].get(s[4] .. key, spec.shape)
end
Scope.__newindex = function(s, key)
  error(("nn: %s: %s is not assigned; s:update(name, tensor) gives a buffer its next value")
    :format(s:label(), tostring(key)), 2)
end

local function label(path, n) return path == "" and n.kind or path .. " (" .. n.kind .. ")" end

function scope.label(s) return label(s[3], s[2]) end

function scope.fail(s, text, ...) fail(label(s[3], s[2]):gsub("%%", "%%%%") .. ": " .. text, ...) end

-- True in training mode.
function scope.training(s) return s[1].training end

-- Another field of the batch that the network was called with; nil where it has none.
function scope.batch(s, name) return s[1].batch and s[1].batch[name] end

-- What eval.bn_reset wants of a norm with running statistics: "take" (give this batch's moments and rows as they are),
-- "use" (stand as in evaluation) or nil.
function scope.reset(s)
  local which = s[1].reset
  return which and which(s[4])
end

-- A tensor that the parameters may have or not: nil.
function scope.optional(s, name) return s[1].get(s[4] .. name, nil, true) end

-- The next value of a buffer.
function scope.update(s, name, value)
  local state = s[1].state
  state[s[4] .. name] = value
end

-- FNV-1a, kept below 2^51.
local function hash(text)
  local h = 0xcbf29ce484222325
  for i = 1, #text do h = (h ~ text:byte(i)) * 0x100000001b3 end
  return (h ~ h >> 29) & 0x7ffffffffffff
end
module.hash = hash

-- A key of random numbers for this place: every place, and every time it is passed, has one of its own.
function scope.key(s)
  local run, path = s[1], s[3]
  if not run.key then
    s:fail("it draws random numbers: net(theta, x, {mode = \"train\", key = …}) needs a key, an integer")
  end
  local n = (run.passed[path] or 0) + 1
  run.passed[path] = n
  return run.key + hash(path .. "#" .. n)
end

-- Raises unless x has `size` elements along `dim` (negative: from the end) and, where given, `rank` dimensions.
function scope.expect(s, x, dim, size, rank)
  local shape = x.shape
  if rank and #shape ~= rank then
    s:fail("expected an input of %d dimensions, got shape %s", rank, shape_text(shape))
  end
  local got = shape[dim < 0 and #shape + 1 + dim or dim]
  if got ~= size then
    local which = dim == -1 and "last dimension" or "dimension " .. dim
    s:fail("expected an input whose %s is %d, got shape %s", which, size, shape_text(shape))
  end
  return shape
end

local apply

function scope.call(s, name, x, ...)
  local c = s[2].child[name] or error(("nn: %s has no part %s"):format(s:label(), tostring(name)), 2)
  return apply(s[1], c.net, join(s[3], name), s[4] .. c.at, x, ...)
end

-- The models of a list that the network was called with; nil where it was called with one.
function scope.members(s) return module.list(s[1].theta) end

-- A child with the tensors of another model, the k-th of such a list.
function scope.under(s, theta, k, name, x)
  local run, c = s[1], s[2].child[name]
  if run.wanted then s:fail("a member shows what is inside it when it is called by itself") end
  local own = setmetatable({ theta = theta, get = module.reader(theta), state = {} }, { __index = run })
  local y = apply(own, c.net, join(s[3], name), "", x)
  if next(own.state) then run.state[k] = own.state end
  return y
end

local function forward(run, n, path, at, x, ...)
  if not n.chain then return n.forward(setmetatable({ run, n, path, at }, Scope), x, ...) end
  for _, c in ipairs(n.children) do x = apply(run, c.net, join(path, c.name), at .. c.at, x) end
  return x
end

function apply(run, n, path, at, x, ...)
  local wanted = run.wanted and run.wanted[path]
  if n.frozen and run.training then run = setmetatable({ training = false }, { __index = run }) end
  if wanted == "input" then run.captured[path] = x end
  local y
  if n.again then y = checkpoint(forward, run, n, path, at, x, ...) else y = forward(run, n, path, at, x, ...) end
  if wanted == "output" then run.captured[path] = y end
  if run.watch then y = run.watch(n, path, x, y) or y end
  return y
end

-- ---- parameters ----

-- theta where it is a list of models or tables, which ensembles take.
function module.list(theta)
  return type(theta) == "table" and not getmetatable(theta) and theta[1] ~= nil and theta or nil
end

-- A function name, shape -> tensor that checks both.
local function reader(theta)
  local list = kind(theta) == "table" and not getmetatable(theta)
  if not list and kind(theta) ~= "model" then
    fail("nn: the parameters are a model, or a table of tensors by name, not a %s: net(theta, x)", kind(theta))
  end
  local seen, several = {}, module.list(theta)
  return function(name, shape, optional)
    if several then fail("nn: the parameters are a list of %d; nn.ensemble(net) takes such a list", #theta) end
    local t = seen[name]
    if t then return t end
    if list then
      t = theta[name]
    else
      local ok, found = pcall(theta.tensor, theta, name)
      t = ok and found or nil
    end
    if t == nil and optional then return nil end
    if t == nil then
      local names = {}
      if list then names = theta else for _, other in ipairs(theta:names()) do names[other] = true end end
      local near = nearest(name, names)
      fail("nn: the parameters have no %s%s", name, near and ("; did you mean %s?"):format(near) or "")
    end
    if type(t) == "number" then t = tensor { t } end -- one element of a table
    if kind(t) ~= "tensor" then fail("nn: %s is a %s, expected a tensor", name, kind(t)) end
    if shape and not same_shape(shape, t.shape) then
      fail("nn: %s has the shape %s, expected %s", name, shape_text(t.shape), shape_text(shape))
    end
    if t.planned and not t.recorded then
      fail("nn: %s is planned: the parameters lie in files (theta:load() reads them%s)", name,
        list and "" or (", %.1f MB"):format(theta:bytes() / 1e6))
    end
    seen[name] = t
    return t
  end
end
module.reader = reader

local function input_of(x)
  local input = x
  if type(x) == "table" then input = x.x end
  if kind(input) ~= "tensor" then
    fail("nn: expected an input tensor or a batch (a table with x), got %s", input == nil and x ~= nil
      and "a table without x" or kind(input))
  end
  return input
end

local modes = { eval = false, train = true }

-- The run of `root` on x. o: mode, key, want (path -> "input" or "output"), watch(net, path, x, y) -> nil or what
-- stands for y, reset(where its tensors live) -> see scope.reset.
function module.run(root, theta, x, o)
  local get = reader(theta)
  local mode = o.mode or "eval"
  if modes[mode] == nil then fail("nn: mode = %q; expected \"eval\" or \"train\"", module.shown(mode)) end
  if o.key ~= nil and not (type(o.key) == "number" and math.tointeger(o.key)) and kind(o.key) ~= "tensor" then
    fail("nn: key = %s; expected an integer, or a tensor of one", module.shown(o.key))
  end
  local run = { theta = theta, get = get, training = modes[mode], key = o.key, state = {}, passed = {}, wanted = o.want,
    captured = o.want and {}, watch = o.watch, reset = o.reset, batch = type(x) == "table" and x or nil }
  local y = apply(run, root, "", "", input_of(x))
  return y, next(run.state) and run.state or nil, run.captured
end

-- { path = "output", … } of names; all must be parts.
function module.wanted(root, names, of)
  local paths, want = {}, {}
  if type(names) ~= "string" and kind(names) ~= "table" then
    fail("nn: expected the path of a part, or a list of them, got %s", kind(names))
  end
  walk(root, function(_, path) paths[path] = true end)
  for _, name in ipairs(type(names) == "table" and names or { names }) do
    if not paths[name] then
      local near = nearest(tostring(name), paths)
      fail("nn: the network has no part %s%s", module.shown(name), near and ("; did you mean %s?"):format(near) or "")
    end
    want[name] = of
  end
  return want
end

function module.call(root, theta, x, o)
  o = o or {}
  module.check("net", o, { "mode", "key", "capture" })
  return guarded(function()
    local want = o.capture and module.wanted(root, o.capture, "output")
    local y, state, captured = module.run(root, theta, x, { mode = o.mode, key = o.key, want = want })
    if captured then return y, state, captured end
    if state then return y, state end
    return y
  end)
end

-- ---- the type ----

Net.__name = "net"
Net.__call = module.call
Net.__metatable = nil

local methods, properties = {}, {}
module.methods, module.properties = methods, properties

function properties.depth(n) return structure(n).depth end

Net.__index = function(n, key)
  if methods[key] then return methods[key] end
  local property = properties[key]
  return property and property(n)
end

Net.__tostring = function(n) return n:summary() end

return module
