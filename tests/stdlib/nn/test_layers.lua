-- SPDX-License-Identifier: Apache-2.0
-- Layers by closed forms, PyTorch's names and shapes, first values, depth, capture, cutting and stitching, summaries,
-- dropout, running statistics, losses, config.json, errors.
local check = dofile "tests/stdlib/bind/check.lua"
local new_folder = dofile "tests/stdlib/bind/folder.lua"
local equal, near, raises, same = check.equal, check.near, check.raises, check.tensor

local function f64(t) return tensor(t, { dtype = "f64" }) end
local function i64(t) return tensor(t, { dtype = "i64" }) end
local function close(a, b, most, what)
  local off = (a - b):abs():max()
  assert(off <= (most or 1e-12), (what or "") .. " differs by " .. off)
end
local function names(net)
  local list = {}
  for i, p in ipairs(net:params()) do list[i] = p.name .. " " .. tostring(p.shape) end
  return table.concat(list, "\n")
end
-- One word a line, without the indentation of the test.
local function lines(text) return (text:gsub("^%s+", ""):gsub("%s*\n%s*", "\n"):gsub("%s+$", "")) end

-- Small networks of every kind, each with an input.
local function zoo()
  local image, tokens = tensor.normal({ 3, 28, 28, 1 }, 5), i64 { { 1, 2, 3, 4 }, { 5, 6, 7, 0 } }
  return {
    mlp = { nn.mlp { 784, 12, 8, 10, norm = "layer", act = "gelu" }, image },
    conv = { nn.conv { 4, "M", 6, "M", hidden = { 16 } }, image },
    conv_plain = { nn.conv { 4, "M", 6, "M", norm = false, act = "tanh" }, image },
    resnet = { nn.resnet { depth = 14, width = 4 }, image },
    resnet_group = { nn.resnet { depth = 8, width = 4, norm = "group", groups = 2 }, image },
    resnet_layer = { nn.resnet { depth = 8, width = 4, norm = "layer" }, image },
    resnet_none = { nn.resnet { depth = 8, width = 4, norm = false }, image },
    resnet_large = { nn.resnet { blocks = { 1, 2 }, widths = { 4, 6 }, stem = "large" }, image },
    vit = { nn.vit { width = 8, layers = 2, heads = 2 }, image },
    gpt = { nn.gpt { vocab = 11, context = 8, width = 8, layers = 2, heads = 2 }, tokens },
    gpt_untied = { nn.gpt { vocab = 11, context = 8, width = 8, layers = 2, heads = 2, tied = false, prefix = "" }, tokens },
    llama = { nn.llama { vocab = 11, width = 8, layers = 3, heads = 4, kv_heads = 2, inner = 12 }, tokens },
    mistral = { nn.llama { vocab = 11, width = 8, layers = 2, heads = 2, window = 3, rope_scaling = { rope_type = "dynamic",
      factor = 2 }, context = 4 }, tokens },
    qwen2 = { nn.llama { vocab = 11, width = 8, layers = 2, heads = 2, bias = "qkv", window = { 0, 2 } }, tokens },
    llama_windows = { nn.llama { vocab = 11, width = 8, layers = 2, heads = 2, bias = true, window = { 2, 3 } }, tokens },
    llama_tied = { nn.llama { vocab = 11, width = 8, layers = 2, heads = 2, tied = true, bias = true }, tokens },
    bert = { nn.bert { vocab = 11, context = 8, width = 8, layers = 2, heads = 2, classes = 3 }, tokens },
    bert_masked = { nn.bert { vocab = 11, context = 8, width = 8, layers = 2, heads = 2, head = "masked" }, tokens },
    bert_none = { nn.bert { vocab = 11, context = 8, width = 8, layers = 2, heads = 2, head = "none", prefix = "" }, tokens },
  }
end

-- ---- closed forms ----

do
  local x = f64 { { 1, 2 }, { 3, 5 } }
  local w, b = f64 { { 1, 0 }, { 0, 2 }, { 1, 1 } }, f64 { 0.5, 0, -1 }
  same(nn.linear(2, 3)({ weight = w, bias = b }, x), { { 1.5, 4.0, 2.0 }, { 3.5, 10.0, 7.0 } })
  same(nn.linear(2, 3, { transposed = true })({ weight = w:t(), bias = b }, x), { { 1.5, 4.0, 2.0 }, { 3.5, 10.0, 7.0 } })
  same(nn.linear(2, 3, { bias = false })({ weight = w }, x), { { 1.0, 4.0, 3.0 }, { 3.0, 10.0, 8.0 } })
  -- leading dimensions
  equal(nn.linear(2, 3)({ weight = w, bias = b }, x:reshape { 2, 1, 1, 2 }).shape, { 2, 1, 1, 3 })
  same(nn.linear(2, 3)({ weight = w, bias = b }, x[1]), { 1.5, 4.0, 2.0 })
  -- f32 input with f64 parameters is computed in f64
  equal(nn.linear(2, 3)({ weight = w, bias = b }, tensor { { 1, 2 } }).dtype, "f64")
  local wide = nn.conv2d(3, 4, 3)
  equal(wide(wide:init { dtype = "f64" }, tensor.ones { 1, 4, 4, 3 }).dtype, "f64")
end
do -- a convolution that moves the image one pixel to the right: torch's layout [out, in, h, w] on [n, h, w, c]
  local x = tensor.arange(12):to "f64":reshape { 1, 2, 3, 2 }
  local w = tensor.zeros({ 1, 2, 1, 3 }, { dtype = "f64" })
  w:set_({ 1, 2, 1, 1 }, 1)
  local y = nn.conv2d(2, 1, { 1, 3 }, { padding = { 0, 1 } })({ weight = w, bias = f64 { 0 } }, x)
  same(y[{ 1, {}, {}, 1 }], { { 0.0, 1.0, 3.0 }, { 0.0, 7.0, 9.0 } })
