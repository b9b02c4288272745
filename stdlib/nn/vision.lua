-- SPDX-License-Identifier: Apache-2.0
-- Networks for images and vectors: MLPs, VGG-like convolutional ones, residual ones with torchvision's names, vision
-- transformers with those of transformers.
local net = require "nn.net"
local layer = require "nn.layer"
local compose = require "nn.compose"
local arch = require "nn.arch"

local vision = {}

local function images(what, input)
  if type(input) ~= "table" or #input ~= 3 then
    net.fail(what .. ": input = { height, width, channels } of the images")
  end
  return table.unpack(layer.sizes(what, "input", input))
end

-- fc1, norm1, act1, drop1, fc2, …
function vision.mlp(o)
  local sizes = type(o) == "table" and (rawget(o, "sizes") or { table.unpack(o) }) or nil
  o = arch.options("nn.mlp", o, { act = "relu", norm = false, bias = true, dropout = 0, eps = 1e-5, sizes = sizes })
  if #sizes < 2 then net.fail("nn.mlp: expected sizes, as in nn.mlp {784, 512, 10}") end
  local act = layer.activation_function("nn.mlp", o.act)
  local children = { { name = "flatten", net = layer.flatten() } }
  local function add(name, n) children[#children + 1] = { name = name, net = n } end
  for i = 1, #sizes - 1 do
    add("fc" .. i, layer.linear(sizes[i], sizes[i + 1], { bias = o.bias }))
    if i < #sizes - 1 then
      local norm = layer.norm("nn.mlp", o.norm, sizes[i + 1], { eps = o.eps })
      if norm then add("norm" .. i, norm) end
      add("act" .. i, layer.activation(type(o.act) == "string" and o.act or act))
      if o.dropout > 0 then add("drop" .. i, layer.dropout(o.dropout)) end
    end
  end
  return compose.chain { kind = "mlp", children = children, input = { sizes[1] },
    config = arch.config("mlp", { sizes = sizes, act = o.act, norm = o.norm, bias = o.bias, dropout = o.dropout,
      eps = o.eps }) }
end

-- torchvision's VGG: features.N, then classifier (one linear map) or classifier.0, .3, .6.
function vision.conv(o)
  local channels = type(o) == "table" and (rawget(o, "channels") or { table.unpack(o) }) or nil
  o = arch.options("nn.conv", o, { input = { 28, 28, 1 }, classes = 10, hidden = {}, norm = "batch", act = "relu",
    dropout = 0, eps = 1e-5, channels = channels })
  if type(channels) ~= "table" or #channels == 0 then
    net.fail("nn.conv: expected channels, as in nn.conv {32, \"M\", 64, \"M\"}")
  end
  local h, w, c = images("nn.conv", o.input)
  local features, classifier = {}, {}
  local function act() return layer.activation(o.act) end
  for _, n in ipairs(channels) do
    if n == "M" then
      h, w = h // 2, w // 2
      features[#features + 1] = layer.max_pool2d(2)
    else
      features[#features + 1] = layer.conv2d(c, layer.whole("nn.conv", "channels", n), 3, { padding = 1 })
      features[#features + 1] = layer.norm("nn.conv", o.norm, n, { eps = o.eps })
      features[#features + 1] = act()
      c = n
    end
  end
  if h * w == 0 then
    net.fail("nn.conv: images of %d x %d are too small for so many \"M\"", o.input[1], o.input[2])
  end
  local width = h * w * c
  for _, n in ipairs(o.hidden) do
    for _, part in ipairs { layer.linear(width, n), act(), layer.dropout(o.dropout) } do
      classifier[#classifier + 1] = part
    end
    width = n
  end
  local last = layer.linear(width, o.classes)
  classifier[#classifier + 1] = last
  return compose.chain { kind = "conv", input = o.input, children = {
    { name = "features", net = compose.sequential(features) }, { name = "flatten", net = layer.flatten() },
    { name = "classifier", net = #o.hidden > 0 and compose.sequential(classifier) or last, group = "head" },
  }, config = arch.config("conv", { channels = channels, input = o.input, classes = o.classes, hidden = o.hidden,
    norm = o.norm, act = o.act, dropout = o.dropout, eps = o.eps }) }
end

-- ---- residual networks (He et al. 2015, arXiv:1512.03385) ----

local function basic_block(into, out, stride, o)
  local act = layer.activation_function("nn.resnet", o.act)
  local function norm() return layer.norm("nn.resnet", o.norm, out, { eps = o.eps, groups = o.groups }) end
  local children = {
    { name = "conv1", net = layer.conv2d(into, out, 3, { stride = stride, padding = 1, bias = not o.norm }) },
    { name = "conv2", net = layer.conv2d(out, out, 3, { padding = 1, bias = not o.norm }) },
  }
  if o.norm then
    table.insert(children, 2, { name = "bn1", net = norm() })
    table.insert(children, { name = "bn2", net = norm() })
  end
  local shortcut = stride ~= 1 or into ~= out
  if shortcut then
    local down = { layer.conv2d(into, out, 1, { stride = stride, bias = not o.norm }) }
    down[2] = norm()
    table.insert(children, { name = "downsample", net = compose.sequential(down) })
  end
  return net.new { kind = "basic_block", group = "layer", children = children, note = ("%d -> %d"):format(into, out),
    forward = function(s, x)
      local y = s:call("conv1", x)
      if o.norm then y = s:call("bn1", y) end
      y = s:call("conv2", act(y))
      if o.norm then y = s:call("bn2", y) end
      return act(y + (shortcut and s:call("downsample", x) or x))
    end }
end

-- Widths and blocks from the depth: 6 n + 2 layers in three stages for small images.
local function stages(o)
  if not o.blocks then
    if math.type(o.depth) ~= "integer" or o.depth < 8 or (o.depth - 2) % 6 ~= 0 then
      net.fail("nn.resnet: depth = %s; expected 8, 14, 20, … (6 n + 2), or blocks = { n1, … }", tostring(o.depth))
    end
    local n = (o.depth - 2) // 6
    o.blocks = { n, n, n }
  end
  if not o.widths then
    o.widths = {}
    for i = 1, #o.blocks do o.widths[i] = o.width << (i - 1) end
  end
  if #o.widths ~= #o.blocks then net.fail("nn.resnet: as many widths as blocks are needed") end
end

function vision.resnet(o)
  if math.type(o) == "integer" then o = { depth = o } end
  o = arch.options("nn.resnet", o, { depth = 8, width = 16, input = { 28, 28, 1 }, classes = 10, norm = "batch",
    act = "relu", eps = 1e-5, groups = 8, stem = "small" }, { "blocks", "widths" })
  stages(o)
  local _, _, c = images("nn.resnet", o.input)
  local width, large = o.widths[1], o.stem == "large"
  if not large and o.stem ~= "small" then
    net.fail("nn.resnet: stem = \"small\" (3 x 3) or \"large\" (7 x 7 and pooling)")
  end
  local children = { { name = "conv1", group = "embed", net = large
    and layer.conv2d(c, width, 7, { stride = 2, padding = 3, bias = not o.norm })
    or layer.conv2d(c, width, 3, { padding = 1, bias = not o.norm }) } }
  local function add(name, n, group) children[#children + 1] = { name = name, net = n, group = group } end
  if o.norm then add("bn1", layer.norm("nn.resnet", o.norm, width, { eps = o.eps, groups = o.groups }), "embed") end
  add("relu", layer.activation(o.act))
  if large then add("maxpool", layer.max_pool2d(3, { stride = 2, padding = 1 })) end
  for i, n in ipairs(o.blocks) do
    local blocks = {}
    for k = 1, n do
      blocks[k] = basic_block(width, o.widths[i], k == 1 and i > 1 and 2 or 1, o)
      width = o.widths[i]
    end
    add("layer" .. i, compose.sequential(blocks))
  end
  add("avgpool", layer.global_avg_pool())
  add("fc", layer.linear(width, o.classes), "head")
  o.depth, o.width = nil, nil
  return compose.chain { kind = "resnet", input = o.input, children = children, scheme = "resnet",
    config = arch.config("resnet", o) }
end

-- ---- vision transformers (Dosovitskiy et al. 2020, arXiv:2010.11929), names of ViTForImageClassification ----

local function vit_embeddings(o, h, w, c)
  local n = (h // o.patch) * (w // o.patch)
  return net.new { kind = "vit_embeddings", note = ("%d patches of %d x %d"):format(n, o.patch, o.patch),
    weights = {
      { name = "cls_token", shape = { 1, 1, o.width }, role = "embedding" },
      { name = "position_embeddings", shape = { 1, n + 1, o.width }, role = "embedding" },
    },
    children = { { name = "projection", at = "patch_embeddings.projection.",
      net = layer.conv2d(c, o.width, o.patch, { stride = o.patch }) } },
    forward = function(s, x)
      s:expect(x, 2, h, 4)
      s:expect(x, 3, w, 4)
      local y = s:call("projection", x)
      local width = y.shape[4]
      y = y:reshape { x.shape[1], n, width }
      local token = s.cls_token:expand { x.shape[1], 1, width }
      return tensor.cat({ token, y }, 2) + s.position_embeddings
    end }
end

local function vit_block(o)
  local act = layer.activation_function("nn.vit", o.act)
  local d, eps = o.width, { eps = o.eps }
  local function dense(a, b) return layer.linear(a, b, { added = b == d and 2 * o.layers or nil }) end
  local function qkv(name) return { name = "attention.attention." .. name, net = layer.linear(d, d) } end
  return net.new { kind = "vit_block", group = "layer", note = o.heads .. " heads", children = {
    qkv "query", qkv "key", qkv "value", { name = "attention.output.dense", net = dense(d, d) },
    { name = "intermediate.dense", net = layer.linear(d, o.inner) }, { name = "output.dense", net = dense(o.inner, d) },
    { name = "layernorm_before", net = layer.layer_norm(d, eps) },
    { name = "layernorm_after", net = layer.layer_norm(d, eps) },
  }, forward = function(s, x)
    local y = s:call("layernorm_before", x)
    local function project(name) return arch.heads(s:call("attention.attention." .. name, y), o.heads) end
    y = arch.attend(s, project "query", project "key", project "value", {})
    x = x + s:call("attention.output.dense", arch.joined(y))
    y = act(s:call("intermediate.dense", s:call("layernorm_after", x)))
    return x + s:call("output.dense", y)
  end, cost = function(_, x) return arch.attention_cost(x.shape) end }
end

local first_token = function(_, x) return x[{ {}, 1 }] end

function vision.vit(o)
  o = arch.options("nn.vit", o, { input = { 28, 28, 1 }, patch = 7, width = 64, layers = 4, heads = 4, classes = 10,
    act = "gelu", eps = 1e-12 }, { "inner" })
  o.inner = o.inner or 4 * o.width
  local h, w, c = images("nn.vit", o.input)
  if h % o.patch ~= 0 or w % o.patch ~= 0 or o.width % o.heads ~= 0 then
    net.fail("nn.vit: images of %d x %d in patches of %d, width %d in %d heads: they must divide", h, w, o.patch,
      o.width, o.heads)
  end
  local blocks = {}
  for i = 1, o.layers do blocks[i] = vit_block(o) end
  return compose.chain { kind = "vit", input = o.input, scheme = "transformer", children = {
    { name = "vit", net = compose.chain { kind = "vit_model", children = {
      { name = "embeddings", net = vit_embeddings(o, h, w, c), group = "embed" },
      { name = "encoder", net = arch.encoder(blocks) },
      { name = "layernorm", net = layer.layer_norm(o.width, { eps = o.eps }), group = "final" },
    } } },
    { name = "token", net = net.new { kind = "first_token", forward = first_token } },
    { name = "classifier", net = layer.linear(o.width, o.classes), group = "head" },
  }, config = { architectures = { "ViTForImageClassification" }, model_type = "vit", hidden_size = o.width,
    num_hidden_layers = o.layers, num_attention_heads = o.heads, intermediate_size = o.inner, hidden_act = o.act,
    layer_norm_eps = o.eps, image_size = h == w and h or { h, w }, patch_size = o.patch, num_channels = c,
    num_labels = o.classes } }
end

return vision
