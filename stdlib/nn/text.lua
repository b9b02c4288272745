-- SPDX-License-Identifier: Apache-2.0
-- Networks for tokens, with the names of transformers' checkpoints: GPT-2, Llama, BERT. Inputs are integer tensors
-- [n, t] of token numbers from 0.
local net = require "nn.net"
local layer = require "nn.layer"
local compose = require "nn.compose"
local arch = require "nn.arch"
local rope = require "nn.rope"

local text = {}

local function check_heads(what, width, heads)
  if width % heads ~= 0 then net.fail("%s: width %d does not divide into %d heads", what, width, heads) end
end

local function blocks(o, make)
  local list = {}
  for i = 1, o.layers do list[i] = make(o, i) end
  return list
end

-- The head that is the embedding; its tensor belongs to where it stands first.
local function tied_head(name, vocab, width)
  return net.new { kind = "tied_head", note = ("%d -> %d"):format(width, vocab),
    weights = { { name = name, shape = { vocab, width }, role = "embedding" } },
    forward = function(s, x) return layer.product(x, s[name]) end,
    cost = function(_, x) return 2 * layer.count(x.shape) * vocab end }
end

-- ---- GPT-2 (Radford et al. 2019): learned positions, norms before, weights of linear maps [in, out] ----

local function gpt_embed(o)
  return net.new { kind = "gpt_embed", children = { { name = "wte", net = layer.embedding(o.vocab, o.width) },
    { name = "wpe", net = layer.embedding(o.context, o.width) }, { name = "drop", net = layer.dropout(o.dropout) } },
    forward = function(s, x)
      local at = arch.positions(s, x, o.context)
      return s:call("drop", s:call("wte", x) + s:call("wpe", at))
    end }
end

local function gpt_block(o)
  local d, eps, act = o.width, { eps = o.eps }, layer.activation_function("nn.gpt", o.act)
  local function conv1d(a, b, added) return layer.linear(a, b, { transposed = true, added = added }) end
  return net.new { kind = "gpt_block", group = "layer", note = o.heads .. " heads", children = {
    { name = "ln_1", net = layer.layer_norm(d, eps) }, { name = "attn.c_attn", net = conv1d(d, 3 * d) },
    { name = "attn.c_proj", net = conv1d(d, d, 2 * o.layers) }, { name = "ln_2", net = layer.layer_norm(d, eps) },
    { name = "mlp.c_fc", net = conv1d(d, o.inner) }, { name = "mlp.c_proj", net = conv1d(o.inner, d, 2 * o.layers) },
    { name = "drop", net = layer.dropout(o.dropout) },
  }, forward = function(s, x)
    local qkv = s:call("attn.c_attn", s:call("ln_1", x))
    local wide = qkv.shape[3] // 3
    local function part(i) return arch.heads(qkv[{ {}, {}, { (i - 1) * wide + 1, i * wide } }], o.heads) end
    local y = arch.attend(s, part(1), part(2), part(3), { causal = true, dropout = o.dropout })
    x = x + s:call("drop", s:call("attn.c_proj", arch.joined(y)))
    y = s:call("mlp.c_proj", act(s:call("mlp.c_fc", s:call("ln_2", x))))
    return x + s:call("drop", y)
  end, cost = function(_, x) return arch.attention_cost(x.shape, true) end }
end

function text.gpt(o)
  o = arch.options("nn.gpt", o, { vocab = 256, context = 128, width = 128, layers = 4, heads = 4, dropout = 0,
    act = "gelu_tanh", eps = 1e-5, tied = true, prefix = "transformer." }, { "inner" })
  o.inner = o.inner or 4 * o.width
  check_heads("nn.gpt", o.width, o.heads)
  local at = o.prefix
  return compose.chain { kind = "gpt", input = { math.min(o.context, 16) }, tokens = o.vocab, predicts = "next",
    scheme = "transformer", children = {
      { name = "transformer", at = at, net = compose.chain { kind = "gpt_model", children = {
        { name = "embed", net = gpt_embed(o), at = "", group = "embed" },
        { name = "h", net = compose.sequential(blocks(o, gpt_block)) },
        { name = "ln_f", net = layer.layer_norm(o.width, { eps = o.eps }), group = "final" } } } },
      o.tied and { name = "lm_head", at = "", net = tied_head(at .. "wte.weight", o.vocab, o.width), group = "head" }
        or { name = "lm_head", net = layer.linear(o.width, o.vocab, { bias = false }), group = "head" },
    }, config = { architectures = { "GPT2LMHeadModel" }, model_type = "gpt2", vocab_size = o.vocab,
      n_positions = o.context, n_embd = o.width, n_layer = o.layers, n_head = o.heads, n_inner = o.inner,
      activation_function = o.act == "gelu_tanh" and "gelu_new" or o.act, layer_norm_epsilon = o.eps,
      resid_pdrop = o.dropout, embd_pdrop = o.dropout, attn_pdrop = o.dropout, tie_word_embeddings = o.tied } }
