-- SPDX-License-Identifier: Apache-2.0
-- nn.from on configs of llama (with scaled rotary positions), mistral and qwen2 gives the logits of transformers: inputs
-- that are shorter and longer than the context and the window. (tests/golden/net/networks/README)
local check = dofile "tests/stdlib/bind/check.lua"
local decode = require "json.decode".decode
local folder = "tests/golden/net/networks/families/"

local function read(name)
  local file = model.open(folder .. name .. ".safetensors")
  local config, all = decode(file:metadata().config), file:load()
  return all:only(function(n) return not n:find "^in%." and not n:find "^out%." end):with_config(config), all, config
end

local function near(got, want, most, what)
  local off = (got:to "f64" - want):abs():max() / want:abs():max()
  if off ~= off or off > most then error(("%s: off by %.2e, allowed %.0e"):format(what, off, most), 2) end
end

local function compare(net, m, all, what)
  local n = all:tensor "out.short".shape[2]
  local short = net(m, all:tensor("in.short"):to "i64")
  local at = {}
  for i = 1, n do at[i] = 4 * (i - 1) + 1 end
  near(short:index_select(2, tensor(at, { dtype = "i64" })), all:tensor "out.short", 2e-6, what .. ", short")
  local long = net(m, all:tensor("in.long"):to "i64")
  local t = long.shape[2]
  near(long[{ {}, { t - 2, t } }], all:tensor "out.long", 2e-6, what .. ", long")
end

for _, name in ipairs { "llama_linear", "llama_dynamic", "llama_llama3", "llama_yarn", "llama_yarn_scales", "llama_yarn_factor", "mistral",
  "qwen2_windows" } do
  local m, all, config = read(name)
  local net = nn.from(m)
  check.equal(#net:params(), #m:names(), name)
  compare(net, m, all, name)
  -- The config that the network itself writes says the same, to transformers and to nn.from.
  local again = net:init { seed = 1 }
  check.equal(decode(again:config()).model_type, config.model_type)
  compare(nn.from(again), m, all, name .. ", from its own config")
  -- Older files have the base beside the scaling, and "type".
  local r = config.rope_parameters
  if r.rope_type ~= "default" then
    local old = m:with_config { rope_parameters = yaml.null, rope_theta = r.rope_theta, rope_scaling = { type = r.rope_type,
      factor = r.factor, low_freq_factor = r.low_freq_factor, high_freq_factor = r.high_freq_factor,
      beta_fast = r.beta_fast, beta_slow = r.beta_slow, mscale = r.mscale, mscale_all_dim = r.mscale_all_dim,
      truncate = r.truncate, attention_factor = r.attention_factor,
      original_max_position_embeddings = r.original_max_position_embeddings } }
    compare(nn.from(old), m, all, name .. ", as it was written once")
    local plain = nn.from(m:with_config { rope_parameters = { rope_theta = r.rope_theta, rope_type = "default" } })
    local ids = all:tensor("in.long"):to "i64"
    assert((plain(m, ids) - net(m, ids)):abs():max() > 0.1, name .. ": the scaling does nothing")
  end
end

-- Windows by hand: what lies before the window changes nothing, what lies in it does.
do
  local net = nn.llama { vocab = 11, width = 8, layers = 1, heads = 2, window = 3 }
  local m = net:init { seed = 3 }
  local function last(list)
    local y = net(m, tensor({ list }, { dtype = "i64" }))
    return y[{ 1, #list }]
  end
  assert(last { 1, 2, 3, 4, 5 }:equal(last { 9, 8, 3, 4, 5 }) and not last { 1, 2, 3, 4, 5 }:equal(last { 1, 2, 7, 4, 5 }))
  local f = net:loss { x = tensor({ { 1, 2, 3, 4, 5 } }, { dtype = "i64" }) }
  check.near(f(m), nn.llama { vocab = 11, width = 8, layers = 1, heads = 2, window = { 3 } }:loss(f.data or
    { x = tensor({ { 1, 2, 3, 4, 5 } }, { dtype = "i64" }) })(m), 0)
end

-- ---- configs: what is written, what is refused ----

local small = { vocab = 11, width = 8, layers = 2, heads = 2 }
local function with(more)
  local o = {}
  for _, t in ipairs { small, more } do
    for key, v in pairs(t) do o[key] = v end
  end
  return nn.llama(o)
end
local function config_of(more) return decode(with(more):init { seed = 1 }:config()) end
check.equal(config_of { window = 4 }.model_type, "mistral")
check.equal(config_of { window = 0 }.model_type, "llama")
check.equal(config_of { bias = "qkv", window = { 4, 0 } }.layer_types, { "sliding_attention", "full_attention" })
check.equal(config_of { bias = true, window = { 4, 5 } }.tarn.net, "llama")
check.equal(#with({ bias = "qkv" }):init({ seed = 1 }):names "bias", 6)
check.equal(#with({ bias = true }):init({ seed = 1 }):names "bias", 8)

local one = model.new { a = tensor { 1 } }
local function from(config)
  config.model_type = config.model_type or "llama"
  return function() return nn.from(one:with_config(config)) end
end
check.raises("rope_scaling of the type longrope is not supported", from { rope_parameters = { rope_type = "longrope" } })
check.raises("beta_fast of rope_scaling is a number above 0", from { rope_parameters = { rope_type = "yarn", factor = 2,
  beta_fast = 0 } })
check.raises("needs factor, a number above 0", from { rope_scaling = { type = "linear" } })
check.raises("needs low_freq_factor", from { rope_scaling = { rope_type = "llama3", factor = 8.0 } })
check.raises("partial_rotary_factor = 0.5 in config.json is not supported", from { partial_rotary_factor = 0.5 })
check.raises("rope_parameters = {…} in config.json is not supported", from { rope_parameters = { full = { rope_type = "x" } } })
check.raises("layer_types has chunked_attention", from { model_type = "qwen2", use_sliding_window = true,
  sliding_window = 4, num_hidden_layers = 2, layer_types = { "full_attention", "chunked_attention" } })
check.raises("window = -1", with, { window = -1 })
check.raises("window has 3 numbers for 2 layers", with, { window = { 1, 2, 3 } })
check.raises("bias = kv", with, { bias = "kv" })
