-- SPDX-License-Identifier: Apache-2.0
-- Adapters made here: extracted from a difference (at full rank it is the difference, at a lower one the
-- nearest), summed, written as PEFT does and read again.
local check = require "check"
local folder <close> = require "folder"()

local inputs, lora = "tests/golden/merge/inputs/bf16/", "tests/golden/lora/"
local base, prose = model.open(inputs .. "base"), model.open(inputs .. "prose")
local llama, gpt2 = model.open(lora .. "base_llama"), model.open(lora .. "base_gpt2")
local q = "model.layers.0.self_attn.q_proj.weight"
local function gap(x, y) return (x:load() - y:load()):norm(math.huge) end

-- ---- extraction ----

local count = 0
local function written(m, options)
  count = count + 1
  m:save_adapter(folder("ad" .. count), options)
  local same, report = model.replay(folder("ad" .. count .. "/adapter_model.safetensors"), { input = { base = inputs .. "base",
    prose = inputs .. "prose", base_gpt2 = lora .. "base_gpt2", base_llama = lora .. "base_llama",
    r4_qv = lora .. "r4_qv/adapter_model.safetensors", rslora = lora .. "rslora/adapter_model.safetensors" } })
  check.equal(same, true, report)
  return folder("ad" .. count)
end

-- At full rank the adapter is the difference; norms and biases are kept whole.
do
  local full = merge.lora_extract { base = base, prose, rank = 1000 }
  check.near(gap(base + model.lora(full, base), prose), 0, 1e-6)
  check.near(gap(base + model.lora(written(full, { base = "base" }), base), prose), 0, 1e-6)
  for _, route in ipairs { "gram", "random" } do
    check.near(gap(base + model.lora(merge.lora_extract { base = base, prose, rank = 1000, route = route }, base), prose), 0, 2e-5)
  end
  -- GPT-2 stores [in, out]
  local other = gpt2:map(function(t) return 0.9 * t + 0.01 end)
  local turned = merge.lora_extract { base = other, gpt2, rank = 1000 }
  check.equal(turned:info("base_model.model.transformer.h.0.attn.c_attn.lora_A.weight").shape, { 24, 24 })
  check.equal(turned:info("base_model.model.transformer.h.0.attn.c_attn.lora_B.weight").shape, { 72, 24 })
  check.near(gap(other + model.lora(written(turned, { base = "base_gpt2" }), other), gpt2), 0, 1e-6)
end

-- A convolution, a bias of a layer with an adapter, integers (no place), f64.
do
  local function tensors(k)
    return { { "conv.weight", tensor.normal({ 6, 3, 2, 2 }, k):to "f64" }, { "conv.bias", tensor.normal({ 6 }, k + 10) },
      { "norm.weight", tensor.normal({ 5 }, k + 20) }, { "steps", tensor { 1, 2 }:to "i64" } }
  end
  local a, b = model.new(tensors(1)), model.new(tensors(2))
  local m = merge.lora_extract { base = a, b, rank = 3 }
  check.equal(m:names(), { "base_model.model.conv.lora_A.weight", "base_model.model.conv.lora_B.weight",
    "base_model.model.conv.base_layer.bias", "base_model.model.norm.weight" })
  check.equal(m:info("base_model.model.conv.lora_A.weight").shape, { 3, 3, 2, 2 })
  check.equal(m:info("base_model.model.conv.lora_B.weight").shape, { 6, 3, 1, 1 })
  check.equal(m:info("base_model.model.conv.lora_B.weight").dtype, "f64")
  local full = model.lora(merge.lora_extract { base = a, b, rank = 100 }, a)
  check.near((full - (b - a):only "weight|bias"):norm(math.huge), 0, 1e-12)
end

-- At rank r nothing is nearer: what is left is the tail of the singular values.
local function tail(t, r)
  local _, s = t:load():svd()
  local sum = 0
  for k, v in ipairs(s:totable()) do sum = sum + (k > r and v * v or 0) end
  return math.sqrt(sum)