end

-- ---- Llama (Touvron et al. 2023, arXiv:2302.13971): RMS norms, rotary positions, grouped queries, gated MLP ----
-- With windows it is Mistral (Jiang et al. 2023, arXiv:2310.06825), with biases of q, k, v Qwen2 (Yang et al. 2024,
-- arXiv:2407.10671).

-- Which of t places see which: the last `window` up to themselves, with the causal mask. nil: all.
local function band(t, window)
  if window == 0 or t <= window then return nil end
  local at = tensor.arange(t)
  return at:reshape { 1, t }:gt(at:reshape { t, 1 } - window)
end

local function llama_block(o, i)
  local d, size, eps = o.width, o.head_size, { eps = o.eps }
  local act = layer.activation_function("nn.llama", o.act)
  local function map(name, a, b, bias, added)
    return { name = name, net = layer.linear(a, b, { bias = bias or false, added = added }) }
  end
  local window, qkv = o.windows[i], o.bias ~= false
  local note = ("%d heads on %d%s"):format(o.heads, o.kv_heads, window > 0 and ", window " .. window or "")
  return net.new { kind = "llama_block", group = "layer", note = note, children = {
    { name = "input_layernorm", net = layer.rms_norm(d, eps) },
    map("self_attn.q_proj", d, o.heads * size, qkv), map("self_attn.k_proj", d, o.kv_heads * size, qkv),
    map("self_attn.v_proj", d, o.kv_heads * size, qkv),
    map("self_attn.o_proj", o.heads * size, d, o.bias == true, 2 * o.layers),
    { name = "post_attention_layernorm", net = layer.rms_norm(d, eps) },
    map("mlp.gate_proj", d, o.inner), map("mlp.up_proj", d, o.inner),
    map("mlp.down_proj", o.inner, d, false, 2 * o.layers),
  }, forward = function(s, x)
    local y = s:call("input_layernorm", x)
    local t = x.shape[2]
    local how, scale = o.turns(t)
    local q = arch.heads(s:call("self_attn.q_proj", y), o.heads):rope(nil, how)
    local k = arch.heads(s:call("self_attn.k_proj", y), o.kv_heads):rope(nil, how)
    local v = arch.heads(s:call("self_attn.v_proj", y), o.kv_heads)
    if scale then q, k = q * scale, k * scale end
    x = x + s:call("self_attn.o_proj", arch.joined(arch.attend(s, q, k, v,
      { causal = true, mask = band(t, window) })))
    y = s:call("post_attention_layernorm", x)
    return x + s:call("mlp.down_proj", act(s:call("mlp.gate_proj", y)) * s:call("mlp.up_proj", y))
  end, cost = function(_, x) return arch.attention_cost({ x.shape[1], x.shape[2], o.heads * size }, true) end }
end