end
do -- norms from their definitions
  local x = tensor.normal({ 2, 3, 4, 6 }, 1, { dtype = "f64" })
  local w, b = tensor.normal({ 6 }, 2, { dtype = "f64" }), tensor.normal({ 6 }, 3, { dtype = "f64" })
  local p = { weight = w, bias = b }
  local function normed(t, dims)
    local d = t - t:mean(dims, true)
    return d / (d * d):mean(dims, true):add(1e-5):sqrt()
  end
  close(nn.layer_norm(6)(p, x), normed(x, 4) * w + b)
  close(nn.group_norm(3, 6)(p, x), normed(x:reshape { 2, 3, 4, 3, 2 }, { 2, 3, 5 }):reshape(x.shape) * w + b)
  close(nn.rms_norm(6)(p, x), x / (x * x):mean(4, true):add(1e-6):sqrt() * w)
  local theta = { weight = w, bias = b, running_mean = f64 { 1, 2, 3, 4, 5, 6 }, running_var = f64 { 1, 2, 3, 4, 5, 6 } }
  close(nn.batch_norm(6)(theta, x), (x - theta.running_mean) / (theta.running_var + 1e-5):sqrt() * w + b)
  local y, state = nn.batch_norm(6, { momentum = 0.25 })(theta, x, { mode = "train" })
  close(y, normed(x, { 1, 2, 3 }) * w + b)
  close(state.running_mean, 0.75 * theta.running_mean + 0.25 * x:mean { 1, 2, 3 })
  close(state.running_var, 0.75 * theta.running_var + 0.25 * x:var({ 1, 2, 3 }))
  raises("more than one value a channel", nn.batch_norm(6), theta, x[{ { 1, 1 }, { 1, 1 }, { 1, 1 } }], { mode = "train" })
end
do -- shapes and pools
  local x = tensor.arange(24):to "f64":reshape { 1, 2, 3, 4 }
  close(nn.flatten()({}, x), x:permute { 1, 4, 2, 3 }:reshape { 1, 24 }, 0)
  equal(nn.flatten()({}, tensor.zeros { 5, 2, 3 }).shape, { 5, 6 })
  close(nn.global_avg_pool()({}, x), x:reshape { 1, 6, 4 }:mean(2))
  close(nn.adaptive_avg_pool2d(1)({}, x), x:reshape { 1, 6, 4 }:mean(2):reshape { 1, 1, 1, 4 })
  close(nn.avg_pool2d({ 2, 3 })({}, x):reshape { 4 }, x:reshape { 6, 4 }:mean(1))
  same(nn.max_pool2d(2)({}, x):reshape { 4 }, { 16.0, 17.0, 18.0, 19.0 })
end
do -- activations
  local x = f64 { -2, -0.5, 0, 0.5, 3 }
  local function act(name) return nn.activation(name)({}, x) end
  close(act "gelu", x * 0.5 * (1 + (x / math.sqrt(2)):erf()))
  close(act "gelu_tanh", 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3)):tanh()))
  close(act "silu", x * x:sigmoid())
  close(act "quick_gelu", x * (1.702 * x):sigmoid())
  close(act "softplus", (1 + x:exp()):log())
  close(act "leaky_relu", tensor.where(x:gt(0), x, 0.01 * x))
  close(nn.activation(function(t) return t * 2 end)({}, x), x * 2, 0)
  raises("did you mean 'relu'", nn.activation, "rleu")
end

-- ---- composing ----

do
  local x = f64 { { 1, 2 } }
  local net = nn.sequential { nn.linear(2, 2), function(t) return t + 1 end, { "last", nn.linear(2, 1, { bias = false }) } }
  equal(names(net), lines [[
    0.weight [2, 2]
    0.bias [2]
    last.weight [1, 2] ]])
  local theta = { ["0.weight"] = f64 { { 1, 0 }, { 0, 1 } }, ["0.bias"] = f64 { 0, 0 }, ["last.weight"] = f64 { { 1, 10 } } }
  same(net(theta, x), { { 32.0 } })
  local res = nn.residual(nn.linear(2, 2), { shortcut = nn.linear(2, 2, { bias = false }), act = "relu" })
  equal(names(res), lines [[
    weight [2, 2]
    bias [2]
    shortcut.weight [2, 2] ]])
  same(res({ weight = f64 { { 1, 0 }, { 0, 1 } }, bias = f64 { 0, -9 }, ["shortcut.weight"] = f64 { { 0, 1 }, { 1, 0 } } }, x),
    { { 3.0, 0.0 } })
  local function twice(t) return 2 * t end
  same(nn.branch { "identity", twice }({}, x), { { 3.0, 6.0 } })
  same(nn.branch({ "identity", twice }, "mean")({}, x), { { 1.5, 3.0 } })
  same(nn.branch({ "identity", twice }, "cat")({}, x), { { 1.0, 2.0, 2.0, 4.0 } })
  same(nn.branch({ "identity", twice }, function(a, b) return b - a end)({}, x), { { 1.0, 2.0 } })
  raises("join = ad", nn.branch, { "relu" }, "ad")
  raises("nn.sequential: expected a layer, a function or the name of an activation, got number", nn.sequential, { 1 })
