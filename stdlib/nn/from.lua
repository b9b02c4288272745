-- SPDX-License-Identifier: Apache-2.0
-- The network that a checkpoint is for, from its config.json: what tarn itself wrote, and the families llama, mistral,
-- qwen2, gpt2, bert and vit of transformers. What this code would compute otherwise than the model does is refused by
-- name.
local net = require "nn.net"
local rope = require "nn.rope"

local acts = { gelu = "gelu", gelu_new = "gelu_tanh", gelu_pytorch_tanh = "gelu_tanh", relu = "relu", silu = "silu",
  swish = "silu", tanh = "tanh", quick_gelu = "quick_gelu" }

local families = {}

local function given(v)
  if v ~= nil and tostring(v) ~= "null" then return v end
end

-- Fields of the config by option; a missing one leaves the default.
local function read(c, fields)
  local o = {}
  for option, field in pairs(fields) do
    o[option] = given(c[field])
  end
  if o.act then
    o.act = acts[o.act] or net.fail("nn.from: the activation %s is not known", tostring(o.act))
  end
  return o
end

local function labels(c)
  if c.num_labels then return c.num_labels end
  local n = 0
  for _ in pairs(type(c.id2label) == "table" and c.id2label or {}) do n = n + 1 end
  return n > 0 and n or 2
end

local function refuse(c, field, accepted)
  local v = given(c[field])
  if v == nil or v == accepted then return end
  net.fail("nn.from: %s = %s in config.json is not supported", field, type(v) == "table" and "{…}" or tostring(v))
end

-- Where names begin: "" in checkpoints of the bare model.
local function prefix(m, wanted, probe)
  return #m:names("^" .. wanted:gsub("%.", "\\.") .. probe) > 0 and wanted or ""
end

-- The base and the scaling of rotary positions: fields of their own, or, newer, one table rope_parameters.
local function read_rope(c, o)
  local r = given(c.rope_parameters) or given(c.rope_scaling) or {}
  refuse(c, "partial_rotary_factor", 1)
  refuse(r, "partial_rotary_factor", 1)
  for _, v in pairs(r) do
    if type(v) == "table" then refuse(c, c.rope_parameters and "rope_parameters" or "rope_scaling") end
  end
  o.rope_base = given(c.rope_theta) or r.rope_theta
  if rope.kind("nn.from", r) ~= "default" then o.rope_scaling = r end
end

function families.llama(c, m)
  refuse(c, "mlp_bias", false)
  local o = read(c, { vocab = "vocab_size", context = "max_position_embeddings", width = "hidden_size",
    layers = "num_hidden_layers", heads = "num_attention_heads", kv_heads = "num_key_value_heads",
    inner = "intermediate_size", head_size = "head_dim", act = "hidden_act", eps = "rms_norm_eps",
    bias = "attention_bias" })
  read_rope(c, o)
  o.tied = #m:names "^lm_head\\.weight$" == 0
  return "llama", o
end

-- Llama in windows.
function families.mistral(c, m)
  local _, o = families.llama(c, m)
  if c.sliding_window == nil then o.window = 4096 else o.window = given(c.sliding_window) end
  return "llama", o
end

-- Llama with biases of q, k and v, and maybe windows in some layers.
function families.qwen2(c, m)
  local _, o = families.llama(c, m)
  o.bias = "qkv"
  local wide = c.use_sliding_window == true and (given(c.sliding_window) or c.sliding_window == nil and 4096)
  if not wide then return "llama", o end
  o.window = {}
  for i = 1, c.num_hidden_layers or 0 do
    local kind = (given(c.layer_types) or {})[i] or (i > (c.max_window_layers or 28) and "sliding_attention"
      or "full_attention")
    if kind ~= "sliding_attention" and kind ~= "full_attention" then
      net.fail("nn.from: layer_types has %s, which is not supported", tostring(kind))
    end
    o.window[i] = kind == "sliding_attention" and wide or 0
  end
  return "llama", o
end

function families.gpt2(c, m)
  refuse(c, "scale_attn_weights", true)
  refuse(c, "scale_attn_by_inverse_layer_idx", false)
  local o = read(c, { vocab = "vocab_size", context = "n_positions", width = "n_embd", layers = "n_layer",
    heads = "n_head", inner = "n_inner", act = "activation_function", eps = "layer_norm_epsilon",
    dropout = "resid_pdrop" })
  o.act = o.act or "gelu_tanh"
  o.prefix = prefix(m, "transformer.", "wte")
  o.tied = #m:names "^lm_head\\.weight$" == 0
  return "gpt", o
end

function families.bert(c, m)
  refuse(c, "position_embedding_type", "absolute")
  refuse(c, "is_decoder", false)
  local o = read(c, { vocab = "vocab_size", context = "max_position_embeddings", width = "hidden_size",
    layers = "num_hidden_layers", heads = "num_attention_heads", inner = "intermediate_size", act = "hidden_act",
    eps = "layer_norm_eps", types = "type_vocab_size", dropout = "hidden_dropout_prob" })
  o.prefix = prefix(m, "bert.", "embeddings")
  o.head = #m:names "^classifier\\." > 0 and "classifier" or #m:names "^cls\\.predictions\\." > 0 and "masked" or "none"
  if o.head == "classifier" then o.classes = m:info "classifier.weight".shape[1] end
  return "bert", o
end

function families.vit(c, m)
  refuse(c, "qkv_bias", true)
  if #m:names "^classifier\\.weight$" == 0 then
    net.fail "nn.from: the model has no classifier; only ViTForImageClassification is known"
  end
  local size = c.image_size or 224
  local h, w = table.unpack(type(size) == "table" and size or { size, size })
  local o = read(c, { width = "hidden_size", layers = "num_hidden_layers", heads = "num_attention_heads",
    inner = "intermediate_size", act = "hidden_act", eps = "layer_norm_eps", patch = "patch_size" })
  o.input, o.classes = { h, w, c.num_channels or 3 }, labels(c)
  return "vit", o
end

-- What tarn wrote.
local function ours(own, archs)
  local make = archs[own.net]
  if make then return make(own.options) end
  if own.net ~= "shared_trunk" then
    net.fail("nn.from: config.json names the network %s, which is not known", tostring(own.net))
  end
  local o, nets, shapes = own.options, {}, {}
  for i, n in ipairs(o.nets) do
    nets[i] = ours(n, archs)
    shapes[i] = o.unmerge and { 1, 1 } or nil -- the widths come from the tensors
  end
  return require "nn.heads"(nets, o.through, { join = o.join, unmerge = shapes })
end

-- archs: kind -> constructor.
return function(m, archs)
  if net.kind(m) ~= "model" then
    net.fail("nn.from: expected a model, got %s%s", net.kind(m),
      type(m) == "string" and " (model.open opens a file)" or "")
  end
  local text = m:config()
  if not text then
    net.fail("nn.from: %s has no config.json that says what network it is for", m:label())
  end
  local c = require "json.decode".decode(text)
  local own = type(c.tarn) == "table" and c.tarn
  if own and own.net then
    local made = ours(own, archs)
    if own.widths ~= "tensors" then return made end
    local shapes = {}
    for _, name in ipairs(m:names()) do shapes[name] = m:info(name).shape end
    return require "nn.resize"(made, shapes)
  end
  local family = families[c.model_type or ""]
  if not family then
    net.fail("nn.from: the model type of %s is %s; known are llama, mistral, qwen2, gpt2, bert, vit", m:label(),
      tostring(c.model_type or "not given"))
  end
  local kind, options = family(c, m)
  return archs[kind](options)
end