end
do
  local cut = merge.lora_extract { base = base, prose, rank = by.name { { "q_proj", 5 }, { ".", 2 } }, embeddings = "drop", rest = "drop" }
  check.equal(#cut:names "embed|norm", 0)
  local delta = model.lora(cut, base)
  for name, r in pairs { [q] = 5, ["model.layers.1.mlp.up_proj.weight"] = 2, ["lm_head.weight"] = 2 } do
    local want = tail(prose[name] - base[name], r)
    check.near((delta[name] - (prose[name] - base[name])):load():norm() / want, 1, 1e-5, name)
    check.equal(want > 0, true)
  end
  local path = written(cut)
  check.near(gap(model.lora(path, base), delta), 0, 1e-7)
  local whole = merge.lora_extract { base = base, prose, rank = 2, embeddings = "full" }
  check.equal(gap(model.lora(whole, base):only "embed", (prose - base):only "embed"), 0.0)
end

-- Ranks by energy.
do
  local rank = merge.lora_ranks { prose, base = base, energy = 0.6 }
  local m = merge.lora_extract { base = base, prose, rank = rank }
  local r = m:info("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").shape[1]
  local t = prose[q] - base[q]
  local all = tail(t, 0)
  check.equal(tail(t, r) ^ 2 <= 0.4 * all ^ 2 * (1 + 1e-6), true)
  check.equal(tail(t, r - 1) ^ 2 > 0.4 * all ^ 2, true)
  check.equal(r > 1 and r < 64, true)
  check.near(gap(model.lora(written(m), base), model.lora(m, base)), 0, 1e-7)
  local few = merge.lora_extract { base = base, prose, rank = merge.lora_ranks { prose, base = base, energy = 1, most = 3 } }
  check.equal(few:info("base_model.model.lm_head.lora_B.weight").shape[2], 3)
  check.raises("energy = 2 is outside 0 to 1", merge.lora_ranks, { prose, base = base, energy = 2 })
  check.raises("did you mean 'energy'", merge.lora_ranks, { prose, base = base, energi = 1 })
end

-- Equal models: an adapter of zeros.
check.equal(model.lora(merge.lora_extract { base = base, base, rank = 2 }, base):load():norm(), 0.0)

-- ---- sums ----

local a, b, other = model.lora(lora .. "r4_qv", llama), model.lora(lora .. "rslora", llama), model.lora(lora .. "patterns", llama)
do
  local sum = model.lora_sum { a, b, weight = { 0.5, -0.25 } }
  check.equal(sum:info("base_model.model." .. q:gsub("weight$", "lora_A.weight")).shape, { 12, 32 })
  check.near(gap(model.lora(sum, llama), 0.5 * a - 0.25 * b), 0, 1e-6)
  check.near(gap(model.lora(written(sum, { base = "base_llama" }), llama), 0.5 * a - 0.25 * b), 0, 1e-6)
  -- tensors that only one has; one adapter alone
  check.near(gap(model.lora(model.lora_sum { a, other }, llama), a + other), 0, 1e-6)
  check.near(gap(model.lora(model.lora_sum { other, weight = 2 }, llama), 2 * other), 0, 1e-6)
  local conv = model.lora(lora .. "fan_in_fan_out", gpt2)
  check.near(gap(model.lora(model.lora_sum { conv, conv }, gpt2), 2 * conv), 0, 1e-6)
  -- cut: the nearest of that rank
  local cut = model.lora_sum { a, b, rank = 6 }
  check.equal(cut:info("base_model.model." .. q:gsub("weight$", "lora_B.weight")).shape, { 32, 6 })
  local got = model.lora(written(cut, { base = "base_llama" }), llama)
  for _, name in ipairs(got:names()) do
    local t = a[name] + b[name]
    check.near((got[name] - t):load():norm() / tail(t, 6), 1, 1e-4, name)
  end
  -- a rank that is not reached changes nothing
  check.near(gap(model.lora(model.lora_sum { a, rank = 16 }, llama), a), 0, 1e-6)
end

-- By factors: (A1 w1 + A2 w2), s (B1 w1 + B2 w2), by hand.
do
  local file = model.load(lora .. "r4_qv/adapter_model.safetensors")
  os.execute("mkdir " .. folder "twin")
  file:map(function(t) return t * t end):save(folder "twin/adapter_model.safetensors")
  os.execute("cp " .. lora .. "r4_qv/adapter_config.json " .. folder "twin")
  local twin = model.lora(folder "twin", llama)
  local got = model.lora(model.lora_sum { a, twin, weight = { 0.75, 0.5 }, mode = "factors" }, llama)
  local pre = "base_model.model." .. q:gsub("weight$", "")
  local A, B = file[pre .. "lora_A.weight"], file[pre .. "lora_B.weight"]
  local want = (0.75 * B + 0.5 * B * B):matmul(0.75 * A + 0.5 * A * A) * 2.0
  check.near((got[q]:load() - want):abs():max(), 0, 1e-6)
  check.equal((want - (0.75 * a + 0.5 * twin)[q]:load()):abs():max() > 0.1, true)
  check.raises("ranks and scales are equal", model.lora_sum, { a, b, mode = "factors" })
end

check.raises("is no product of two factors (DoRA)", model.lora_sum, { model.lora(lora .. "dora", llama) })
check.raises("is no product of two factors (a whole tensor)", model.lora_sum, { model.lora(lora .. "modules_to_save", llama) })
check.raises("operand 2 (mul) is not as model.lora gives it", model.lora_sum, { a, 2 * a })
check.raises("mode = \"sum\"; expected concat or factors", model.lora_sum, { a, mode = "sum" })
check.raises("the weight of adapter 2 is a nil", model.lora_sum, { a, b, weight = { 1 } })
check.raises("has no lora_A under PEFT's names", (2 * base).save_adapter, 2 * base, folder "no")
check.raises("give the folder's path", model.lora, model.open(lora .. "r4_qv/adapter_model.safetensors"), llama)
check.raises("an adapter is a folder", function() merge.lora_extract({ base = base, prose }):save_adapter(folder "x.safetensors") end)
check.equal(model.plans(function() merge.lora_extract({ base = base, prose }):save_adapter(folder "planned") end)[1].path, folder "planned")

-- A threshold over the whole adapter sees both factors of each tensor, though one computation makes them.
do
  local factors = merge.lora_extract { base = base, prose, rank = 2, embeddings = "drop", rest = "drop" }
  local none = model.new { { "none", tensor { 0 } } }
  local function trimmed(x) return merge.ties { base = none, x, missing = "zero", density = 0.3 }:load() end
  check.equal((trimmed(factors) - trimmed(factors:load())):norm(), 0.0)
end
