-- SPDX-License-Identifier: Apache-2.0
-- Layers that hold parameters, activations, pooling: PyTorch's, with its names and layouts of weights. Activations
-- of images are [n, height, width, channels]; weights of convolutions stay [out, in / groups, height, width].
local net = require "nn.net"
local nearest = require "nearest"

local layer = {}

local function count(shape, from, to)
  local n = 1
  for i = from or 1, to or #shape do n = n * shape[i] end
  return n
end

local function whole(what, name, v)
  if math.type(v) ~= "integer" or v < 1 then
    net.fail("%s: %s = %s; expected a whole number above 0", what, name, net.shown(v))
  end
  return v
end

-- A list of such numbers.
local function sizes(what, name, list)
  local of = net.kind(list)
  if of ~= "table" and of ~= "shape" then
    net.fail("%s: %s = %s; expected a list of whole numbers above 0", what, name, net.shown(list))
  end
  for _, v in ipairs(list) do whole(what, name, v) end
  return list
end

local function number(what, name, v)
  if type(v) ~= "number" then net.fail("%s: %s = %s; expected a number", what, name, net.shown(v)) end
  return v
end

-- A whole number, or {h, w}, as two, from `least` on (1 when left out).
local function pair(what, name, v, least)
  local h, w = v, v
  if type(v) == "table" then h, w = v[1], v[2] end
  local function fits(n) return math.type(n) == "integer" and n >= (least or 1) end
  if not (fits(h) and fits(w)) then
    net.fail("%s: %s = %s; expected a whole number from %d, or {height, width} of such", what, name, net.shown(v),
      least or 1)
  end
  return h, w
end

-- ---- linear maps ----

-- x w' (or x w) for any number of leading dimensions: one product.
local function product(x, w, transposed)
  local shape = x.shape
  local n = #shape
  if n > 2 then x = x:reshape { count(shape, 1, n - 1), shape[n] } end
  local y = x:matmul(transposed and w or w:t())
  if n > 2 then
    shape[n] = y.shape[2]
    y = y:reshape(shape)
  end
  return y
end
layer.product = product

