-- SPDX-License-Identifier: Apache-2.0
-- nn: networks as values. What they are is in stdlib/nn; here every public function has its documentation. Compiled at
-- the first use of nn.
local net = require "nn.net"
local layer = require "nn.layer"
local compose = require "nn.compose"
local init = require "nn.init"
local summary = require "nn.summary"
local vision = require "nn.vision"
local text = require "nn.text"
local loss = require "nn.loss"

return function(define, check, _, kind)
  net.check, net.kind = check, kind

  -- A mistake is told at the place of the script that called.
  local function public(name, signature, about, example, inner) -- ??name at the prompt looks for `inner`
    define(name, signature, about, example, function(...) return net.guarded(inner, ...) end)
  end

  -- ---- layers ----

  public("nn.linear", "nn.linear(inputs, outputs, {bias = true, transposed = false}) -> net",
    "x W' + b over the last dimension; W is [outputs, inputs], as torch.nn.Linear. transposed: W is [inputs, "
    .. "outputs], as GPT-2's Conv1D. A layer is a network like any other: it can be initialised and called by "
    .. "itself.",
    "local net = nn.linear(3, 2)\n"
    .. "print(net({ weight = tensor { {1, 0, 0}, {0, 1, 0} }, bias = tensor { 0, 1 } }, tensor { {5, 6, 7} }))\n"
    .. "-- > f32[1, 2]\n-- > [[5., 7.]]",
    function(inputs, outputs, o)
      check("nn.linear", o, { "bias", "transposed" })
      return layer.linear(inputs, outputs, o)
    end)

  public("nn.conv2d", "nn.conv2d(inputs, outputs, kernel, {stride = 1, padding = 0, dilation = 1, groups = 1, bias = "
    .. "true}) -> net",
    "Convolution of [n, height, width, inputs]; the weight is [outputs, inputs / groups, height, width], as "
    .. "torch.nn.Conv2d. kernel, stride, padding and dilation are numbers or {height, width}.",
    "local net = nn.conv2d(3, 8, 3, { padding = 1 })\n"
    .. "print(net(net:init {}, tensor.zeros { 2, 5, 5, 3 }).shape)\n-- > [2, 5, 5, 8]",
    function(inputs, outputs, kernel, o)
      check("nn.conv2d", o, { "stride", "padding", "dilation", "groups", "bias" })
      return layer.conv2d(inputs, outputs, kernel, o)
    end)

  public("nn.embedding", "nn.embedding(n, width) -> net",
    "Rows of a table [n, width] for token numbers from 0, as torch.nn.Embedding.",
    "local net = nn.embedding(10, 4)\nprint(net(net:init {}, tensor({ {3, 1} }, { dtype = \"i64\" })).shape)\n"
    .. "-- > [1, 2, 4]",
    layer.embedding)

  public("nn.batch_norm", "nn.batch_norm(channels, {eps = 1e-5, momentum = 0.1}) -> net",
    "Batch normalisation over all dimensions but the last. Evaluation uses the buffers running_mean and running_var; "
    .. "in training the batch's own statistics, and the network's second result holds the next buffers: (1 - "
    .. "momentum) old + momentum new, the variance unbiased, as torch.nn.BatchNorm2d. num_batches_tracked is counted "
    .. "up where the parameters have it (PyTorch's checkpoints); nothing else reads it.",
    "local net = nn.batch_norm(2)\n"
    .. "local _, state = net(net:init {}, tensor { {1, 2}, {3, 2} }, { mode = \"train\" })\n"
    .. "print(state.running_mean)\n-- > f32[2]\n-- > [0.2000, 0.2000]",
    function(channels, o)
      check("nn.batch_norm", o, { "eps", "momentum" })
      return layer.batch_norm(channels, o)
    end)

  public("nn.layer_norm", "nn.layer_norm(n, {eps = 1e-5}) -> net",
    "Layer normalisation over the last dimension. Of images [n, height, width, channels] it normalises each pixel.",
    "local net = nn.layer_norm(2)\nprint(net(net:init {}, tensor { {0, 2} }))\n-- > f32[1, 2]\n"
    .. "-- > [[-1.0000,  1.0000]]",
    function(n, o)
      check("nn.layer_norm", o, { "eps" })
      return layer.layer_norm(n, o)
    end)

  public("nn.group_norm", "nn.group_norm(groups, channels, {eps = 1e-5}) -> net",
    "Group normalisation: over height, width and the channels of each group, as torch.nn.GroupNorm; channels last.",
    "local net = nn.group_norm(2, 4)\nprint(net(net:init {}, tensor.ones { 1, 3, 3, 4 }):sum())\n-- > 0.0",
    function(groups, channels, o)
      check("nn.group_norm", o, { "eps" })
      return layer.group_norm(groups, channels, o)
    end)

  public("nn.rms_norm", "nn.rms_norm(n, {eps = 1e-6}) -> net",
    "x / sqrt(mean(x^2) + eps) times a weight, over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467).",
    "local net = nn.rms_norm(2)\nprint(net(net:init {}, tensor { {3, 3} }))\n-- > f32[1, 2]\n-- > [[1.0000, 1.0000]]",
    function(n, o)
      check("nn.rms_norm", o, { "eps" })
      return layer.rms_norm(n, o)
    end)

  public("nn.dropout", "nn.dropout(p = 0.5) -> net",
    "In training, zeroes each element with probability p and divides the rest by 1 - p. The mask follows from the "
    .. "option key of the call and from the place of the layer in the network: the same key, the same mask.",
    "local net = nn.dropout(0.5)\nlocal y = net({}, tensor.ones { 1000 }, { mode = \"train\", key = 7 })\n"
    .. "print(math.abs(y:mean() - 1) < 0.1, net({}, tensor.ones { 3 }):sum())\n-- > true\t3.0",
    layer.dropout)

  public("nn.activation", "nn.activation(name or function) -> net",
    "relu, gelu (with erf), gelu_tanh, quick_gelu, silu, tanh, sigmoid, softplus, leaky_relu, identity, or a "
    .. "function(x).",
    "print(nn.activation \"relu\"({}, tensor { -1, 2 }))\n-- > f32[2]\n-- > [0., 2.]", layer.activation)

  public("nn.max_pool2d", "nn.max_pool2d(size, {stride = size, padding = 0, ceil_mode = false}) -> net",
    "The largest value of each window of [n, height, width, channels].",
    "print(nn.max_pool2d(2)({}, tensor.arange(16):to \"f32\":reshape { 1, 4, 4, 1 }).shape)\n-- > [1, 2, 2, 1]",
    function(size, o)
      check("nn.max_pool2d", o, { "stride", "padding", "ceil_mode" })
      return layer.max_pool2d(size, o)
    end)

  public("nn.avg_pool2d", "nn.avg_pool2d(size, {stride = size, padding = 0, ceil_mode = false, count_include_pad = "
    .. "true}) -> net",
    "The mean of each window of [n, height, width, channels].",
    "print(nn.avg_pool2d(2)({}, tensor.ones { 1, 4, 4, 1 }):sum())\n-- > 4.0",
    function(size, o)
      check("nn.avg_pool2d", o, { "stride", "padding", "ceil_mode", "count_include_pad" })
      return layer.avg_pool2d(size, o)
    end)

  public("nn.adaptive_avg_pool2d", "nn.adaptive_avg_pool2d(size) -> net",
    "Means over as many windows as size says (a number or {height, width}), whatever the size of the image.",
    "print(nn.adaptive_avg_pool2d(2)({}, tensor.ones { 1, 5, 7, 3 }).shape)\n-- > [1, 2, 2, 3]",
    layer.adaptive_avg_pool2d)

  public("nn.global_avg_pool", "nn.global_avg_pool() -> net", "The mean over height and width: [n, h, w, c] becomes "
    .. "[n, c].",
    "print(nn.global_avg_pool()({}, tensor.ones { 2, 5, 5, 3 }).shape)\n-- > [2, 3]", layer.global_avg_pool)

  public("nn.flatten", "nn.flatten() -> net",
    "All dimensions but the first as one. Images [n, h, w, c] are put into the order channel, row, column first, so "
    .. "that the weights of a linear map behind it are those of PyTorch.",
    "print(nn.flatten()({}, tensor { { { {1, 2}, {3, 4} } } }))\n-- > f32[1, 4]\n-- > [[1., 3., 2., 4.]]",
    layer.flatten)

  -- ---- composing ----

  public("nn.sequential", "nn.sequential({layer, {\"name\", layer}, …}, {input =}) -> net",
    "Layers one after the other: networks, functions of a tensor, names of activations. They are called 0, 1, … as "
    .. "in torch.nn.Sequential unless named. input: the shape of one input, for the summary.",
    "local net = nn.sequential { nn.linear(2, 8), \"tanh\", nn.linear(8, 1) }\n"
    .. "print(table.concat(net:init { seed = 1 }:names(), \" \"))\n-- > 0.weight 0.bias 2.weight 2.bias",
    function(list, o)
      check("nn.sequential", o, { "input" })
      return compose.sequential(list, o)
    end)

  public("nn.checkpoint", "nn.checkpoint(layer) -> net",
    "A layer, or several in nn.sequential, whose activations a backward pass computes again instead of keeping them: "
    .. "see checkpoint. Values, gradients and the names of tensors are those of the layer.",
    "local function block() return nn.sequential { nn.linear(8, 8), \"gelu\", nn.linear(8, 8) } end\n"
    .. "local net = nn.sequential { nn.checkpoint(block()), nn.checkpoint(block()), nn.linear(8, 2) }\n"
    .. "print(net:params()[1].name, net:init({})[\"2.bias\"].shape)\n-- > 0.0.weight\t[2]",
    compose.checkpoint)

  public("nn.residual", "nn.residual(layer, {shortcut =, act =}) -> net",
    "x + layer(x), or shortcut(x) + layer(x), and an activation behind the sum. The tensors of the layer keep their "
    .. "names; those of the shortcut are under shortcut.",
    "local net = nn.residual(nn.linear(2, 2))\n"
    .. "print(net({ weight = tensor.zeros { 2, 2 }, bias = tensor { 1, 1 } }, tensor { {1, 2} }))\n"
    .. "-- > f32[1, 2]\n-- > [[2., 3.]]",
    function(body, o)
      check("nn.residual", o, { "shortcut", "act" })
      return compose.residual(body, o)
    end)

  public("nn.branch", "nn.branch({layer, {\"name\", layer}, …}, join = \"add\") -> net",
    "The same input through several layers. join: \"add\", \"mean\", \"cat\" (along the last dimension), or a "
    .. "function of their outputs.",
    "local net = nn.branch({ nn.linear(2, 3), nn.linear(2, 5) }, \"cat\")\n"
    .. "print(net(net:init {}, tensor { {1, 2} }).shape)\n-- > [1, 8]",
    compose.branch)

  public("nn.layer", "nn.layer {params = {name = shape}, forward = function(s, x), parts = {}, buffers = {}, kind =, "
    .. "group =, note =, cost =} -> net",
    "A layer of your own. Inside forward, s.name is a parameter or buffer, s:call(part, x) applies a part, "
    .. "s:training() tells the mode, s:update(buffer, tensor) gives a buffer its next value, s:key() is a key for "
    .. "random numbers, s:fail(text) raises with the layer's path. forward must be pure.\n"
    .. "  params: { name = shape } or { {name, shape}, … } in order; a shape may be { shape = {3, 2}, init = "
    .. "\"weight\" }: \"weight\", \"bias\", \"embedding\", \"scale\" (1), \"shift\" (0), or a number\n"
    .. "  parts: { {\"name\", layer}, … }, which forward calls by name\n"
    .. "  group: what by.depth sees: \"layer\", \"beside\" (it belongs to the layer before it), \"embed\", "
    .. "\"final\", \"head\"\n"
    .. "  cost: function(net, x, y) -> FLOPs, from shapes, for the summary",
    "local scale = nn.layer { params = { s = { shape = { 2 }, init = \"scale\" } }, forward = function(s, x) "
    .. "return x * s.s end }\nprint(nn.sequential { nn.linear(3, 2), scale }:init { seed = 1 }[\"1.s\"])\n"
    .. "-- > f32[2]\n-- > [1., 1.]",
    function(o)
      check("nn.layer", o, { "params", "buffers", "parts", "forward", "kind", "group", "note", "cost" })
      return compose.layer(o)
    end)

  -- ---- architectures ----

  public("nn.mlp", "nn.mlp {784, 512, 10, act = \"relu\", norm = false, bias = true, dropout = 0, eps = 1e-5} -> net",
    "Linear maps fc1, fc2, …, with norm1 … and an activation between them. Images are flattened. norm: \"layer\", "
    .. "\"batch\", \"rms\", \"group\".",
    "local net = nn.mlp { 784, 64, 10 }\n"
    .. "print(net.depth, net(net:init { seed = 1 }, tensor.zeros { 2, 28, 28, 1 }).shape)\n-- > 2\t[2, 10]", vision.mlp)

  public("nn.conv", "nn.conv {32, \"M\", 64, \"M\", input = {28, 28, 1}, classes = 10, hidden = {}, norm = "
    .. "\"batch\", act = \"relu\", dropout = 0, "
    .. "eps = 1e-5} -> net",
    "Convolutions of 3 x 3 with the channels of the list, \"M\" halves the image, then linear maps: torchvision's VGG "
    .. "(Simonyan and Zisserman 2014, arXiv:1409.1556) with its names features.N, classifier.N (classifier where "
    .. "nothing is hidden). hidden: widths before the last map.",
    "local net = nn.conv { 8, \"M\", 16, \"M\" }\n"
    .. "print(net.depth, net(net:init { seed = 1 }, tensor.zeros { 2, 28, 28, 1 }).shape)\n-- > 2\t[2, 10]",
    vision.conv)

  public("nn.resnet", "nn.resnet {depth = 8, width = 16, input = {28, 28, 1}, classes = 10, norm = \"batch\", groups "
    .. "= 8, act = \"relu\", eps = 1e-5, "
    .. "blocks =, widths =, stem = \"small\"} -> net",
    "Residual networks of basic blocks (He et al. 2015, arXiv:1512.03385) with torchvision's names. depth 8, 14, 20: "
    .. "three stages of width, 2 width, 4 width; or blocks = {2, 2, 2, 2} and widths, with stem = \"large\" (7 x 7, "
    .. "pooling): ResNet-18. norm: \"batch\", \"group\" (groups), \"layer\" (over the channels of each pixel), "
    .. "\"rms\", false.",
    "local net = nn.resnet { depth = 8, width = 4 }\n"
    .. "print(net.depth, net(net:init { seed = 1 }, tensor.zeros { 2, 28, 28, 1 }).shape)\n-- > 3\t[2, 10]",
    vision.resnet)

  public("nn.vit", "nn.vit {input = {28, 28, 1}, patch = 7, width = 64, layers = 4, heads = 4, inner = 4 width, "
    .. "classes = 10, act = \"gelu\", "
    .. "eps = 1e-12} -> net",
    "Vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929) with the names of ViTForImageClassification.",
    "local net = nn.vit { width = 16, layers = 2, heads = 2 }\n"
    .. "print(net(net:init { seed = 1 }, tensor.zeros { 2, 28, 28, 1 }).shape)\n-- > [2, 10]", vision.vit)

  public("nn.gpt", "nn.gpt {vocab = 256, context = 128, width = 128, layers = 4, heads = 4, inner = 4 width, dropout "
    .. "= 0, act = \"gelu_tanh\", "
    .. "eps = 1e-5, tied = true, prefix = \"transformer.\"} -> net",
    "GPT-2 (Radford et al. 2019) with the names and [inputs, outputs] weights of GPT2LMHeadModel. Takes token numbers "
    .. "[n, t] from 0, gives logits [n, t, vocab].",
    "local net = nn.gpt { width = 16, layers = 2, heads = 2, vocab = 32 }\n"
    .. "print(net(net:init { seed = 1 }, tensor({ {1, 2, 3} }, { dtype = \"i64\" })).shape)\n-- > [1, 3, 32]", text.gpt)

  public("nn.llama", "nn.llama {vocab = 256, context = 2048, width = 128, layers = 4, heads = 4, kv_heads = heads, "
    .. "inner = 4 width, head_size = width / heads, "
    .. "act = \"silu\", eps = 1e-6, rope_base = 10000, tied = false, bias = false, rope_scaling =, window =} -> net",
    "Llama (Touvron et al. 2023, arXiv:2302.13971): RMS norms, rotary positions, grouped queries, gated MLP, with the "
    .. "names of LlamaForCausalLM. Tokens [n, t] to logits [n, t, vocab]. With bias = \"qkv\" it is Qwen2, with window "
    .. "Mistral.\n"
    .. "  bias: of the maps of attention: true, false, or \"qkv\", all but the last\n"
    .. "  window: how many places, up to its own, a token sees; a number, or one for each layer (0: all)\n"
    .. "  rope_scaling: {rope_type = \"linear\", factor =}, {rope_type = \"dynamic\", factor =} (beyond context), "
    .. "{rope_type = \"llama3\", factor =, low_freq_factor =, high_freq_factor =, original_max_position_embeddings =} "
    .. "or {rope_type = \"yarn\", factor =, original_max_position_embeddings = context, beta_fast = 32, beta_slow = 1, "
    .. "attention_factor =, mscale =, mscale_all_dim =, truncate = true}, as in config.json",
    "local net = nn.llama { width = 16, layers = 2, heads = 4, kv_heads = 2, vocab = 32 }\n"
    .. "print(net(net:init { seed = 1 }, tensor({ {1, 2, 3} }, { dtype = \"i64\" })).shape)\n-- > [1, 3, 32]",
    text.llama)

  public("nn.bert", "nn.bert {vocab = 256, context = 128, width = 128, layers = 4, heads = 4, inner = 4 width, "
    .. "classes = 2, types = 2, dropout = 0, "
    .. "act = \"gelu\", eps = 1e-12, head = \"classifier\", prefix = \"bert.\"} -> net",
    "BERT (Devlin et al. 2018, arXiv:1810.04805). head: \"classifier\" (BertForSequenceClassification), \"masked\" "
    .. "(BertForMaskedLM), \"none\" (the last hidden states). Called with a batch it reads x (tokens), types (token "
    .. "types) and mask (1: a token, 0: padding).",
    "local net = nn.bert { width = 16, layers = 2, heads = 2, vocab = 32 }\n"
    .. "print(net(net:init { seed = 1 }, tensor({ {1, 2, 3} }, { dtype = \"i64\" })).shape)\n-- > [1, 2]", text.bert)

  require "nn.ensemble".define(public, check)
  require "nn.stitch".define(public, check)

  local archs = { mlp = vision.mlp, conv = vision.conv, resnet = vision.resnet, vit = vision.vit, gpt = text.gpt,
    llama = text.llama, bert = text.bert }
  public("nn.from", "nn.from(model) -> net",
    "The network that a checkpoint is for, from its config.json: model_type llama, mistral, qwen2, gpt2, bert or "
    .. "vit, and what tarn wrote. Headers are enough: the model may be planned. A setting that would be computed "
    .. "otherwise than the model means it is an error.",
    "local net = nn.mlp { 4, 8, 2 }\nlocal m = net:init { seed = 1 }\nprint(nn.from(m).depth)\n-- > 2",
    function(m) return require "nn.from"(m, archs) end)

  -- ---- what a network does ----

  local function method(name, signature, about, example, inner) -- ??name at the prompt looks for `inner`
    local function f(n, ...)
      if net.is(n) then return inner(n, ...) end
      error(("net:%s: expected a network, got %s (write net:%s)"):format(name, kind(n), name), 2)
    end
    net.methods[name] = f
    define("net:" .. name, signature, about, example, f)
  end

  method("call", "net(theta, x, {mode = \"eval\", key =, capture =}) -> y, state, captured",
    "The network with the parameters theta on x. theta: a model in memory or recorded, or a table of tensors by name; "
    .. "x: a tensor, or a batch with the field x. It computes in f64 where one of the two is f64. An "
    .. "error names the layer's path, what it expected and what it got.\n"
    .. "  mode: \"train\" uses batch statistics and dropout; state then holds the next values of buffers by name\n"
    .. "  key: an integer, or an i64 tensor of one element, that random numbers follow from\n"
    .. "  capture: paths of parts, whose outputs come as the third result by path",
    "local net = nn.mlp { 2, 3, 1 }\n"
    .. "local y, state, seen = net(net:init {}, tensor { {1, 2} }, { capture = { \"act1\" } })\n"
    .. "print(y.shape, state, seen.act1.shape)\n-- > [1, 1]\tnil\t[1, 3]", net.call)

  define("net:depth", "net.depth -> integer",
    "The number of layers, as schedules by depth count them: blocks of a transformer or residual network, linear maps "
    .. "and convolutions elsewhere, each with its norms. Models made by net:init have the same. A field, not a "
    .. "method.",
    "print(nn.resnet { depth = 20 }.depth)\n-- > 9", function(n) return n.depth end)

  method("init", "net:init {seed = 0, scheme =, dtype = \"f32\"} -> model",
    "First values of all tensors, as a model with the config.json of the network. Each tensor follows from seed and "
    .. "its name. scheme: \"torch\" (uniform within 1 / sqrt(inputs)), \"he\", \"xavier\", \"resnet\", "
    .. "\"transformer\", or a function of {name, shape, role, fan_in, fan_out, seed} that gives a number, "
    .. "{\"normal\", std}, {\"uniform\", bound} or a tensor; by default the one that the architecture's own code "
    .. "uses.",
    "local net = nn.mlp { 784, 512, 10 }\nlocal m = net:init { seed = 1, scheme = \"he\" }\n"
    .. "print(#m, math.abs(m[\"fc1.weight\"]:std() - (2 / 784) ^ 0.5) < 1e-3)\n-- > 4\ttrue",
    function(n, o)
      check("net:init", o, { "seed", "scheme", "dtype" })
      return net.guarded(init.model, n, o or {})
    end)

  method("params", "net:params() -> {{name, shape, layer, place, buffer}, …}",
    "All tensors in order. layer: the depth of the layer that each lies in, from 0; nil outside layers. place: "
    .. "layer, embed, final or head. buffer: true for running statistics.",
    "local p = nn.mlp { 4, 8, 2 }:params()[3]\nprint(p.name, p.shape, p.layer)\n-- > fc2.weight\t[2, 8]\t1",
    function(n)
      local list = {}
      for i, t in ipairs(net.structure(n).tensors) do
        list[i] = { name = t.name, shape = setmetatable({ table.unpack(t.shape) }, { __tostring = net.shape_text }),
          layer = t.group.depth, place = t.group.place, buffer = t.buffer }
      end
      return list
    end)

  method("layers", "for name, part in net:layers() do … end",
    "Goes through the parts that schedules by depth see: embed, the layers, final, head. part is a choice for "
    .. "model:only, so that a + (b - a):only(part) exchanges one layer. Every tensor lies in one of them.",
    "for name, part in nn.mlp { 4, 8, 2 }:layers() do print(name, part \"fc1.bias\") end\n-- > fc1\ttrue\n"
    .. "-- > fc2\tfalse",
    function(n)
      local groups, k = net.structure(n).groups, 0
      return function()
        k = k + 1
        local g = groups[k]
        if not g then return nil end
        local inside = {}
        for _, name in ipairs(g.names) do inside[name] = true end
        return g.name, function(name) return inside[name] == true end
      end
    end)

  method("capture", "net:capture(theta, x, names, {of = \"output\", mode = \"eval\", key =}) -> {path = tensor}",
    "Runs the network and gives what comes out of some of its parts, or, with of = \"input\", what goes into them. "
    .. "names: a path as in the summary, or a list of them.",
    "local net = nn.mlp { 2, 3, 1 }\n"
    .. "print(net:capture(net:init {}, tensor { {1, 2} }, { \"fc2\" }, { of = \"input\" }).fc2.shape)\n"
    .. "-- > [1, 3]",
    function(n, theta, x, names, o)
      o = o or {}
      check("net:capture", o, { "of", "mode", "key" })
      return net.guarded(function()
        local of = o.of or "output"
        if of ~= "input" and of ~= "output" then net.fail("net:capture: of = %s; expected \"output\" or "
          .. "\"input\"", tostring(of)) end
        local _, _, seen = net.run(n, theta, x, { mode = o.mode, key = o.key, want = net.wanted(n, names, of) })
        return seen
      end)
    end)

  method("upto", "net:upto(name) -> net",
    "The network's parts up to and with the one called name, as a network with the same names of tensors. "
    .. "net:from(name) is the rest, so that two networks can be stitched: b:from(name)(theta_b, "
    .. "a:upto(name)(theta_a, x)).",
    "local net = nn.mlp { 2, 3, 1 }\nlocal m, x = net:init {}, tensor { {1, 2} }\n"
    .. "print(net:from \"act1\"(m, net:upto \"act1\"(m, x)):equal(net(m, x)))\n-- > true",
    function(n, name) return net.guarded(compose.upto, n, name) end)

  method("from", "net:from(name) -> net", "The network's parts behind the one called name; see net:upto.",
    "print(#nn.mlp { 2, 3, 1 }:from \"fc1\":params())\n-- > 2",
    function(n, name) return net.guarded(compose.from, n, name) end)

  method("summary", "net:summary {input =, batch = 1, levels =} -> string",
    "What print(net) shows: parts, output shapes, parameters, and the FLOPs of matrix products, convolutions and "
    .. "attention (two for a multiplication and an addition). Nothing is computed. input: the shape of one input, "
    .. "where the network does not know it; levels: how deep parts of parts are shown.",
    "print(nn.mlp { 784, 512, 10 }:summary { levels = 1 }:match \"[^\\n]*\")\n"
    .. "-- > mlp: 407,050 parameters, 2 layers, 813 k FLOPs for an input of [1, 784]",
    function(n, o)
      check("net:summary", o, { "input", "batch", "levels" })
      return net.guarded(summary.text, n, o or {})
    end)

  -- ---- losses ----

  method("loss", "net:loss(data, {loss = \"cross_entropy\", bn =, batch = 1000, mode = \"eval\", key =, "
    .. "label_smoothing =, ignore_index = -100}) -> loss",
    "The mean loss over data as a function of theta: f(theta) is a number, or recorded where theta is. data: a data "
    .. "set, a batch, or {x =, y =}. Networks that predict the next token need no y. Everything goes in chunks of "
    .. "`batch` rows in a fixed order, compiled once for each network, loss and size. A theta that lies in files is "
    .. "loaded.\n"
    .. "  loss: \"cross_entropy\", \"mse\", \"bce\", or a function(y, batch) -> the mean over the batch\n"
    .. "  bn: data over which running statistics of batch norms are made anew for every theta\n"
    .. "  mode: \"train\" uses batch statistics (of each chunk) and dropout by key\n"
    .. "  label_smoothing and ignore_index: as in tensor:cross_entropy",
    "local net = nn.mlp { 2, 3, 2 }\n"
    .. "local f = net:loss { x = tensor { {1, 2}, {3, 4} }, y = tensor({ 0, 1 }, { dtype = \"i64\" }) }\n"
    .. "local m = net:init { seed = 1 }\nprint(f(m - 0.1 * f:grad(m)) < f(m), f:report(m).n)\n-- > true\t2",
    function(n, data, o) return net.guarded(loss.new, n, data, o) end)

  local function of_loss(name, signature, about, example)
    define("loss:" .. name, signature, about, example, loss.methods[name])
  end
  local function of_linear(name, signature, about, example)
    define("linearisation:" .. name, signature, about, example, loss.linear_methods[name])
  end
  local data = "local net = nn.mlp { 2, 3, 2 }\n"
    .. "local f = net:loss { x = tensor { {1, 2}, {3, 4} }, y = tensor({ 0, 1 }, { dtype = \"i64\" }) }\n"
    .. "local m = net:init { seed = 1 }\n"

  of_loss("report", "f:report(theta) -> {loss, error, accuracy, n}",
    "The loss, the share of wrong and of right predictions, and the number of rows scored. error and accuracy are nil "
    .. "where there are no classes.",
    data .. "local r = f:report(m)\nprint(r.n, r.error + r.accuracy, r.loss == f(m))\n-- > 2\t1.0\ttrue")
  of_loss("grad", "f:grad(theta) -> gradient",
    "The gradient of the mean loss: a model of mass 0, or a table where theta is one.",
    data .. "print(f:grad(m):mass())\n-- > 0.0")
  of_loss("linearize", "f:linearize(theta, {chunk =, keep = true}) -> linearisation",
    "The derivatives of the loss at theta, for products with many vectors. With keep, what they need of the network's "
    .. "run stays in memory, chunk by chunk; without, it is computed again each time. chunk: rows at a time, f's "
    .. "batch unless given. To be closed: local H <close> = f:linearize(theta).",
    data .. "local H <close> = f:linearize(m)\nprint(H:hvp(m):mass(), H.value == f(m))\n-- > 0.0\ttrue")
  of_linear("hvp", "H:hvp(v) -> Hessian times v", "v has the structure of theta; what it lacks counts as zero.",
    data .. "local H <close> = f:linearize(m)\nlocal a, b = H:grad(), m - 0 * m\nprint(math.abs(a:dot(H:hvp(b)) - "
      .. "b:dot(H:hvp(a))) < 1e-6)\n-- > true")
  of_linear("ggn", "H:ggn(v) -> Gauss-Newton matrix times v",
    "J' A J v, where J is the Jacobian of the network's outputs and A the Hessian of the loss by them (Schraudolph "
    .. "2002).",
    data .. "local H <close> = f:linearize(m)\nprint(m:dot(H:ggn(m)) >= 0)\n-- > true")
  of_linear("grad", "H:grad() -> gradient", "The gradient at theta; H.value is the loss there.",
    data .. "local H <close> = f:linearize(m)\nprint((H:grad() - f:grad(m)):norm())\n-- > 0.0")
  of_linear("close", "H:close()", "Gives the memory back; H cannot be used after it.", data .. "f:linearize(m):close()")
end