end
do -- a layer of one's own, with parts, a buffer and a tensor that is used twice
  local counting = nn.layer { params = { { "scale", { shape = { 2 }, init = 3 } } }, buffers = { seen = { 1 } },
    parts = { { "map", nn.linear(2, 2) } }, kind = "counting",
    forward = function(s, x)
      if s:training() then s:update("seen", s.seen + x.shape[1]) end
      return s:call("map", s:call("map", x)) * s.scale
    end }
  local net = nn.sequential { counting }
  equal(names(net), lines [[
    0.scale [2]
    0.seen [1]
    0.map.weight [2, 2]
    0.map.bias [2] ]])
  local m = net:init { seed = 3 }
  same(m:tensor "0.scale", { 3.0, 3.0 })
  same(m:tensor "0.seen", { 0.0 })
  local _, state = net(m, tensor.ones { 5, 2 }, { mode = "train" })
  same(state["0.seen"], { 5.0 })
  equal(net:params()[2].buffer, true)
  equal(net.depth, 1)
end

-- ---- names and shapes: those of torch, torchvision and transformers ----

equal(names(nn.conv { 8, "M", 16, "M", hidden = { 32 }, input = { 8, 8, 3 } }), lines [[
  features.0.weight [8, 3, 3, 3]
  features.0.bias [8]
  features.1.weight [8]
  features.1.bias [8]
  features.1.running_mean [8]
  features.1.running_var [8]
  features.4.weight [16, 8, 3, 3]
  features.4.bias [16]
  features.5.weight [16]
  features.5.bias [16]
  features.5.running_mean [16]
  features.5.running_var [16]
  classifier.0.weight [32, 64]
  classifier.0.bias [32]
  classifier.3.weight [10, 32]
  classifier.3.bias [10] ]])
equal(names(nn.gpt { vocab = 11, context = 8, width = 8, layers = 1, heads = 2 }), lines [[
  transformer.wte.weight [11, 8]
  transformer.wpe.weight [8, 8]
  transformer.h.0.ln_1.weight [8]
  transformer.h.0.ln_1.bias [8]
  transformer.h.0.attn.c_attn.weight [8, 24]
  transformer.h.0.attn.c_attn.bias [24]
  transformer.h.0.attn.c_proj.weight [8, 8]
  transformer.h.0.attn.c_proj.bias [8]
  transformer.h.0.ln_2.weight [8]
  transformer.h.0.ln_2.bias [8]
  transformer.h.0.mlp.c_fc.weight [8, 32]
  transformer.h.0.mlp.c_fc.bias [32]
  transformer.h.0.mlp.c_proj.weight [32, 8]
  transformer.h.0.mlp.c_proj.bias [8]
  transformer.ln_f.weight [8]
  transformer.ln_f.bias [8] ]])
do
  local list = names(nn.bert { vocab = 11, context = 8, width = 8, layers = 1, heads = 2, head = "masked" })
  assert(list:find("cls.predictions.transform.LayerNorm.weight [8]", 1, true) and list:find("cls.predictions.bias [11]", 1, true))
  assert(not list:find("decoder", 1, true))
  list = names(nn.resnet { blocks = { 2, 2, 2, 2 }, widths = { 64, 128, 256, 512 }, stem = "large", input = { 224, 224, 3 },
    classes = 1000 })
  local n = select(2, list:gsub("[^\n]+", ""))
  equal(n, 122 - 20) -- torchvision's resnet18 has 122 tensors, 20 of them num_batches_tracked
  assert(list:find("layer4.0.downsample.1.running_var [512]", 1, true) and list:find("fc.weight [1000, 512]", 1, true))
end

-- ---- first values ----

do
  local function wide(scheme, o)
    return nn.mlp { 400, 300, 10 }:init { seed = 1, scheme = scheme, dtype = o }
  end
  local function moments(t, mean, std)
    local n = t:numel()
    near(t:mean(), mean, 5 * std / math.sqrt(n))
    near(t:std() / std, 1, 5 / math.sqrt(2 * n))
  end
  local m = wide()
  moments(m["fc1.weight"], 0, 1 / math.sqrt(3 * 400))
  assert(m["fc1.weight"]:abs():max() <= 1 / 20 and m["fc1.bias"]:abs():max() <= 1 / 20)
  moments(m["fc1.bias"], 0, 1 / math.sqrt(3 * 400))
  moments(wide "he"["fc1.weight"], 0, math.sqrt(2 / 400))
  equal(wide "he"["fc1.bias"]:abs():max(), 0.0)
  moments(wide "xavier"["fc1.weight"], 0, math.sqrt(2 / 700))
  moments(wide(function() return { "normal", 0.5 } end)["fc2.weight"], 0, 0.5)
  equal(wide(function(p) return p.role == "bias" and 7 or tensor.ones(p.shape) end)["fc2.bias"]:min(), 7.0)
  equal(wide(nil, "f64"):dtype(), "f64")
  -- torchvision's and GPT-2's
  local r = nn.resnet { depth = 8, width = 32 }:init { seed = 2 }
  moments(r["layer2.0.conv2.weight"], 0, math.sqrt(2 / (64 * 9)))
  moments(r["fc.weight"], 0, 1 / math.sqrt(3 * 128))
  equal({ r["bn1.weight"]:min(), r["bn1.bias"]:max(), r["bn1.running_var"]:min() }, { 1.0, 0.0, 1.0 })
  local g = nn.gpt { width = 64, layers = 2, heads = 2 }:init { seed = 2 }
  moments(g["transformer.wte.weight"], 0, 0.02)
  moments(g["transformer.h.0.mlp.c_fc.weight"], 0, 0.02)
  moments(g["transformer.h.0.mlp.c_proj.weight"], 0, 0.01)
  -- keyed by seed and name: repeats, and one tensor does not depend on the others
  assert((wide() - m):norm() == 0 and (nn.mlp { 400, 300, 10 }:init { seed = 2 } - m):norm() > 1)
  assert(nn.mlp { 400, 300, 7, 10 }:init { seed = 1 }["fc1.weight"]:equal(m["fc1.weight"]))
  assert(not m["fc1.bias"]:equal(nn.mlp { 300, 300 }:init { seed = 1 }["fc1.bias"]))
  equal(m:mass(), 1.0)
  raises("did you mean 'xavier'", wide, "xavie")
  raises("seed = x is no integer", function() nn.mlp { 2, 2 }:init { seed = "x" } end)
