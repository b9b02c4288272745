-- SPDX-License-Identifier: Apache-2.0
-- Mixtures of experts from dense models (sparse upcycling: Komatsuzaki et al. 2022, arXiv:2212.05055), under
-- Mixtral's names: attention, norms, embeddings and head from the base, the three matrices of each
-- layer's MLP from each expert, and a router per layer. Choosing, renaming and joining do it all.
return function(define, check, raise, kind)
  local expect = require "expect"(kind, raise)
  local name_of = { ["mlp.gate_proj"] = "w1", ["mlp.down_proj"] = "w2", ["mlp.up_proj"] = "w3" }
  local layer = "^(model%.layers%.%d+)%.(.+)%.weight$"

  -- What a Mixtral layer has besides experts and router.
  local shared = {}
  for word in ("self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj input_layernorm "
    .. "post_attention_layernorm"):gmatch "%S+" do shared[word] = true end

  local function fail(message, ...) raise("model.moe: " .. message:format(...)) end

  -- The part of a dense model's name inside its layer; nil outside.
  local function place(m, name)
    local where, what = name:match(layer)
    if where and (name_of[what] or shared[what]) then return where, what end
    if m:info(name).place == "layer" then
      fail("%s of %s has no place in a Mixtral layer: it takes models with the layers of Llama and Mistral, without "
        .. "biases", name, m:label())
    end
  end

  local function check_config(base)
    local config = base:config()
    local act = config and config:match '"hidden_act"%s*:%s*"([^"]*)"'
    if act and act ~= "silu" then fail("the activation of %s is %s; Mixtral's is silu", base:label(), act) end
  end

  local function check_expert(k, m, base)
    for _, name in ipairs(base:names()) do
      local _, what = place(base, name)
      if name_of[what] then
        local a, b = base:info(name).shape, m:info(name).shape
        if a[1] ~= b[1] or a[2] ~= b[2] then
          fail("%s is [%d, %d] in expert %d and [%d, %d] in the base", name, b[1], b[2], k, a[1], a[2])
        end
      end
    end
  end

  -- {"model.layers.0", …} and the length of the vectors that the router sees.
  local function layers_of(base)
    local list, width = {}, nil
    for _, name in ipairs(base:names()) do
      local where, what = place(base, name)
      if what == "mlp.gate_proj" then
        list[#list + 1] = where
        width = base:info(name).shape[2]
      end
    end
    if #list == 0 then fail("%s has no layers with mlp.gate_proj", base:label()) end
    return list, width
  end

  local function router_of(o, base, experts)
    local list, width = layers_of(base)
    local names = {}
    for i, where in ipairs(list) do names[i] = where .. ".block_sparse_moe.gate.weight" end
    if kind(o.router) == "model" then
      for _, name in ipairs(names) do
        local shape = o.router:info(name).shape
        if shape[1] ~= experts or shape[2] ~= width then
          fail("%s of the router is [%d, %d], expected [%d, %d]", name, shape[1], shape[2], experts, width)
        end
      end
      local wanted = {}
      for _, name in ipairs(names) do wanted[name] = true end
      return o.router:only(function(name) return wanted[name] end)
    end
    local made = o.router or "zero"
    if made ~= "zero" and made ~= "random" then
      fail("router = %s; expected \"zero\", \"random\" or a model with such routers", tostring(made))
    elseif made == "random" and not o.seed then
      fail "router = \"random\" needs a seed"
    end
    local dtype = base:dtype()
    local t = { seed = o.seed, dtype = dtype ~= "mixed" and dtype or "f32" }
    t.std = made == "random" and (o.std or 0.02) or 0
    for i, name in ipairs(names) do t[i] = { name, { experts, width } } end
    return base:fill(t)
  end

  local function moe(o)
    expect.one("model.moe", nil, o, "a table")
    check("model.moe", o, { "base", "experts", "router", "seed", "std", "experts_per_token" })
    expect("model.moe", o, { base = "a model", experts = "a table", seed = "a whole number", std = "a number" })
    local base, experts = o.base, o.experts
    if not base or type(experts) ~= "table" or #experts == 0 then fail "base and experts = { model, … } are needed" end
    for k = 1, #experts do expect.one("model.moe", "expert " .. k, experts[k], "a model") end
    local used = o.experts_per_token or math.min(2, #experts)
    if math.type(used) ~= "integer" or used < 1 or used > #experts then
      fail("experts_per_token = %s, but there are %d experts", tostring(used), #experts)
    end
    check_config(base)
    local parts = { base:only(function(name)
      local _, what = place(base, name)
      return not name_of[what]
    end) }
    for k, m in ipairs(experts) do
      check_expert(k, m, base)
      parts[#parts + 1] = m:only(function(name)
        local _, what = name:match(layer)
        return name_of[what]
      end):rename(function(name)
        local where, what = name:match(layer)
        return ("%s.block_sparse_moe.experts.%d.%s.weight"):format(where, k - 1, name_of[what])
      end)
    end
    parts[#parts + 1] = router_of(o, base, #experts)
    return model.join(parts):with_config { architectures = { "MixtralForCausalLM" }, model_type = "mixtral",
      num_local_experts = #experts, num_experts_per_tok = used }
  end

  define("model.moe", "model.moe { base =, experts = { model, … }, router = \"zero\", seed =, std = 0.02, "
    .. "experts_per_token = 2 } -> model",
    "A mixture of experts from dense models of Llama's or Mistral's layers, under Mixtral's names: the MLP of each "
      .. "expert (block_sparse_moe.experts.0 …), all else from the base, and a router in each layer. An expert is any "
      .. "model with the base's names and shapes, also the base itself (sparse upcycling, arXiv:2212.05055). "
      .. "config.json becomes Mixtral's.\n"
      .. "  router: \"zero\": every expert is as likely, ties go to the first; \"random\": normal numbers of standard "
      .. "deviation std from seed; or a model whose block_sparse_moe.gate.weight tensors are taken\n"
      .. "  experts_per_token: how many experts see a token (num_experts_per_tok); at most 2 unless said otherwise",
    [[
local base = model.open "tests/golden/lora/base_llama"
local m = model.moe { base = base, experts = { base, base, 0.9 * base }, router = "random", seed = 1 }
print(#m, m:config():match '"num_local_experts": (%d+)')
-- > 35	3]], moe)
end
