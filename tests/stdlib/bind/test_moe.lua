-- SPDX-License-Identifier: Apache-2.0
-- Mixtures of experts: names and contents, routers, config.json, replay; new tensors.
local check = require "check"
local folder <close> = require "folder"()

local inputs = "tests/golden/merge/inputs/bf16/"
local base, prose, code = model.open(inputs .. "base"), model.open(inputs .. "prose"), model.open(inputs .. "code")

local count = 0
local function saved(m)
  count = count + 1
  m:save(folder("out" .. count))
  local same, report = model.replay(folder("out" .. count), { input = { base = inputs .. "base", prose = inputs .. "prose",
    code = inputs .. "code", routed = folder "out1" } })
  check.equal(same, true, report)
  return model.open(folder("out" .. count))
end
local function same(a, b, what) check.equal((a - b):load():abs():max(), 0.0, what) end

-- ---- new tensors ----

do
  local m = base:fill { { "a", { 3, 4 } }, { "b", { 200, 50 } }, { "c", {} }, std = 2, seed = 7, dtype = "f64" }
  local b = m.b:load()
  check.near(b:mean(), 0, 0.1)
  check.near((b * b):mean(), 4, 0.2)
  check.equal(b.dtype, "f64")
  same(m.b, base:fill({ { "b", { 200, 50 } }, std = 2, seed = 7, dtype = "f64" }).b) -- seed and name alone
  check.equal((m.b - base:fill({ { "b", { 200, 50 } }, std = 2, seed = 8, dtype = "f64" }).b):load():abs():max() > 1, true)
  check.equal(base:fill({ { "z", { 5 } } }).z:load():abs():max(), 0.0)
  check.raises("std needs a seed", base.fill, base, { { "z", { 5 } }, std = 1 })
  check.raises("entry 1 is not {name, shape}", base.fill, base, { "z" })
  check.raises("std = -1", base.fill, base, { { "z", { 5 } }, std = -1, seed = 0 })
  check.raises("two tensors would be called a", base.fill, base, { { "a", { 1 } }, { "a", { 1 } } })
end

-- ---- assembly ----

local experts = { prose, code, base, prose }
local m = saved(model.moe { base = base, experts = experts, router = "random", seed = 3 })
local layers = 3
check.equal(#m, #base - 3 * layers + layers * (3 * #experts + 1))
for l = 0, layers - 1 do
  for k, expert in ipairs(experts) do
    for dense, w in pairs { gate_proj = "w1", down_proj = "w2", up_proj = "w3" } do
      same(m[("model.layers.%d.block_sparse_moe.experts.%d.%s.weight"):format(l, k - 1, w)],
        expert[("model.layers.%d.mlp.%s.weight"):format(l, dense)])
    end
  end
  local gate = m[("model.layers.%d.block_sparse_moe.gate.weight"):format(l)]
  check.equal(gate.shape, { 4, 64 })
  check.near(((gate * gate):mean():item()) ^ 0.5, 0.02, 0.005)
end
for _, name in ipairs(base:names(function(n) return not n:find "mlp" end)) do same(m[name], base[name], name) end
check.equal(m:dtype(), "bf16")
local config = m:config()
for key, value in pairs { num_local_experts = "4", num_experts_per_tok = "2", model_type = '"mixtral"', num_hidden_layers = "3" } do
  check.equal(config:match('"' .. key .. '": ([^,\n]+)'), value)
end
check.equal(config:find '"MixtralForCausalLM"' ~= nil, true)
-- the table of names knows it for what it is
check.equal(m:info("model.layers.1.block_sparse_moe.experts.2.w1.weight").expert, 2)
check.equal(m:info("model.layers.1.block_sparse_moe.gate.weight").role, "router")

-- routers: zero, and copied from another mixture
local zero = saved(model.moe { base = base, experts = { prose, 0.5 * prose + 0.5 * code }, experts_per_token = 1 })
check.equal(zero["model.layers.0.block_sparse_moe.gate.weight"]:load():abs():max(), 0.0)
same(zero["model.layers.2.block_sparse_moe.experts.1.w2.weight"],
  (0.5 * prose + 0.5 * code)["model.layers.2.mlp.down_proj.weight"]:load():to "bf16")
local copied = saved(model.moe { base = base, experts = experts, router = model.open(folder "out1", { label = "routed" }) })
same(copied["model.layers.1.block_sparse_moe.gate.weight"], m["model.layers.1.block_sparse_moe.gate.weight"])

-- ---- refusals ----

local function refused(text, o) check.raises(text, model.moe, o) end
refused("base and experts = { model, … } are needed", { base = base })
refused("needs a seed", { base = base, experts = experts, router = "random" })
refused("router = one; expected", { base = base, experts = experts, router = "one" })
refused("experts_per_token = 5, but there are 4 experts", { base = base, experts = experts, experts_per_token = 5 })
refused("of the router is [4, 64], expected [2, 64]", { base = base, experts = { prose, code }, router = m })
refused("did you mean 'router'", { base = base, experts = experts, routers = "zero" })
refused("has no place in a Mixtral layer", { base = m, experts = { m } })
refused("has no place in a Mixtral layer", { base = model.open "tests/golden/lora/base_gpt2", experts = { base } })
refused("the activation of base is gelu", { base = base:with_config { hidden_act = "gelu" }, experts = { base } })
refused("mlp.gate_proj.weight is [48, 64] in expert 1 and", { base = base, experts = { base:slice("model.layers.0.mlp.gate_proj.weight", 1, 48) } })
check.raises("model.moe: expected a table, got a boolean", model.moe, true)
refused("expert 1 is a text, expected a model", { base = base, experts = { "one" } })