end

-- ---- every network: depth, saving and nn.from, stitching, summary, gradient ----

local folder <close> = new_folder()
for kind, entry in pairs(zoo()) do
  local net, x = entry[1], entry[2]
  local m = net:init { seed = 4 }
  local y = net(m, x)
  -- what by.depth sees in the model is what the network says
  equal(m:structure().depths, net.depth, kind .. ": depth")
  for _, p in ipairs(net:params()) do
    local info = m:info(p.name)
    equal({ info.place, info.depth or -1 }, { p.place, p.layer or -1 }, kind .. ": " .. p.name)
  end
  local per_layer = tensor.arange(1, net.depth + 1):to "f32"
  local scaled = by.depth(per_layer) * m
  for _, p in ipairs(net:params()) do
    if p.layer and not p.buffer then
      assert(scaled:tensor(p.name):equal(m:tensor(p.name) * (p.layer + 1)), kind .. ": " .. p.name)
    end
  end
  local groups, covered = 0, 0
  for name, part in net:layers() do
    groups = groups + 1
    covered = covered + #m:only(part)
    assert(type(name) == "string")
  end
  equal(covered, #m, kind .. ": every tensor lies in one part")
  assert(groups >= net.depth)
  -- config.json brings the network back
  m:save(folder(kind))
  local read = model.open(folder(kind))
  local again = nn.from(read)
  equal(again.kind, net.kind)
  equal(names(again), names(net))
  equal(read:structure().depths, net.depth, kind .. ": depth after saving")
  assert(again(read:load(), x):equal(y), kind .. ": nn.from computes something else")
  -- cut anywhere and joined, it is the same network
  local cuts = 0
  local function paths(n, path, out)
    for _, c in ipairs(n.children) do
      local name = path == "" and c.name or path .. "." .. c.name
      out[#out + 1] = name
      if c.net.chain then paths(c.net, name, out) end
    end
    return out
  end
  local list = paths(net, "", {})
  for i, name in ipairs(list) do
    local first = net:upto(name)
    local h = first(m, x)
    assert(#first:params() <= #m)
    if i < #list and list[#list]:sub(1, #name) ~= name then
      cuts = cuts + 1
      assert(net:from(name)(m, h):equal(y), kind .. " cut at " .. name)
    else
      assert(h:equal(y), kind .. " up to " .. name)
    end
    assert(net:capture(m, x, name)[name]:equal(h), kind .. ": captured " .. name)
  end
  assert(cuts > 1)
  -- shapes of the summary are those of the run
  local shape = "[" .. table.concat(y.shape, ", "):gsub("^%d+", "1") .. "]"
  local input = net.tokens and { x.shape[2] } or nil
  assert(net:summary { input = input }:find(shape, 1, true), kind .. ": no " .. shape .. " in\n" .. net:summary { input = input })
  assert(net:summary { levels = 1 }:find(("%d layers"):format(net.depth), 1, true))
end

do -- a piece keeps the places of its parts
  local net = nn.conv { 4, "M", hidden = { 16 } }:upto "classifier.0"
  equal({ net.depth, net:params()[#net:params()].place }, { 1, "head" })
  equal(nn.gpt { layers = 3, width = 8, heads = 2 }:from "transformer.h.0".depth, 2)
  -- parameters of newer config.json: rope_parameters
  local m = nn.llama { vocab = 11, width = 8, layers = 1, heads = 2 }:init { seed = 1 }
  local moved = m:with_config { rope_theta = yaml.null, rope_parameters = { rope_theta = 3.0, rope_type = "default" } }
  local ids = i64 { { 1, 2, 3 } }
  close(nn.from(moved)(m, ids), nn.llama { vocab = 11, width = 8, layers = 1, heads = 2, rope_base = 3.0 }(m, ids), 0)
  assert((nn.from(moved)(m, ids) - nn.from(m)(m, ids)):abs():max() > 0)
end

-- ---- layers that config.json declares ----

do
  local parts = {}
  for _, name in ipairs { "a.weight", "a.bias", "b", "c.x.weight", "c.y", "d" } do parts[#parts + 1] = { name, tensor { 1 } } end
  local m = model.new(parts):with_config { tarn = { depth = { a = 1, ["a.bias"] = 0, c = 2, ["c.y"] = "head", d = "nowhere" } } }
  local function of(name)
    local i = m:info(name)
    return { i.place, i.depth or -1 }
  end
  equal(of "a.weight", { "layer", 1 })
  equal(of "a.bias", { "layer", 0 })
  equal(of "b", { "other", -1 })
  equal(of "c.x.weight", { "layer", 2 })
  equal(of "c.y", { "head", -1 })
  equal(of "d", { "other", -1 })
  equal(m:structure().depths, 3)
  equal(m:structure().stacks[1].name, "net")
  equal(#m:layers(0, 1), 5)
  -- what makes no sense is passed over
  local odd = model.new(parts):with_config { tarn = { depth = { a = -1, b = 1.5, c = true, d = 1 << 40 } } }
  equal({ odd:structure().depths, odd:info "a.weight".place, odd:info "d".place }, { 0, "other", "other" })
  equal(model.new(parts):with_config { tarn = 3 }:structure().depths, model.new(parts):structure().depths)
end

-- ---- transformers against elementary steps ----

do
  local net = nn.gpt { vocab = 11, context = 8, width = 8, layers = 2, heads = 2 }
  local m = net:init { seed = 1, dtype = "f64", scheme = function(p) return tensor.normal(p.shape, p.seed, { std = 0.5 }) end }
  local ids = { 3, 1, 4, 1, 5 }
  local function t(name) return m:tensor("transformer." .. name) end
  local function norm(x, name)
    local d = x - x:mean(2, true)
    return d / (d * d):mean(2, true):add(1e-5):sqrt() * t(name .. ".weight") + t(name .. ".bias")
  end
  local function map(x, name) return x:matmul(t(name .. ".weight")) + t(name .. ".bias") end
  local rows = {}
  for i, id in ipairs(ids) do rows[i] = t "wte.weight"[id + 1] + t "wpe.weight"[i] end
  local x = tensor.stack(rows)
  for l = 0, 1 do
    local h = "h." .. l .. "."
    local qkv = map(norm(x, h .. "ln_1"), h .. "attn.c_attn")
    local heads = {}
    for k = 0, 1 do
      local function part(i) return qkv[{ {}, { 8 * i + 4 * k + 1, 8 * i + 4 * k + 4 } }] end
      local score, out = part(0):matmul(part(1):t()) / 2, {}
      for i = 1, 5 do out[i] = score[{ i, { 1, i } }]:softmax():reshape { 1, i }:matmul(part(2)[{ { 1, i } }]) end
      heads[k + 1] = tensor.cat(out, 1)
    end
    x = x + map(tensor.cat(heads, 2), h .. "attn.c_proj")
    local u = map(norm(x, h .. "ln_2"), h .. "mlp.c_fc")
    u = 0.5 * u * (1 + (math.sqrt(2 / math.pi) * (u + 0.044715 * u ^ 3)):tanh())
    x = x + map(u, h .. "mlp.c_proj")
  end
  local y = norm(x, "ln_f"):matmul(t "wte.weight":t())
  close(net(m, i64 { ids })[1], y, 1e-10, "GPT-2")
end
do -- causal networks do not look ahead; padding is not looked at; token types count
  local a, b = i64 { { 1, 2, 3, 4 } }, i64 { { 1, 2, 3, 9 } }
  for _, net in ipairs { nn.gpt { vocab = 11, context = 8, width = 8, layers = 2, heads = 2 },
    nn.llama { vocab = 11, width = 8, layers = 2, heads = 4, kv_heads = 2 } } do
    local m = net:init { seed = 1, scheme = function(p) return tensor.normal(p.shape, p.seed) end }
    local u, v = net(m, a), net(m, b)
    close(u[{ 1, { 1, 3 } }], v[{ 1, { 1, 3 } }], 1e-5)
    assert((u[{ 1, 4 }] - v[{ 1, 4 }]):abs():max() > 1e-3)
  end
  local net = nn.bert { vocab = 11, context = 8, width = 8, layers = 2, heads = 2 }
  local m = net:init { seed = 1, scheme = function(p) return tensor.normal(p.shape, p.seed) end }
  local mask = i64 { { 1, 1, 1, 0 } }
  close(net(m, { x = a, mask = mask }), net(m, { x = b, mask = mask }), 1e-5)
  close(net(m, { x = a, mask = mask }), net(m, a[{ {}, { 1, 3 } }]), 1e-5)
  assert((net(m, a) - net(m, b)):abs():max() > 1e-3)
  close(net(m, { x = a, types = i64 { { 0, 0, 0, 0 } } }), net(m, a), 0)
  assert((net(m, { x = a, types = i64 { { 1, 1, 1, 1 } } }) - net(m, a)):abs():max() > 1e-3)
end

do -- forward and reverse mode through heads that are views: a fused row is taken apart, and views of views join
  local q, v = tensor.normal({ 2, 2, 5, 4 }, 3, { dtype = "f64" }), tensor.normal({ 2, 2, 5, 4 }, 4, { dtype = "f64" })
  local function f(x) return q:attention(x:permute { 1, 3, 2, 4 }, v, {}) end
  local x, d = tensor.normal({ 2, 5, 2, 4 }, 1, { dtype = "f64" }), tensor.normal({ 2, 5, 2, 4 }, 2, { dtype = "f64" })
  local h = 1e-5
  close(jvp(f, x, d), (f(x + h * d) - f(x - h * d)) / (2 * h), 1e-8)
  local function slope(u) return grad(function(t) return (f(t) ^ 3):sum() end, u) end
  close(hvp(function(t) return (f(t) ^ 3):sum() end, x, d), (slope(x + h * d) - slope(x - h * d)) / (2 * h), 1e-7)
end

-- ---- dropout ----

do
  local net = nn.sequential { nn.dropout(0.5), nn.dropout(0.5) }
  local x = tensor.ones { 4096 }
  local y = net({}, x, { mode = "train", key = 3 })
  close(y, net({}, x, { mode = "train", key = 3 }), 0)
  close(y, net({}, x, { mode = "train", key = i64 { 3 } }), 0)
  assert((y - net({}, x, { mode = "train", key = 4 })):abs():max() > 0)
  same(net({}, tensor.ones { 2 }), { 1.0, 1.0 })
  near(y:eq(0):to "f32":mean(), 0.75, 0.05) -- two places draw apart: the same mask twice would leave half
  equal(y:max(), 4.0)
  raises("1 (dropout): it draws random numbers", nn.sequential { "relu", nn.dropout(0.5) }, {}, x, { mode = "train" })
  -- gradients pass through the same mask
  local g = grad(function(u) return net({}, u, { mode = "train", key = 3 }):sum() end, x)
  close(g, y, 0)
  local gpt = nn.gpt { vocab = 11, context = 8, width = 8, layers = 1, heads = 2, dropout = 0.3 }
  local m, ids = gpt:init { seed = 1 }, i64 { { 1, 2, 3 } }
  local drawn = gpt(m, ids, { mode = "train", key = 1 })
  close(drawn, gpt(m, ids, { mode = "train", key = 1 }), 0)
  assert((drawn - gpt(m, ids)):abs():max() > 0)
  close(drawn[{ 1, { 1, 2 } }], gpt(m, i64 { { 1, 2, 9 } }, { mode = "train", key = 1 })[{ 1, { 1, 2 } }], 1e-6)
end

-- ---- losses ----

do
  local net = nn.mlp { 3, 5, 4, act = "tanh" }
  local m = net:init { seed = 1, dtype = "f64" }
  local data = { x = tensor.normal({ 7, 3 }, 1, { dtype = "f64" }), y = i64 { 0, 1, 2, 3, 0, -100, 2 } }
  local z = net(m, data.x)
  local logp = z:log_softmax(2)
  local function picked(skip)
    local sum, n = 0, 0
    for i, c in ipairs(data.y:totable()) do
      if c ~= skip then sum, n = sum - logp[{ i, c + 1 }], n + 1 end
    end
    return sum / n
  end
  near(net:loss(data, { ignore_index = -100 })(m), picked(-100), 1e-13)
  near(net:loss(data, { ignore_index = -100, batch = 2 })(m), picked(-100), 1e-13)
  equal(net:loss(data, { ignore_index = -100, batch = 2 }):report(m).n, 6)
  -- -100 does not count unless something else is said; a chunk of nothing but such rows counts for nothing
  near(net:loss(data)(m), picked(-100), 1e-13)
  near(net:loss(data, { batch = 1 })(m), picked(-100), 1e-13)
  do
    local kept = { x = data.x:index_select(1, i64 { 1, 2, 3, 4, 5, 7 }), y = i64 { 0, 1, 2, 3, 0, 2 } }
    near((net:loss(data, { batch = 1 }):grad(m) - net:loss(kept):grad(m)):norm(), 0, 1e-13)
    local H <close> = net:loss(data, { batch = 1 }):linearize(m)
    near((H:hvp(m) - net:loss(kept):linearize(m):hvp(m)):norm(), 0, 1e-12)
    near((H:hvp(m) - net:loss(kept):linearize(m):hvp(m)):norm(), 0, 1e-12)
    local a, b = net:loss(data):report(m), net:loss(kept):report(m)
    equal({ a.accuracy, a.n }, { b.accuracy, b.n })
    -- a class as what is ignored
    local without = { x = data.x:index_select(1, i64 { 2, 3, 4, 7 }), y = i64 { 1, 2, 3, 2 } }
    a, b = net:loss(kept, { ignore_index = 0, batch = 2 }):report(m), net:loss(without):report(m)
    equal({ a.accuracy, a.n }, { b.accuracy, 4 })
    near(a.loss, b.loss, 1e-13)
    raises("no row is scored", net:loss { x = data.x, y = i64 { -100, -100, -100, -100, -100, -100, -100 } }, m)
  end
  do -- tokens that pad
    local lm = nn.gpt { vocab = 5, context = 6, width = 8, layers = 1, heads = 2 }
    local t, ids = lm:init { seed = 2, dtype = "f64" }, i64 { { 1, 2, 3, 0, 0 }, { 4, 3, 2, 1, 0 } }
    local logits = lm(t, ids):log_softmax(-1)
    local sum, right = 0, 0
    for _, at in ipairs { { 1, 1, 2 }, { 1, 2, 3 }, { 2, 1, 3 }, { 2, 2, 2 }, { 2, 3, 1 } } do
      local row = logits[{ at[1], at[2] }]
      sum, right = sum - row[at[3] + 1], right + (row:argmax(1) == at[3] + 1 and 1 or 0)
    end
    local got = lm:loss({ x = ids }, { ignore_index = 0 }):report(t)
    near(got.loss, sum / 5, 1e-13)
    equal({ got.n, got.accuracy }, { 5, right / 5 })
  end
  data.y = i64 { 0, 1, 2, 3, 0, 1, 2 }
  near(net:loss(data, { label_smoothing = 0.2 })(m), 0.8 * picked() - 0.2 * logp:mean(), 1e-13)
  local r = net:loss(data, { batch = 3 }):report(m)
  near(r.loss, picked(), 1e-13)
  near(r.accuracy, z:argmax(2):eq(data.y + 1):sum() / 7, 1e-15)
  near(r.error + r.accuracy, 1, 1e-15)
  -- class probabilities, other losses
  local soft = tensor.rand({ 7, 4 }, 3, { dtype = "f64" })
  soft = soft / soft:sum(2, true)
  near(net:loss({ x = data.x, y = soft })(m), -(soft * logp):sum() / 7, 1e-13)
  near(net:loss({ x = data.x, y = soft }, { loss = "mse" })(m), ((z - soft) ^ 2):mean(), 1e-13)
  near(net:loss({ x = data.x, y = soft }, { loss = "bce" })(m), ((1 + z:exp()):log() - z * soft):mean(), 1e-12)
  local own = net:loss(data, { loss = function(y, batch) return (y * y):sum() / batch.x.shape[1] end, batch = 2 })
  near(own(m), (z * z):sum() / 7, 1e-12)
  equal(own:report(m).accuracy, nil)
  -- the next token, scored on all but the first
  local gpt = nn.gpt { vocab = 11, context = 8, width = 8, layers = 1, heads = 2 }
  local g, ids = gpt:init { seed = 1, dtype = "f64" }, i64 { { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 } }
  local lp, sum = gpt(g, ids):log_softmax(3), 0
  for i = 1, 3 do
    for t = 1, 2 do sum = sum - lp[{ i, t, ids[{ i, t + 1 }] + 1 }] end
  end
  near(gpt:loss({ x = ids }, { batch = 2 })(g), sum / 6, 1e-12)
  equal(gpt:loss({ x = ids }):report(g).n, 6)
  -- gradient against a difference, with chunks
  local f = net:loss(data, { batch = 3 })
  local v = net:init { seed = 9, dtype = "f64" } - m
  local h = 1e-6
  near(f:grad(m):dot(v), (f(m + h * v) - f(m - h * v)) / (2 * h), 1e-8)
  local H <close> = f:linearize(m, { chunk = 2 })
  local difference = (f:grad(m + h * v) - f:grad(m - h * v)) / (2 * h)
  assert((H:hvp(v) - difference):norm() < 1e-7 * difference:norm() + 1e-8)
  equal(f:grad(m):mass(), 0.0)
  -- inside a recording: by the data, by one tensor of a table, by a coefficient of one layer
  local by_x = grad(function(u) return net:loss({ x = u, y = data.y }, { batch = 3 })(m) end, data.x)
  local dx = tensor.normal({ 7, 3 }, 8, { dtype = "f64" })
  near((by_x * dx):sum(), (net:loss { x = data.x + h * dx, y = data.y }(m) - net:loss { x = data.x - h * dx, y = data.y }(m))
    / (2 * h), 1e-8)
  local parts = {}
  for _, name in ipairs(m:names()) do parts[name] = m:tensor(name) end
  local by_one = grad(function(w)
    parts["fc2.weight"] = w
    return f(parts)
  end, m["fc2.weight"])
  close(by_one, f:grad(m)["fc2.weight"], 1e-14)
  near(grad(function(a) return f(m + a * v:only "fc2") end, 0.0), f:grad(m):dot(v:only "fc2"), 1e-13)
  -- a model that lies in files is read
  m:save(folder "planned.safetensors")
  equal(f(model.open(folder "planned.safetensors")), f(m))
  -- dropout by key
  local wet = nn.mlp { 3, 5, 4, dropout = 0.5 }
  local w = wet:init { seed = 1 }
  equal(wet:loss(data, { mode = "train", key = 1 })(w), wet:loss(data, { mode = "train", key = 1 })(w))
  assert(wet:loss(data, { mode = "train", key = 2 })(w) ~= wet:loss(data, { mode = "train", key = 1 })(w))
  raises("net:loss: loss = mes; expected", net.loss, net, data, { loss = "mes" })
  raises("the data have no x", net.loss, net, {})
  raises("the data have no x; they come in parts: data.train, data.test", net.loss, net, { train = {}, test = {} })
  raises("the data have no labels (y)", net:loss { x = data.x }, m)
end

do -- running statistics made anew for every theta: those of the data, as one batch has them
  local net = nn.resnet { depth = 8, width = 4 }
  local m = net:init { seed = 1 }
  local data = { x = tensor.normal({ 6, 28, 28, 1 }, 1), y = i64 { 0, 1, 2, 3, 4, 5 } }
  local reset = net:loss(data, { bn = data })
  near(reset(m), net:loss(data)(eval.bn_reset(net, m, data)), 1e-6)
  assert(math.abs(reset(m) - net:loss(data)(m)) > 1e-3)
  near(reset(3 * m), net:loss(data, { mode = "train" })(3 * m), 0.15) -- biased and unbiased variances differ a little
end

-- ---- capture ----

do
  local net = nn.mlp { 2, 3, 1, act = "relu" }
  local theta = { ["fc1.weight"] = f64 { { 1, 0 }, { 0, 1 }, { -1, -1 } }, ["fc1.bias"] = f64 { 0, 0, 0 },
    ["fc2.weight"] = f64 { { 1, 1, 1 } }, ["fc2.bias"] = f64 { 0 } }
  local seen = net:capture(theta, f64 { { 1, 2 } }, { "fc1", "act1" })
  same(seen.fc1, { { 1.0, 2.0, -3.0 } })
  same(seen.act1, { { 1.0, 2.0, 0.0 } })
  same(net:capture(theta, f64 { { 1, 2 } }, "fc2", { of = "input" }).fc2, { { 1.0, 2.0, 0.0 } })
  local y, state, captured = net(theta, f64 { { 1, 2 } }, { capture = { "act1" } })
  equal({ y:item(), captured.act1[{ 1, 2 }] }, { 3.0, 2.0 })
  equal(state, nil)
  raises("the network has no part fc3; did you mean fc1?", net.capture, net, theta, f64 { { 1, 2 } }, "fc3")
  -- captured tensors are part of a recording
  local g = grad(function(p) return net:capture(p, f64 { { 1, 2 } }, "act1").act1:sum() end, theta)
  same(g["fc1.bias"], { 1.0, 1.0, 0.0 })
end

-- ---- the summary ----

equal(tostring(nn.mlp { 784, 512, 10, norm = "layer" }), table.concat({
  "mlp: 408,074 parameters, 2 layers, 813 k FLOPs for an input of [1, 784]",
  "part     layer              output    parameters   FLOPs",
  "flatten  flatten            [1, 784]",
  "fc1      linear 784 -> 512  [1, 512]     401,920   803 k",
  "norm1    layer_norm 512     [1, 512]       1,024",
  "act1     relu               [1, 512]",
  "fc2      linear 512 -> 10   [1, 10]        5,130  10.2 k" }, "\n"))
do -- operations: a convolution's are 2 out in kh kw positions; a network without a known input has no shapes
  local net = nn.sequential({ nn.conv2d(3, 8, 3, { padding = 1, stride = 2 }), "relu", nn.flatten() }, { input = { 10, 8, 3 } })
  assert(net:summary():find("8.64 k FLOPs for an input of [1, 10, 8, 3]", 1, true), net:summary()) -- 2 8 27 20
  assert(net:summary { batch = 4 }:find("[4, 160]", 1, true))
  equal(nn.sequential { nn.conv2d(3, 8, 3) }:summary(), "sequential: 224 parameters, 1 layer\npart  layer                 parameters\n"
    .. "0     conv2d 3 -> 8, 3 x 3         224")
  -- a network of 1.1 G parameters is looked at without making one of them
  local big = nn.llama { vocab = 32000, width = 2048, layers = 22, heads = 32, kv_heads = 4, inner = 5632 }
  assert(big:summary():find("llama: 1,100,048,384 parameters, 22 layers", 1, true), big:summary { levels = 1 })
end

-- ---- errors ----

do -- a mistake is told at the line of the script
  local function line_of(text)
    local ok, message = pcall(load(text, "=there"))
    assert(not ok, text)
    return tostring(message):match "^there:%d+" or tostring(message)
  end
  equal(line_of "\nlocal a = nn.mlp {3}", "there:2")
  equal(line_of "local net = nn.mlp {3, 2}\nlocal y = net({}, tensor.ones {1, 3})", "there:2")
  equal(line_of "local net = nn.mlp {3, 2}\nnet:init { scheme = 'x' }\n", "there:2")
  equal(line_of "local f = nn.mlp {3, 2}:loss { x = tensor.ones {1, 3} }\n\nlocal v = f({})", "there:3")
  equal(line_of "local s = nn.sequential {\nfunction(x)\n return x.nothing end }\nlocal y = s({}, tensor { 1 })", "there:3")
end
do
  local net = nn.mlp { 4, 3, 2 }
  local m = net:init {}
  raises("fc1 (linear): expected an input whose last dimension is 4, got shape [2, 5]", net, m, tensor.zeros { 2, 5 })
  raises("the parameters have no fc1.weight; did you mean fc1.weigth?", net, { ["fc1.weigth"] = tensor.zeros { 3, 4 } }, tensor.zeros { 1, 4 })
  raises("fc1.weight has the shape [4, 3], expected [3, 4]", net, { ["fc1.weight"] = tensor.zeros { 4, 3 } }, tensor.zeros { 1, 4 })
  raises("the parameters are a model, or a table of tensors by name, not a number", net, 3, tensor.zeros { 1, 4 })
  raises("expected an input tensor or a batch (a table with x), got nil", net, m)
  raises("mode = \"trian\"", net, m, tensor.zeros { 1, 4 }, { mode = "trian" })
  raises("unknown option 'kay'", net, m, tensor.zeros { 1, 4 }, { kay = 1 })
  raises("layer2.0.conv1 (conv2d): expected an input whose last dimension is 4, got shape [1, 8, 8, 3]",
    nn.resnet { depth = 8, width = 4 }:from "layer1", nn.resnet { depth = 8, width = 4 }:init {}, tensor.zeros { 1, 8, 8, 3 })
  raises("conv1 (conv2d): expected an input of 4 dimensions, got shape [1, 784]", nn.resnet {}, nn.resnet {}:init {}, tensor.zeros { 1, 784 })
  raises("the input has 9 positions, the network has room for 8", nn.gpt { context = 8, width = 8, heads = 2, vocab = 4 },
    nn.gpt { context = 8, width = 8, heads = 2, vocab = 4 }:init {}, i64 { { 0, 0, 0, 0, 0, 0, 0, 0, 0 } })
  raises("expected token numbers", nn.embedding(4, 2), nn.embedding(4, 2):init {}, tensor { 1, 2 })
  m:save(folder "lazy.safetensors")
  raises("fc1.weight is planned", net, model.open(folder "lazy.safetensors"), tensor.zeros { 1, 4 })
  raises("unknown option 'widht'", nn.resnet, { widht = 3 })
  raises("depth = 9; expected 8, 14, 20", nn.resnet, { depth = 9 })
  raises("norm = batsh", nn.mlp, { 2, 2, 2, norm = "batsh" })
  raises("expected sizes", nn.mlp, { 784 })
  raises("width 10 does not divide into 4 heads", nn.gpt, { width = 10 })
  raises("no part fc9 to cut behind", net.upto, net, "fc9")
  raises("fc2 is the last part", net.from, net, "fc2")
  raises("has no config.json", nn.from, model.new { a = tensor { 1 } })
  raises("the model type of memory is mamba", nn.from, model.new { a = tensor { 1 } }:with_config { model_type = "mamba" })
  raises("rope_scaling of the type longrope is not supported", nn.from, model.new { a = tensor { 1 } }:with_config {
    model_type = "llama", rope_scaling = { rope_type = "longrope" } })
  raises("no activation is called 'no'", function() nn.sequential { "no" } end)
end
