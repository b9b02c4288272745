-- SPDX-License-Identifier: Apache-2.0
-- First values. Every tensor draws from a counter-based generator keyed by (seed, name), so what one layer gets does
-- not depend on the others, and two networks that share names share values. Roles are those of the layers:
-- weight, bias (of the layer whose fan_in it names), embedding, scale (1), shift (0).
local net = require "nn.net"
local nearest = require "nearest"

local init = {}

local function normal(std) return { "normal", std } end
local function uniform(bound) return { "uniform", bound } end

-- role -> function(spec) -> a number, normal(std) or uniform(bound). What a scheme leaves out is as in torch.
local schemes = {
  -- torch.nn's defaults: U(±1/sqrt(fan_in)) for linear maps, convolutions and their biases; N(0, 1) for embeddings.
  torch = {
    weight = function(p) return uniform(1 / math.sqrt(p.fan_in)) end,
    bias = function(p) return uniform(1 / math.sqrt(p.fan_in)) end,
    embedding = function() return normal(1) end,
    scale = function() return 1 end,
    shift = function() return 0 end,
  },
  -- He et al. 2015, arXiv:1502.01852
  he = {
    weight = function(p) return normal(math.sqrt(2 / p.fan_in)) end,
    bias = function() return 0 end,
  },
  -- Glorot and Bengio 2010
  xavier = {
    weight = function(p) return uniform(math.sqrt(6 / (p.fan_in + p.fan_out))) end,
    bias = function() return 0 end,
  },
  -- torchvision's residual networks: He's over what goes out for convolutions
  resnet = {
    weight = function(p)
      return #p.shape == 4 and normal(math.sqrt(2 / p.fan_out)) or uniform(1 / math.sqrt(p.fan_in))
    end,
  },
  -- transformers: N(0, 0.02), and what is added to the residual stream over the square root of their number (GPT-2)
  transformer = {
    weight = function(p) return normal(0.02 / math.sqrt(p.added or 1)) end,
    bias = function() return 0 end,
    embedding = function() return normal(0.02) end,
  },
}

-- Seed and name as one number of 63 bits (splitmix64's finaliser).
local function key(seed, name)
  local z = net.hash(name) ~ seed * 0x9e3779b97f4a7c15
  z = (z ~ z >> 30) * 0xbf58476d1ce4e5b9
  z = (z ~ z >> 27) * 0x94d049bb133111eb
  return (z ~ z >> 31) & math.maxinteger
end
init.key = key

local function scheme_of(name)
  local scheme = schemes[name]
  if scheme or type(name) == "function" then return scheme or name end
  local near = nearest(tostring(name), schemes)
  net.fail("net:init: no scheme is called '%s'%s", net.shown(name),
    near and ("; did you mean '%s'?"):format(near) or "")
end

local function value(t, scheme, seed, dtype)
  local spec, made = t.spec, nil
  if t.buffer or spec.value then
    made = spec.value or 0
  elseif type(scheme) == "function" then
    made = scheme { name = t.name, shape = t.shape, role = spec.role, fan_in = spec.fan_in, fan_out = spec.fan_out,
      seed = key(seed, t.name) }
  end
  made = made or ((type(scheme) == "table" and scheme[spec.role]) or schemes.torch[spec.role])(spec)
  if type(made) == "number" then return tensor.full(t.shape, made, { dtype = dtype }) end
  if net.kind(made) == "tensor" then
    if net.shape_text(made.shape) ~= net.shape_text(t.shape) then
      net.fail("net:init: the scheme gives %s the shape %s, expected %s", t.name, net.shape_text(made.shape),
        net.shape_text(t.shape))
    end
    return made:to(dtype)
  end
  local kind, size
  if type(made) == "table" then kind, size = made[1], made[2] end
  if kind ~= "normal" and kind ~= "uniform" or type(size) ~= "number" then
    net.fail("net:init: the scheme gives %s %s; expected a number, {\"normal\", std}, {\"uniform\", bound} or a tensor",
      t.name, net.shown(made))
  end
  if kind == "normal" then return tensor.normal(t.shape, key(seed, t.name), { std = size, dtype = dtype }) end
  return tensor.uniform(t.shape, key(seed, t.name), { low = -size, high = size, dtype = dtype })
end

-- The network's first tensors as a model.
function init.model(root, o)
  local seed, dtype = o.seed or 0, o.dtype or "f32"
  if math.type(seed) ~= "integer" then net.fail("net:init: seed = %s is no integer", net.shown(seed)) end
  if type(dtype) ~= "string" then
    net.fail("net:init: dtype = %s; expected a text such as \"f32\"", net.shown(dtype))
  end
  local list = {}
  for i, t in ipairs(net.structure(root).tensors) do
    list[i] = { t.name, value(t, scheme_of(o.scheme or t.scheme or "torch"), seed, dtype) }
  end
  if #list == 0 then net.fail "net:init: the network has no parameters" end
  return init.described(root, model.new(list))
end

-- The model with the config.json that says what network it is for, and, where its names alone would not, which
-- tensors lie in which layer.
function init.described(root, m)
  local said = root.config and m:with_config(root.config) or m
  local agrees, depth = true, {}
  for _, t in ipairs(net.structure(root).tensors) do
    local info = said:info(t.name)
    agrees = agrees and info.place == t.group.place and info.depth == t.group.depth
  end
  if agrees then return said end
  for _, g in ipairs(net.structure(root).groups) do
    for _, at in ipairs(g.at) do depth[at] = g.depth or g.place end
  end
  return said:with_config { tarn = { depth = depth } }
end

return init