-- One window a layer, 0: none.
local function windows_of(o)
  local list = {}
  if type(o.window) == "table" and #o.window ~= o.layers then
    net.fail("nn.llama: window has %d numbers for %d layers", #o.window, o.layers)
  end
  for i = 1, o.layers do
    local w = o.window or 0
    if type(w) == "table" then w = w[i] end
    if math.type(w) ~= "integer" or w < 0 then
      net.fail("nn.llama: window = %s; expected a whole number of places, or one for each layer (0: all)", tostring(w))
    end
    list[i] = w
  end
  return list
end

-- The one window of the layers that have one, and whether a layer has none; nil: there are several.
local function one_window(windows)
  local most, open = 0, false
  for _, w in ipairs(windows) do
    if w > 0 and most > 0 and w ~= most then return nil, open end
    most, open = math.max(most, w), open or w == 0
  end
  return most, open
end

-- config.json: of the family that has this, else our own.
local function llama_config(o, own)
  local window, open = one_window(o.windows)
  local c = { vocab_size = o.vocab, hidden_size = o.width, intermediate_size = o.inner, num_hidden_layers = o.layers,
    num_attention_heads = o.heads, num_key_value_heads = o.kv_heads, head_dim = o.head_size, hidden_act = o.act,
    rms_norm_eps = o.eps, rope_theta = o.rope_base, rope_scaling = o.rope_scaling, max_position_embeddings = o.context,
    tie_word_embeddings = o.tied }
  if o.bias == "qkv" and window then
    c.architectures, c.model_type, c.use_sliding_window = { "Qwen2ForCausalLM" }, "qwen2", window > 0
    if window > 0 then
      c.sliding_window, c.layer_types = window, {}
      for i, w in ipairs(o.windows) do c.layer_types[i] = w > 0 and "sliding_attention" or "full_attention" end
    end
  elseif window == 0 then
    c.architectures, c.model_type, c.attention_bias = { "LlamaForCausalLM" }, "llama", o.bias
  elseif window and not open and not o.bias then
    c.architectures, c.model_type, c.sliding_window = { "MistralForCausalLM" }, "mistral", window
  else
    return arch.config("llama", own)
  end
  return c
end

function text.llama(own)
  local o = arch.options("nn.llama", own, { vocab = 256, context = 2048, width = 128, layers = 4, heads = 4,
    act = "silu", eps = 1e-6, rope_base = 10000, tied = false, bias = false },
    { "inner", "kv_heads", "head_size", "rope_scaling", "window" })
  o.kv_heads, o.inner = o.kv_heads or o.heads, o.inner or 4 * o.width
  if not o.head_size then check_heads("nn.llama", o.width, o.heads) end
  o.head_size = o.head_size or o.width // o.heads
  if o.heads % o.kv_heads ~= 0 then
    net.fail("nn.llama: %d heads do not share %d key heads evenly", o.heads, o.kv_heads)
  end
  if type(o.bias) ~= "boolean" and o.bias ~= "qkv" then
    net.fail("nn.llama: bias = %s; expected true, false or \"qkv\"", tostring(o.bias))
  end
  o.windows = windows_of(o)
  o.turns = rope.turns("nn.llama", o.rope_scaling, o.rope_base, o.head_size, o.context)
  return compose.chain { kind = "llama", input = { math.min(o.context, 16) }, tokens = o.vocab, predicts = "next",
    scheme = "transformer", children = {
      { name = "model", net = compose.chain { kind = "llama_model", children = {
        { name = "embed_tokens", net = layer.embedding(o.vocab, o.width), group = "embed" },
        { name = "layers", net = compose.sequential(blocks(o, llama_block)) },
        { name = "norm", net = layer.rms_norm(o.width, { eps = o.eps }), group = "final" } } } },
      o.tied and { name = "lm_head", at = "", group = "head",
        net = tied_head("model.embed_tokens.weight", o.vocab, o.width) }
        or { name = "lm_head", net = layer.linear(o.width, o.vocab, { bias = false }), group = "head" },
    }, config = llama_config(o, own) }
end

-- ---- BERT (Devlin et al. 2018, arXiv:1810.04805): norms after; types and padding from the batch ----

local function bert_embeddings(o)
  local d = o.width
  return net.new { kind = "bert_embeddings", children = {
    { name = "word_embeddings", net = layer.embedding(o.vocab, d) },
    { name = "position_embeddings", net = layer.embedding(o.context, d) },
    { name = "token_type_embeddings", net = layer.embedding(o.types, d) },
    { name = "LayerNorm", net = layer.layer_norm(d, { eps = o.eps }) },
    { name = "dropout", net = layer.dropout(o.dropout) },
  }, forward = function(s, x)
    local at = arch.positions(s, x, o.context)
    local types = s:batch "types" or tensor.full({ 1, #at }, 0, { dtype = "i64" })
    local y = s:call("word_embeddings", x) + s:call("token_type_embeddings", types)
      + s:call("position_embeddings", at)
    return s:call("dropout", s:call("LayerNorm", y))
  end }
end

local function bert_block(o)
  local d, eps, act = o.width, { eps = o.eps }, layer.activation_function("nn.bert", o.act)
  local function map(name, a, b) return { name = name, net = layer.linear(a, b) } end
  return net.new { kind = "bert_block", group = "layer", note = o.heads .. " heads", children = {
    map("attention.self.query", d, d), map("attention.self.key", d, d), map("attention.self.value", d, d),
    map("attention.output.dense", d, d), { name = "attention.output.LayerNorm", net = layer.layer_norm(d, eps) },
    map("intermediate.dense", d, o.inner), map("output.dense", o.inner, d),
    { name = "output.LayerNorm", net = layer.layer_norm(d, eps) }, { name = "dropout", net = layer.dropout(o.dropout) },
  }, forward = function(s, x)
    local function project(name) return arch.heads(s:call("attention.self." .. name, x), o.heads) end
    local y = arch.attend(s, project "query", project "key", project "value",
      { mask = arch.padding(s), dropout = o.dropout })
    y = s:call("dropout", s:call("attention.output.dense", arch.joined(y)))
    x = s:call("attention.output.LayerNorm", x + y)
    y = s:call("dropout", s:call("output.dense", act(s:call("intermediate.dense", x))))
    return s:call("output.LayerNorm", x + y)
  end, cost = function(_, x) return arch.attention_cost(x.shape) end }
end

local heads = {}

-- The first token through a dense layer and tanh, and a linear map: BertForSequenceClassification.
function heads.classifier(o)
  return { { name = "pooler", at = o.prefix .. "pooler.", group = "head", net = net.new { kind = "pooler",
    children = { { name = "dense", net = layer.linear(o.width, o.width) } },
    forward = function(s, x) return s:call("dense", x[{ {}, 1 }]):tanh() end } },
    { name = "dropout", net = layer.dropout(o.dropout) },
    { name = "classifier", net = layer.linear(o.width, o.classes), group = "head" } }, "BertForSequenceClassification"
end

-- A dense layer, a norm and the embedding: BertForMaskedLM.
function heads.masked(o)
  local tied, act = o.prefix .. "embeddings.word_embeddings.weight", layer.activation_function("nn.bert", o.act)
  return { { name = "cls", at = "", group = "head", net = net.new { kind = "masked_head",
    weights = { { name = tied, shape = { o.vocab, o.width }, role = "embedding" },
      { name = "cls.predictions.bias", shape = { o.vocab }, role = "shift" } },
    children = { { name = "dense", at = "cls.predictions.transform.dense.", net = layer.linear(o.width, o.width) },
      { name = "LayerNorm", at = "cls.predictions.transform.LayerNorm.",
        net = layer.layer_norm(o.width, { eps = o.eps }) } },
    forward = function(s, x)
      local y = s:call("LayerNorm", act(s:call("dense", x)))
      return layer.product(y, s[tied]) + s["cls.predictions.bias"]
    end, cost = function(_, x) return 2 * layer.count(x.shape) * o.vocab end } } }, "BertForMaskedLM"
end

function heads.none() return {}, "BertModel" end

function text.bert(o)
  o = arch.options("nn.bert", o, { vocab = 256, context = 128, width = 128, layers = 4, heads = 4, classes = 2,
    types = 2, dropout = 0, act = "gelu", eps = 1e-12, head = "classifier", prefix = "bert." }, { "inner" })
  o.inner = o.inner or 4 * o.width
  check_heads("nn.bert", o.width, o.heads)
  if not heads[o.head] then
    net.fail("nn.bert: head = %s; expected \"classifier\", \"masked\" or \"none\"", tostring(o.head))
  end
  local last, class = heads[o.head](o)
  return compose.chain { kind = "bert", input = { math.min(o.context, 16) }, tokens = o.vocab,
    scheme = "transformer", children = {
    { name = "bert", at = o.prefix, net = compose.chain { kind = "bert_model", children = {
      { name = "embeddings", net = bert_embeddings(o), group = "embed" },
      { name = "encoder", net = arch.encoder(blocks(o, bert_block)) } } } },
    table.unpack(last),
  }, config = { architectures = { class }, model_type = "bert", vocab_size = o.vocab, hidden_size = o.width,
    num_hidden_layers = o.layers, num_attention_heads = o.heads, intermediate_size = o.inner, hidden_act = o.act,
    layer_norm_eps = o.eps, max_position_embeddings = o.context, type_vocab_size = o.types, num_labels = o.classes,
    hidden_dropout_prob = o.dropout, attention_probs_dropout_prob = o.dropout } }
end

return text
