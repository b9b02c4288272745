-- SPDX-License-Identifier: Apache-2.0
-- What models are made of: layers by number, stacking, config.json, and that their plans replay.
local check = require "check"
local folder <close> = require "folder"()

local inputs = "tests/golden/merge/inputs/bf16/"
local prose, code = model.open(inputs .. "prose"), model.open(inputs .. "code") -- Llama's names, 3 layers
local where = { input = { prose = inputs .. "prose", code = inputs .. "code", t5 = folder "t5" } }

local function gap(x, y) return (x:load() - y:load()):norm(math.huge) end

local count = 0
local function saved(m)
  count = count + 1
  local path = folder("out" .. count)
  m:save(path)
  local same, report = model.replay(path, where)
  check.equal(same, true, report)
  local m2 = model.open(path)
  return m2, function(key) return m2:config():match('"' .. key .. '": *(%b[])') or m2:config():match('"' .. key .. '": *([^,\n}]+)') end
end

-- ---- layers ----

local q = "model.layers.%d.self_attn.q_proj.weight"
local outer = #prose:names(function(_, info) return info.place ~= "layer" end)
local each = (#prose - outer) // 3
do
  local m = prose:layers(1, 2)
  check.equal(#m, outer + 2 * each)
  check.equal(m:names "q_proj", { q:format(1), q:format(2) })
  check.equal(#prose:layers(2), outer + each)
  check.equal(gap(m - m, prose:layers(1, 2) * 0), 0.0)
  check.equal(m:renumber():names "q_proj", { q:format(0), q:format(1) })
  check.equal(m:renumber(7):names "q_proj", { q:format(7), q:format(8) })
  check.equal(prose:layers(1, { stack = "model.layers" }):names "q_proj", { q:format(1) })
  check.raises("layers 2 to 3 of prose: the numbers in its names (model.layers) go from 0 to 2", prose.layers, prose, 2, 3)
  check.raises("model:layers: layers are numbered as in their names, from 0, got -1", prose.layers, prose, -1)
  check.raises("did you mean 'stack'", prose.layers, prose, 1, 2, { stak = "x" })
  check.raises("renumber", prose.only(prose, "embed").renumber, model.new { { "w", tensor { 1 } } })
  -- layers of a difference
  check.equal((prose - code):layers(0):mass(), 0.0)
end

-- ---- stacking ----

do
  local m, field = saved(model.stack { prose:layers(0, 1), code:layers(1, 2), prose:layers(2), prose:layers(2) })
  check.equal(field "num_hidden_layers", "6")
  check.equal(m:structure().stacks[1].count, 6)
  check.equal(#m, outer + 6 * each)
  local from = { { prose, 0 }, { prose, 1 }, { code, 1 }, { code, 2 }, { prose, 2 }, { prose, 2 } }
  for k, f in ipairs(from) do
    for _, name in ipairs(f[1]:layers(f[2]):names "layers") do
      local there = name:gsub("layers%.%d", "layers." .. k - 1)
      check.equal((m[there] - f[1][name]):abs():max():item(), 0.0, there)
    end
  end
  check.equal(gap(m:only "embed|^model.norm|lm_head", prose:only "embed|^model.norm|lm_head"), 0.0)

  -- who gives what
  local parts = { prose:layers(0), code:layers(2), prose:layers(1) }
  local function outside(options)
    for k, part in ipairs(parts) do options[k] = part end
    local s = model.stack(options)
    local function is(what) return gap(s:only(what), prose:only(what)) == 0 and "prose" or gap(s:only(what), code:only(what)) == 0 and "code" end
    return { is "embed", is "^model.norm" }
  end
  check.equal(outside {}, { "prose", "prose" })
  check.equal(outside { embed = 2 }, { "code", "prose" })
  check.equal(outside { head = 2 }, { "prose", "code" })
  check.equal(outside { embed = 2, head = 2 }, { "code", "code" })

  -- scaled layers, as of passthrough with scale; and a stack is a model like any other
  local scale = by.name { { "(o|down)_proj", 0.5 }, { ".", 1 } }
  local s = model.stack { prose, scale * prose:layers(1, 2) }
  check.equal(gap(s:layers(3, 4):renumber(1):only "_proj", (scale * prose):layers(1, 2):only "_proj"), 0.0)
  check.equal(gap(0.5 * s + 0.5 * s, s), 0.0)
  local whole = model.stack { prose }
  check.equal(gap(whole, prose), 0.0)
  check.raises("model.stack: head = 4, but there are parts 1 to 1", model.stack, { prose, head = 4 })
  check.raises("entry 2 is a number, not a model", model.stack, { prose, 3 })
  check.raises("did you mean 'head'", model.stack, { prose, heads = 1 })
  check.raises("part 1 has mass 1, part 2 has 0", model.stack, { prose, prose - code })

  -- in memory
  local x = model.load(inputs .. "prose")
  check.equal(gap(model.stack { x:layers(0, 1), x:layers(1, 2) }, model.stack { prose:layers(0, 1), prose:layers(1, 2) }), 0.0)
end

-- ---- config.json ----

do
  local m, field = saved(prose:with_config { a = { 1, 2.5, "x\n", true, {} }, theta = 1e6, num_hidden_layers = yaml.null, deep = { b = 1 } })
  check.equal(field "theta", "1000000.0")
  check.equal(field "num_hidden_layers", nil)
  check.equal((field "a":gsub("%s", "")), '[1,2.5,"x\\n",true,[]]')
  check.equal(gap(m, prose), 0.0)
  -- new fields come by name, whatever the order of the table
  local fields, last = {}, ""
  for k = 1, 20 do fields["zz" .. (7 * k) % 20 + 10] = k end
  for field in prose:with_config(fields):config():gmatch '"(zz%d+)"' do
    check.equal(last < field, true, field)
    last = field
  end
  check.equal(last, "zz29")
  local n = m:with_config { deep = { c = { d = yaml.null } } }:with_config '{"deep": {"b": null}}'
  check.equal((n:config():match '"deep": (%b{})':gsub("%s", "")), '{"c":{}}')
  -- it goes with what the model goes into, and depth is still counted
  local _, count_of = saved(model.stack { prose:with_config { x = 1 }:layers(0, 1), code })
  check.equal(count_of "x", "1")
  check.equal(count_of "num_hidden_layers", "5")
  local _, later = saved(model.stack({ prose, code }):with_config { x = 2 })
  check.equal(later "num_hidden_layers", "6")
  -- values per layer, each from the layer's own model
  local types = prose:with_config { layer_types = { "p0", "p1", "p2" } }
  types:save(folder "prose")
  code:with_config({ layer_types = { "c0", "c1", "c2" } }):save(folder "code")
  local p, c = model.open(folder "prose"), model.open(folder "code")
  model.stack({ p:layers(1, 2), c:layers(0), p:layers(2) }):save(folder "typed")
  check.equal((model.open(folder "typed"):config():match '"layer_types": (%b[])':gsub("%s", "")), '["p1","p2","c0","p2"]')
  check.raises("a function is no JSON value", prose.with_config, prose, { f = print })
  check.raises("JSON has no word for inf", prose.with_config, prose, { f = math.huge })
  check.raises("the patch of config.json is no JSON object: [1]", prose.with_config, prose, "[1]")
  -- in memory it stays with what is computed
  check.equal((2 * prose:load():with_config { x = 3 }):config():match '"x": (%d)', "3")
end

-- Two stacks: each has its key, and the other stays whole.
do
  local list = {}
  for _, side in ipairs { "encoder", "decoder" } do
    for k = 0, 1 do
      list[#list + 1] = { side .. ".block." .. k .. ".layer.0.SelfAttention.q.weight", tensor.zeros { 2, 2 } }
    end
  end
  model.new(list):with_config({ model_type = "t5", num_layers = 2, num_decoder_layers = 2 }):save(folder "t5")
  local t5 = model.open(folder "t5")
  check.raises("say stack = one of \"encoder.block\", \"decoder.block\"", t5.layers, t5, 0)
  local _, field = saved(model.stack { t5, t5:layers(1, { stack = "decoder.block" }), stack = "decoder.block" })
  check.equal(field "num_layers", "2")
  check.equal(field "num_decoder_layers", "3")
  _, field = saved(t5:layers(0, { stack = "encoder.block" }))
  check.equal(field "num_layers", "1")
  check.equal(field "num_decoder_layers", "2")
end

-- Two names of one tensor that are both stored: a file that holds other numbers for the second is warned of.
do
  local head, embed = "lm_head.weight", "model.embed_tokens.weight"
  local tied = prose:with_config { tie_word_embeddings = true }
  tied:save(folder "odd")
  model.join { tied:only(function(name) return name ~= head end), tied:only(embed):rename { [embed] = head } }:save(folder "twice")
  tied:only(function(name) return name ~= head end):save(folder "once")
  for name, said in pairs { odd = "tarn: warning: odd: config.json says that lm_head.weight is model.embed_tokens.weight, "
    .. "but the file holds other numbers for it\n", twice = "" } do
    local code, _, err = folder.tarn(([[-e 'local m = merge.linear { model.open "%s", model.open "%s" } m:save "%s"
      assert(not m:names(%q)[1])']]):format(folder "once", folder(name), folder("merged" .. name), head))
    check.equal({ code, err }, { 0, said })
  end
end
