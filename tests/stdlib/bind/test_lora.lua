-- SPDX-License-Identifier: Apache-2.0
-- Adapters: PEFT's own (tests/golden/lora) against their difference computed in f64, replay, and what is
-- refused, from damaged copies.
local check = require "check"
local folder <close> = require "folder"()

local root = "tests/golden/lora/"
local llama, gpt2 = model.open(root .. "base_llama"), model.open(root .. "base_gpt2")

-- ---- what PEFT writes ----

local count = 0
local function replays(m, case)
  count = count + 1
  m:save(folder("out" .. count))
  local same, report = model.replay(folder("out" .. count), { input = { base_llama = root .. "base_llama",
    base_gpt2 = root .. "base_gpt2", [case] = root .. case .. "/adapter_model.safetensors" } })
  check.equal(same, true, report)
end

local function tensors_of(m)
  local t = {}
  for name, x in pairs(m) do t[name] = x end
  return t
end

-- The names of the base without a dense tensor among what is changed are not in the vector at all.
for case, tensors in pairs { r4_qv = 4, rslora = 4, patterns = 14, fan_in_fan_out = 2, dora = 6, embedding = 3,
  modules_to_save = 5, bf16_adapter = 4 } do
  local base = case == "fan_in_fan_out" and gpt2 or llama
  local lora, want = model.lora(root .. case, base), model.load(root .. case .. "/delta.safetensors")
  check.equal(#lora, tensors, case)
  check.equal(#want, tensors, case)
  check.equal(lora:mass(), 0.0)
  local got = lora:load()
  for name, t in pairs(want) do
    check.equal(got[name].shape, t.shape, case .. " " .. name)
    check.near((t - got[name]:cast "f64"):abs():max() / t:abs():max(), 0, 1e-6, case .. " " .. name)
  end
  local merged = base + 0.5 * lora
  check.equal(#merged, #base)
  check.equal(merged:mass(), 1.0)
  check.near(((merged - base):load() - 0.5 * model.new(tensors_of(want), { mass = 0 })):norm(math.huge), 0, 1e-6, case)
  replays(merged, case)
end

-- The factors' dtype is that of files: rounding comes once, in the output.
check.equal(model.lora(root .. "bf16_adapter", llama):info("model.layers.0.self_attn.q_proj.weight").dtype, "f32")

-- Vectors of the same base add up, on other bases too, and methods take base + lora.
local a, b = model.lora(root .. "r4_qv", llama), model.lora(root .. "rslora", llama)
check.near(((llama + a + b) - (llama + b + a)):load():norm(math.huge), 0, 1e-6)
local soup = merge.task_arithmetic { base = llama, llama + a, llama + b, weight = 0.5 }
check.near((soup - (llama + 0.5 * a + 0.5 * b)):load():norm(math.huge), 0, 1e-6)

-- DoRA depends on the base: with other weights the vector is another.
local doubled = model.lora(root .. "dora", 2 * llama)
check.equal((doubled - model.lora(root .. "dora", llama)):load():norm() > 0.1, true)

-- ---- damaged copies ----

local function copy(name, from, options)
  os.execute("mkdir '" .. folder(name) .. "'")
  local m = model.open(root .. from .. "/adapter_model.safetensors")
  local edited = options.model and options.model(m) or m
  edited:save(folder(name .. "/adapter_model.safetensors"), { allow_nonfinite = true })
  local file <close> = assert(io.open(root .. from .. "/adapter_config.json"))
  local text = file:read "a"
  for old, new in pairs(options.config or {}) do
    local n
    text, n = text:gsub('"' .. old .. '": [^,\n]+', '"' .. old .. '": ' .. new)
    assert(n > 0, old)
  end
  local out <close> = assert(io.open(folder(name .. "/adapter_config.json"), "w"))
  out:write(text)
  return folder(name)
end

-- "text [Code]": either may be left out.
local function raises(message, f, ...)
  local text, code = message:match "^(.-) ?%[(%u%a+)%]$"
  local ok, err = pcall(f, ...)
  check.equal(ok, false, message)
  if not tostring(err):find(text or message, 1, true) then error("expected " .. message .. "\ngot " .. tostring(err)) end
  check.equal(err.code, code or err.code)
end

local n = 0
local function refused(message, from, options, base)
  n = n + 1
  local path = copy("bad" .. n, from, options)
  raises(message, model.lora, path, base or llama)
end

local q0 = "base_model.model.model.layers.0.self_attn.q_proj."
local function lacking(name) return function(m) return m:only(function(k) return k ~= name end) end end
local function renaming(old, new) return function(m) return m:rename { [old] = new } end end

refused("model.layers.0.self_attn.q_proj.weight: bad1 has one of lora_A and lora_B and lacks the other [AdapterPair]",
  "r4_qv", { model = lacking(q0 .. "lora_B.weight") })
refused("[AdapterPair]", "r4_qv", { model = lacking(q0 .. "lora_A.weight") })
refused("bad3: " .. q0:gsub("%.0%.", ".7.") .. "lora_A.weight is for model.layers.7.self_attn.q_proj.weight, which base_llama lacks",
  "r4_qv", { model = function(m) return m:rename(function(k) return (k:gsub("%.0%.self_attn%.q", ".7.self_attn.q")) end) end })
refused(q0 .. "lora_A.weight of bad4 has rank 2, " .. q0 .. "lora_B.weight has rank 4 [AdapterRank]",
  "r4_qv", { model = function(m) return m:slice(q0 .. "lora_A.weight", 1, 2) end })
refused("has rank 4, adapter_config.json says 8 [AdapterRank]", "r4_qv", { config = { r = "8" } })
refused("use_dora, but model.layers.0.self_attn.q_proj.weight has no magnitude vector [AdapterShape]",
  "dora", { model = lacking(q0 .. "lora_magnitude_vector") })
refused("has not one number per output of model.layers.0.self_attn.q_proj.weight of base_llama [32, 32] [AdapterShape]",
  "dora", { model = function(m) return m:slice(q0 .. "lora_magnitude_vector", 1, 31) end })
refused("does not say use_dora [AdapterConfig]", "dora", { config = { use_dora = "false" } })
refused("do not make model.layers.0.self_attn.v_proj.weight of base_llama [16, 32] [AdapterShape]", "r4_qv",
  { model = function(m) return m:slice("base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight", 1, 15) end })
refused("is for odd.lora_A.name.of.weight, which base_llama lacks", "r4_qv", { model = renaming(q0 .. "lora_A.weight", "base_model.model.odd.lora_A.name.of.weight") })
refused("layer_replication is set; adapters of that kind are not supported", "r4_qv", { config = { layer_replication = "[[0, 1], [0, 1]]" } })
refused("use_qalora is set", "r4_qv", { config = { use_qalora = "true" } })
refused("peft_type is 'IA3', expected 'LORA'", "r4_qv", { config = { peft_type = '"IA3"' } })
refused("lora_alpha is no number", "r4_qv", { config = { lora_alpha = '"8"' } })
refused("adapter_config.json: line", "r4_qv", { config = { lora_alpha = "," } })
refused("does not replace lm_head.weight of base_llama [64, 32] [AdapterShape]", "modules_to_save",
  { model = function(m) return m:slice("base_model.model.lm_head.weight", 1, 60) end })
refused("which base_llama ties to model.embed_tokens.weight: an adapter for one of them makes two", "modules_to_save", {},
  llama:with_config { tie_word_embeddings = true }:only(function(k) return k ~= "lm_head.weight" end))
refused("base_llama is quantized", "r4_qv", {}, llama:with_config { quantization_config = { bits = 4 } })
raises("has no adapter_config.json", model.lora, root .. "base_llama", llama)
raises("[NotFound]", model.lora, folder "nothing", llama)

-- A number that is none: found when values are made.
local bad = copy("nan", "r4_qv", { model = function(m) return m:map(function(t, name)
  return name == q0 .. "lora_B.weight" and t:log() or t end) end })
raises("[NonFinite]", function() (llama + model.lora(bad, llama)):save(folder "nan.safetensors") end)

-- A wrong fan_in_fan_out is seen from the shapes.
local wrong = copy("turned", "fan_in_fan_out", { config = { fan_in_fan_out = "false" } })
check.equal((model.lora(wrong, gpt2) - model.lora(root .. "fan_in_fan_out", gpt2)):load():norm(), 0.0)

-- Another base's name is a warning.
local code, _, said = folder.tarn(("-e 'model.lora(%q, model.open %q)'"):format(root .. "r4_qv", root .. "base_gpt2"))
check.equal(code, 1)
check.equal(said:find("MissingTensor", 1, true) ~= nil, true, said)
local other = copy("other", "r4_qv", { config = { base_model_name_or_path = '"meta-llama/Llama-9"' } })
code, _, said = folder.tarn(("-e 'model.lora(\"%s\", model.open \"%s\")'"):format(other, root .. "base_llama"))
check.equal(code, 0, said)
check.equal(said:find("other was made for 'meta-llama/Llama-9' and is applied to base_llama", 1, true) ~= nil, true, said)

-- ---- by hand: what the stored adapters lack ----

local function exact(t, want)
  check.equal(t.shape, tensor(want).shape)
  check.equal((t - tensor(want)):abs():max(), 0.0)
end

local function adapter(name, tensors, config)
  os.execute("mkdir '" .. folder(name) .. "'")
  model.new(tensors):save(folder(name .. "/adapter_model.safetensors"))
  local out <close> = assert(io.open(folder(name .. "/adapter_config.json"), "w"))
  out:write(config)
  return folder(name)
end

-- A convolution, the bias of its B, and names that keep the adapter's own ("default").
do
  local m = model.new { { "conv.weight", tensor.zeros { 2, 1, 2, 2 } }, { "conv.bias", tensor.zeros { 2 } } }
  local path = adapter("conv", { { "base_model.model.conv.lora_A.default.weight", tensor { { { { 1, 2 }, { 3, 4 } } } } },
    { "base_model.model.conv.lora_B.default.weight", tensor { { { { 1 } } }, { { { -1 } } } } },
    { "base_model.model.conv.lora_B.default.bias", tensor { 1, 2 } } }, '{"r": 1, "lora_alpha": 2, "lora_bias": true}')
  local v = model.lora(path, m)
  exact(v["conv.weight"]:load(), { { { { 2, 4 }, { 6, 8 } } }, { { { -2, -4 }, { -6, -8 } } } })
  exact(v["conv.bias"]:load(), { 2, 4 })
end

-- DoRA where weights are [in, out]: the norm goes over the inputs of each output. |{3, 4}| = 5.
do
  local m = model.new { { "c.weight", tensor { { 3 }, { 0 } } } }
  local path = adapter("turned-dora", { { "base_model.model.c.lora_A.weight", tensor { { 0, 1 } } },
    { "base_model.model.c.lora_B.weight", tensor { { 4 } } }, { "base_model.model.c.lora_magnitude_vector.weight", tensor { 10 } } },
    '{"r": 1, "lora_alpha": 1, "use_dora": true, "fan_in_fan_out": true}')
  exact(model.lora(path, m)["c.weight"]:load(), { { 3 }, { 8 } })
  -- an output that is all zero stays so
  local none = model.new { { "c.weight", tensor { { 0 }, { -4 } } } }
  exact(model.lora(path, none)["c.weight"]:load(), { { 0 }, { 4 } })
end

-- Square weights go with the others, whatever the config says.
do
  local m = model.new { { "a.weight", tensor.zeros { 2, 3 } }, { "b.weight", tensor.zeros { 2, 2 } } }
  local path = adapter("square", { { "base_model.model.a.lora_A.weight", tensor { { 1, 2 } } }, { "base_model.model.a.lora_B.weight", tensor { { 1 }, { 0 }, { 3 } } },
    { "base_model.model.b.lora_A.weight", tensor { { 1, 2 } } }, { "base_model.model.b.lora_B.weight", tensor { { 1 }, { 0 } } } },
    '{"r": 1, "lora_alpha": 1}')
  local v = model.lora(path, m)
  exact(v["a.weight"]:load(), { { 1, 0, 3 }, { 2, 0, 6 } })
  exact(v["b.weight"]:load(), { { 1, 0 }, { 2, 0 } })
end
