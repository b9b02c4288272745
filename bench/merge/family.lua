-- SPDX-License-Identifier: Apache-2.0
-- Writes a family of Llama-shaped bf16 models: base, a and b, random weights, the specialists a small
-- step away from the base.
--   tarn bench/merge/family.lua FOLDER [LAYERS]
local folder, layers = arg[1], math.tointeger(arg[2] or 12)
local hidden, intermediate, vocabulary = 1536, 4096, 32000

local shapes = { { "model.embed_tokens.weight", { vocabulary, hidden } } }
for l = 0, layers - 1 do
  local p = string.format("model.layers.%d.", l)
  for _, n in ipairs { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj" } do
    shapes[#shapes + 1] = { p .. n .. ".weight", { hidden, hidden } }
  end
  shapes[#shapes + 1] = { p .. "mlp.gate_proj.weight", { intermediate, hidden } }
  shapes[#shapes + 1] = { p .. "mlp.up_proj.weight", { intermediate, hidden } }
  shapes[#shapes + 1] = { p .. "mlp.down_proj.weight", { hidden, intermediate } }
  shapes[#shapes + 1] = { p .. "input_layernorm.weight", { hidden } }
  shapes[#shapes + 1] = { p .. "post_attention_layernorm.weight", { hidden } }
end
shapes[#shapes + 1] = { "model.norm.weight", { hidden } }
shapes[#shapes + 1] = { "lm_head.weight", { vocabulary, hidden } }

local function noise(i, seed, scale)
  return tensor.randn(shapes[i][2], 1000 * seed + i) * scale
end

for k, name in ipairs { "base", "a", "b" } do
  local parts = {}
  for i, s in ipairs(shapes) do
    local t = noise(i, 1, 0.02)
    if k > 1 then
      t = t + noise(i, k, 0.002)
    end
    parts[i] = { s[1], t:to "bf16" }
  end
  model.new(parts):save(folder .. "/" .. name, { overwrite = true })
  local config = assert(io.open(folder .. "/" .. name .. "/config.json", "w"))
  config:write(string.format('{"architectures": ["LlamaForCausalLM"], "model_type": "llama", '
    .. '"hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d, "num_attention_heads": 12, '
    .. '"num_key_value_heads": 12, "vocab_size": %d, "tie_word_embeddings": false, '
    .. '"torch_dtype": "bfloat16"}\n', hidden, intermediate, layers, vocabulary))
  config:close()
end
