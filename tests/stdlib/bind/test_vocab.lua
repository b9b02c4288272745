-- SPDX-License-Identifier: Apache-2.0
-- Vocabularies cut, grown and brought together; their plans replay.
local check = require "check"
local folder <close> = require "folder"()

local root = "tests/golden/lora/"
local llama, gpt2 = model.open(root .. "base_llama"), model.open(root .. "base_gpt2")
local embed, head = "model.embed_tokens.weight", "lm_head.weight"

local count = 0
local function saved(m)
  count = count + 1
  m:save(folder("out" .. count))
  local same, report = model.replay(folder("out" .. count), { input = { base_llama = root .. "base_llama",
    base_gpt2 = root .. "base_gpt2", twin = folder "twin" } })
  check.equal(same, true, report)
  return model.load(folder("out" .. count))
end
local function row(m, name, i) return m:tensor(name):load()[i] end
local function same(a, b, what) check.equal((a - b):abs():max(), 0.0, what) end

-- ---- resizing ----

do
  local cut = saved(llama:resize_vocab(40))
  check.equal(cut:info(embed).shape, { 40, 32 })
  check.equal(cut:info(head).shape, { 40, 32 })
  check.equal(cut:config():match '"vocab_size": (%d+)', "40")
  same(cut[embed], llama[embed]:load()[{ { 1, 40 } }])
  same(cut[head], llama[head]:load()[{ { 1, 40 } }])
  check.equal((cut:only "layers|norm" - llama:only "layers|norm"):load():norm(), 0.0)

  local grown = saved(llama:resize_vocab(70))
  same(grown[embed][{ { 1, 64 } }], llama[embed]:load())
  local mean = llama[embed]:load():mean { 1 }
  for i = 65, 70 do check.near((grown[embed][i] - mean):abs():max(), 0, 1e-7) end
  local zero = saved(llama:resize_vocab(66, { fill = "zero" }))
  check.equal(zero[head][66]:abs():max(), 0.0)
  check.equal(zero[head][64]:abs():max() > 0, true)
  same(saved(llama:resize_vocab(64))[embed], llama[embed]:load())

  -- tied: the embedding is all there is; positions are no tokens
  local g = saved(gpt2:resize_vocab(50))
  check.equal(g:info("transformer.wte.weight").shape[1], 50)
  check.equal(g:info("transformer.wpe.weight").shape, gpt2:info("transformer.wpe.weight").shape)
  -- in bf16 rows are copied to the bit; a vector of models too
  local half = llama:cast "bf16"
  same(saved(half:resize_vocab(80))[embed][{ { 1, 64 } }]:to "f32", half[embed]:load():to "f32")
  check.equal((llama - llama):resize_vocab(70):mass(), 0.0)
  check.equal(llama:load():resize_vocab(10):info(embed).shape[1], 10)
  check.raises("no embedding of tokens is known", model.new({ { "w", tensor { 1 } } }).resize_vocab, model.new { { "w", tensor { 1 } } }, 3)
  check.raises("fill = \"ones\"; expected mean or zero", llama.resize_vocab, llama, 3, { fill = "ones" })
  check.raises("a vocabulary of -1 rows", llama.resize_vocab, llama, -1)
end

-- ---- union ----

do
  llama:map(function(t) return 2 * t + 1 end):save(folder "twin")
  local twin = model.open(folder "twin")
  -- tokens 0, 1 are shared; 2 is llama's 7, 3 twin's 5, 4 twin's 6, 5 nobody's
  local ids = { { [0] = 0, [1] = 1, [7] = 2 }, { [3] = 0, [4] = 1, [5] = 3, [6] = 4 } }
  local u = model.token_union { llama, twin, ids = ids, rows = 6 }
  local a, b = saved(u[1]), saved(u[2])
  for _, name in ipairs { embed, head } do
    local x, y = llama[name]:load(), twin[name]:load()
    for i, r in ipairs { x[1], x[2], x[8], y[6], y[7] } do same(a[name][i], r, name .. i) end
    for i, r in ipairs { y[4], y[5], x[8], y[6], y[7] } do same(b[name][i], r, name .. i) end
    check.near((a[name][6] - x:mean { 1 }):abs():max(), 0, 1e-6)
    check.near((b[name][6] - y:mean { 1 }):abs():max(), 0, 1e-6)
  end
  check.equal(a:config():match '"vocab_size": (%d+)', "6")
  check.equal(merge.linear { u[1], u[2] }:info(embed).shape, { 6, 32 })

  -- three: the mean of those that have it, or the base's
  local weak = llama:map(function(t) return 0.5 * t end)
  local three = { [2] = 3 }
  u = model.token_union { llama, twin, weak, ids = { ids[1], ids[2], three } }
  check.equal(#u, 3)
  local x, y, z = llama[embed]:load(), twin[embed]:load(), llama[embed]:load() * 0.5
  check.near((row(u[1], embed, 4) - (y[6] + z[3]) * 0.5):abs():max(), 0, 1e-6)
  same(row(u[3], embed, 4), z[3])
  check.near((row(u[3], embed, 1) - (x[1] + y[4]) * 0.5):abs():max(), 0, 1e-6)
  u = model.token_union { llama, twin, weak, ids = { ids[1], ids[2], three }, base = 2 }
  same(row(u[3], embed, 1), y[4])
  same(row(u[1], embed, 4), y[6])
  same(row(u[3], embed, 3), x[8])
  check.equal(saved(u[3]):info(head).shape, { 5, 32 })

  local function refused(text, o) check.raises(text, model.token_union, o) end
  refused("tokens 0 and 1 both become 4", { llama, ids = { { [0] = 4, [1] = 4 } } })
  refused("token 9 becomes 4, but there are rows 0 to 2", { llama, ids = { { [9] = 4 } }, rows = 3 })
  refused("token 0 is to be row 64 of lm_head.weight in base_llama, which has rows 0 to 63", { llama, ids = { { [64] = 0 } } })
  refused("ids is a list", { llama, ids = {} })
  refused("ids of model 1: expected {[token] = new token, …}", { llama, ids = { { a = 1 } } })
  refused("base one of their numbers", { llama, ids = { {} }, base = 2 })
  refused("have different lengths", { llama, llama:map(function(t) return t end):slice(embed, 1, 3):map(function(t, name)
    return name == embed and t:reshape { 6, 16 } or t end), ids = { { [0] = 0 }, { [1] = 1 } } })
end