-- o: bias = true, transposed = false: the weight is [in, out] (GPT-2's Conv1D), added: how many such maps are added
-- to one residual stream, role: of the weight.
function layer.linear(into, out, o)
  o = o or {}
  local wide = whole("nn.linear", "inputs", into)
  whole("nn.linear", "outputs", out)
  local weights = { { name = "weight", shape = o.transposed and { into, out } or { out, into }, role = "weight",
    fan_in = into, fan_out = out, added = o.added } }
  if o.bias ~= false then weights[2] = { name = "bias", shape = { out }, role = "bias", fan_in = into } end
  return net.new { kind = "linear", weights = weights, input = { into }, note = ("%d -> %d"):format(into, out),
    transposed = o.transposed,
    resize = function(shape)
      local w = shape "weight"
      return layer.linear(w[o.transposed and 1 or 2], w[o.transposed and 2 or 1], o)
    end,
    forward = function(s, x)
      s:expect(x, -1, wide)
      local y, b = product(x, s.weight, o.transposed), s.bias
      return b and y + b or y
    end,
    cost = function(_, x) return 2 * count(x.shape) * out end }
end

function layer.conv2d(into, out, kernel, o)
  o = o or {}
  whole("nn.conv2d", "inputs", into)
  whole("nn.conv2d", "outputs", out)
  local h, w = pair("nn.conv2d", "kernel", kernel)
  local groups = whole("nn.conv2d", "groups", o.groups or 1)
  if into % groups ~= 0 or out % groups ~= 0 then
    net.fail("nn.conv2d: %d and %d channels do not divide into %d groups", into, out, groups)
  end
  local fan = into // groups * h * w
  local weights = { { name = "weight", shape = { out, into // groups, h, w }, role = "weight", fan_in = fan,
    fan_out = out * h * w } }
  if o.bias ~= false then weights[2] = { name = "bias", shape = { out }, role = "bias", fan_in = fan } end
  local how = { stride = o.stride or 1, padding = o.padding or 0, dilation = o.dilation or 1, groups = groups }
  local stride = pair("nn.conv2d", "stride", how.stride)
  pair("nn.conv2d", "padding", how.padding, 0)
  pair("nn.conv2d", "dilation", how.dilation)
  return net.new { kind = "conv2d", weights = weights, how = how,
    note = ("%d -> %d, %d x %d%s"):format(into, out, h, w, stride > 1 and " / " .. stride or ""),
    resize = function(shape)
      local s, same = shape "weight", {}
      for k, v in pairs(o) do same[k] = v end
      if groups > 1 and groups == into then same.groups = s[1] * into // out end -- each channel by itself
      return layer.conv2d(s[2] * (same.groups or 1), s[1], { s[3], s[4] }, same)
    end,
    forward = function(s, x)
      s:expect(x, -1, into, 4)
      local y, b = x:conv2d(s.weight, how), s.bias
      return b and y + b or y
    end,
    cost = function(_, _, y) return 2 * count(y.shape) * fan end }
end

function layer.embedding(n, width)
  whole("nn.embedding", "n", n)
  whole("nn.embedding", "width", width)
  return net.new { kind = "embedding", note = ("%d x %d"):format(n, width),
    weights = { { name = "weight", shape = { n, width }, role = "embedding", fan_in = width, fan_out = n } },
    resize = function(shape) return layer.embedding(table.unpack(shape "weight")) end,
    forward = function(s, x)
      if x.dtype:find "f" then s:fail("expected token numbers (an integer tensor), got %s", x.dtype) end
      return s.weight:embedding(x)
    end }
end

-- ---- norms ----

local function affine(n)
  return { { name = "weight", shape = { n }, role = "scale" }, { name = "bias", shape = { n }, role = "shift" } }
end

function layer.batch_norm(n, o)
  o = o or {}
  whole("nn.batch_norm", "channels", n)
  local eps = number("nn.batch_norm", "eps", o.eps or 1e-5)
  local momentum = number("nn.batch_norm", "momentum", o.momentum or 0.1)
  return net.new { kind = "batch_norm", group = "beside", note = tostring(n), weights = affine(n),
    buffers = { { name = "running_mean", shape = { n }, value = 0 },
      { name = "running_var", shape = { n }, value = 1 } },
    resize = function(shape) return layer.batch_norm(shape "weight"[1], o) end,
    forward = function(s, x)
      s:expect(x, -1, n)
      local reset = s:training() and s:reset()
      if not s:training() or reset == "use" then
        return x:batch_norm(s.weight, s.bias, s.running_mean, s.running_var, eps)
      end
      local y, mean, var, rows = x:batch_norm_train(s.weight, s.bias, eps)
      if reset == "take" then
        s:update("running_mean", mean)
        s:update("running_var", var)
        s:update("rows", tensor.full({ 1 }, rows + 0.0, { dtype = "f64" }))
        return y
      end
      if rows < 2 then
        s:fail("training statistics need more than one value a channel, got shape %s", net.shape_text(x.shape))
      end
      s:update("running_mean", (1 - momentum) * s.running_mean + momentum * mean)
      s:update("running_var", (1 - momentum) * s.running_var + momentum * rows / (rows - 1) * var)
      local batches = s:optional "num_batches_tracked" -- in PyTorch's checkpoints
      if batches then s:update("num_batches_tracked", batches:reshape { 1 } + 1) end
      return y
    end }
end

function layer.layer_norm(n, o)
  o = o or {}
  whole("nn.layer_norm", "n", n)
  local eps = number("nn.layer_norm", "eps", o.eps or 1e-5)
  return net.new { kind = "layer_norm", group = "beside", note = tostring(n), weights = affine(n),
    resize = function(shape) return layer.layer_norm(shape "weight"[1], o) end,
    forward = function(s, x)
      s:expect(x, -1, n)
      return x:layer_norm(s.weight, s.bias, eps)
    end }
end

function layer.group_norm(groups, n, o)
  o = o or {}
  whole("nn.group_norm", "groups", groups)
  whole("nn.group_norm", "channels", n)
  if n % groups ~= 0 then net.fail("nn.group_norm: %d channels do not divide into %d groups", n, groups) end
  local eps = number("nn.group_norm", "eps", o.eps or 1e-5)
  return net.new { kind = "group_norm", group = "beside", weights = affine(n),
    note = ("%d in %d groups"):format(n, groups),
    resize = function(shape) return layer.group_norm(groups, shape "weight"[1], o) end,
    forward = function(s, x)
      s:expect(x, -1, n)
      return x:group_norm(groups, s.weight, s.bias, eps)
    end }
end

function layer.rms_norm(n, o)
  o = o or {}
  whole("nn.rms_norm", "n", n)
  local eps = number("nn.rms_norm", "eps", o.eps or 1e-6)
  return net.new { kind = "rms_norm", group = "beside", note = tostring(n),
    weights = { { name = "weight", shape = { n }, role = "scale" } },
    resize = function(shape) return layer.rms_norm(shape "weight"[1], o) end,
    forward = function(s, x)
      s:expect(x, -1, n)
      return x:rms_norm(s.weight, eps)
    end }
end

-- The norm that an architecture's option names, over n channels; nil where it is false.
function layer.norm(what, kind, n, o)
  if kind == nil or kind == false then return nil end
  if kind == true or kind == "layer" then return layer.layer_norm(n, o) end
  if kind == "batch" then return layer.batch_norm(n, o) end
  if kind == "rms" then return layer.rms_norm(n, o) end
  if kind == "group" then
    local groups = o and o.groups or math.min(8, n)
    return layer.group_norm(groups, n, o)
  end
  net.fail("%s: norm = %s; expected \"batch\", \"group\", \"layer\", \"rms\" or false", what, net.shown(kind))
end

-- ---- activations ----

local activations = {
  relu = function(x) return x:relu() end,
  gelu = function(x) return x:gelu "none" end,
  gelu_tanh = function(x) return x:gelu "tanh" end,
  quick_gelu = function(x) return x * (1.702 * x):sigmoid() end,
  silu = function(x) return x:silu() end,
  tanh = function(x) return x:tanh() end,
  sigmoid = function(x) return x:sigmoid() end,
  softplus = function(x) return x:softplus() end,
  leaky_relu = function(x) return x:leaky_relu() end,
  identity = function(x) return x end,
}

-- A name or a function(x) as a function.
function layer.activation_function(what, f)
  local found = type(f) == "function" and f or activations[f]
  if found then return found end
  local near = nearest(tostring(f), activations)
  net.fail("%s: no activation is called '%s'%s", what, net.shown(f),
    near and ("; did you mean '%s'?"):format(near) or "")
end

function layer.activation(f)
  local act = layer.activation_function("nn.activation", f)
  return net.new { kind = type(f) == "string" and f or "activation", forward = function(_, x) return act(x) end }
end

function layer.dropout(p)
  p = p or 0.5
  if type(p) ~= "number" or not (p >= 0 and p < 1) then
    net.fail("nn.dropout: p = %s; expected 0 <= p < 1", net.shown(p))
  end
  return net.new { kind = "dropout", note = tostring(p),
    forward = function(s, x)
      if p == 0 or not s:training() then return x end
      return x:dropout(p, s:key())
    end }
end

-- ---- pooling and shapes ----

local function pool(kind, size, o)
  o = o or {}
  local h, w = pair("nn." .. kind, "size", size)
  local how = {}
  for k, v in pairs(o) do how[k] = v end
  how.stride = how.stride or size
  pair("nn." .. kind, "stride", how.stride)
  pair("nn." .. kind, "padding", how.padding or 0, 0)
  return net.new { kind = kind, note = ("%d x %d"):format(h, w),
    forward = function(s, x)
      if #x.shape ~= 4 then s:fail("expected [n, height, width, channels], got shape %s", net.shape_text(x.shape)) end
      return x[kind](x, size, how)
    end }
end

function layer.max_pool2d(size, o) return pool("max_pool2d", size, o) end
function layer.avg_pool2d(size, o) return pool("avg_pool2d", size, o) end

function layer.adaptive_avg_pool2d(size)
  local h, w = pair("nn.adaptive_avg_pool2d", "size", size)
  return net.new { kind = "adaptive_avg_pool2d", note = ("to %d x %d"):format(h, w),
    forward = function(_, x) return x:adaptive_avg_pool2d { h, w } end }
end

-- The mean over height and width: [n, h, w, c] -> [n, c].
function layer.global_avg_pool()
  return net.new { kind = "global_avg_pool",
    forward = function(s, x)
      if #x.shape ~= 4 then s:fail("expected [n, height, width, channels], got shape %s", net.shape_text(x.shape)) end
      return x:mean { 2, 3 }
    end }
end

-- [n, h, w, c] -> [n, c h w], in the order of a tensor that is stored [n, c, h, w], so that the weights of a linear
-- map behind it are PyTorch's. Other ranks keep their order.
function layer.flatten()
  return net.new { kind = "flatten",
    forward = function(_, x)
      local shape = x.shape
      if #shape <= 2 then return x end
      if #shape == 4 and shape[4] > 1 and shape[2] * shape[3] > 1 then x = x:permute { 1, 4, 2, 3 } end
      return x:reshape { shape[1], count(shape, 2) }
    end }
end

layer.count = count
layer.whole, layer.sizes, layer.number = whole, sizes, number
return layer
