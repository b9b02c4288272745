-- SPDX-License-Identifier: Apache-2.0
-- The language of mergekit's configurations, run by test_merge.sh in its working folder: which value
-- a parameter has for a tensor, which layers go where, what is accepted and what is refused.
-- usage: tarn merge.lua TARN

local config = require "mergekit.config"

local function read(text)
  local doc, at = yaml.read(text, "c.yml")
  return config.read(doc, at, "c.yml", yaml.null)
end

local function refused(text, message)
  local ok, why = pcall(read, text)
  assert(not ok, "accepted: " .. text)
  assert(tostring(why) == message, ("said: %s\nexpected: %s"):format(why, message))
end

local function near(a, b) return math.abs(a - b) < 1e-6 end

-- ---- values ----

-- A gradient over 32 layers (published values of mergekit).
do
  local d = read "merge_method: linear\nmodels: [{model: a, parameters: {weight: [0, 0.3, 0.7, 1]}}]"
  local want = { [0] = 0, [1] = 0.029032, [10] = 0.290323, [11] = 0.325806, [20] = 0.674194,
    [21] = 0.709677, [30] = 0.970968, [31] = 1 }
  local slice = d.slices[1]
  for layer, v in pairs(want) do
    assert(near(config.resolve(d, slice, slice.sources[1], "weight", "x", layer / 31), v), layer)
  end
end

-- Source before slice before top level before default; rules that do not fit fall through; filters
-- are plain substrings; numbers may be texts and booleans.
do
  local d = read [[
merge_method: ties
base_model: base
slices:
  - sources:
      - {model: base, layer_range: [0, 2]}
      - model: a
        layer_range: [0, 2]
        parameters: {weight: [{filter: q_proj, value: 0.1}]}
      - {model: b, layer_range: [0, 2], parameters: {weight: "0.25", density: yes}}
    parameters: {weight: {filter: mlp, value: [1, 3]}, lambda: 0.5}
parameters:
  weight: 1e-1
  density: [{filter: m.p, value: 0.5}, {filter: "*", value: 0.75}]
]]
  local s = d.slices[1]
  local function value(source, key, tensor, t)
    return config.resolve(d, s, source and s.sources[source], key, tensor, t)
  end
  assert(value(2, "weight", "l.q_proj.w", 0.5) == 0.1)
  assert(value(2, "weight", "l.mlp.w", 0.5) == 2)
  assert(value(2, "weight", "l.o_proj.w", 0.5) == 0.1)
  assert(value(3, "weight", "l.mlp.w", 0.5) == 0.25)
  assert(value(3, "density", "l", 0) == 1)
  assert(value(2, "density", "l.mlp.w", 0) == 0.75)
  assert(value(2, "density", "l.m.p.w", 0) == 0.5)
  assert(value(nil, "lambda", "l", 0) == 0.5)
  assert(value(nil, "normalize", "l", 0) == 1)
  assert(value(nil, "rescale", "l", 0) == 0)
end

-- ---- what is accepted ----

do
  local d = read [[
merge_method: linear
base_model: {model: {path: "x+y"}}
models:
  - {model: a/b/}
  - {model: c/b}
parameters: {weight: 1, normalize: off}
dtype: torch.bfloat16
out_dtype: float32
tokenizer_source:
]]
  assert(d.dtype == "bf16" and d.out_dtype == "f32" and not d.tokenizer)
  assert(#d.slices[1].sources == 3 and d.slices[1].sources[3].model.path == "x+y")
  assert(d.models[2].path == "a/b" and d.models[2].label == "a/b" and d.models[3].label == "c/b")
end

-- ---- what is refused ----

local head = "merge_method: linear\nparameters: {weight: 1}\n"
refused("", "c.yml: the file is empty")
refused("- a", "c.yml: a list, expected a map with merge_method, models …")
refused(head, "c.yml:1: neither models nor slices are given")
refused(head .. "modles: []", "c.yml:3: unknown top-level key modles; did you mean 'models'?")
refused(head .. "models: [{model: a}]\nrandom_seed: 0",
  "c.yml:4: unknown top-level key random_seed; the seed is an option of the command: --seed N")
refused("merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\nbase_model: b",
  "c.yml:3: linear merges base_model as one more model, and b has no weight: list it under models with one, or leave "
    .. "base_model out")
refused(head .. "modules: {}", "c.yml:3: modules is an empty map")
refused(head .. "modules: {default: {}}", "c.yml:3: neither models nor slices are given")
refused(head .. "modules:\n  default:\n", "c.yml:4: module default is empty, expected models or slices")
refused(head .. "modules: {default: {model: a}}", "c.yml:3: module default: unknown key model; did you mean 'models'?")
refused(head .. "models: [{model: a}]\nmodules: {default: {models: [{model: a}]}}",
  "c.yml:4: both modules and models are given")
refused(head .. "name: 3\nmodels: [{model: a}]", "c.yml:3: name is 3, expected a text (quote it)")
refused(head .. "models: []", "c.yml:3: models is an empty list")
refused(head .. "models: [a]", "c.yml:3: models[1] is the text 'a', expected {model: …}")
refused(head .. "models: [{model: a, layer_range: [0, 1]}]",
  "c.yml:3: models[1]: unknown key layer_range; it stands beside the model, in each of the sources of a slice")
refused(head .. "models: [{model: a, revision: v2}]",
  "c.yml:3: models[1]: unknown key revision; models are local folders, without revisions")
refused(head .. "pad_to_multiple_of: 8", "c.yml:3: unknown top-level key pad_to_multiple_of; it belongs under tokenizer")
refused("merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1, random_seed: 3}",
  "c.yml:3: unknown parameter random_seed for linear; the seed is an option of the command: --seed N")
refused("merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1, dtype: bfloat16}",
  "c.yml:3: unknown parameter dtype for linear; it belongs to the top level")
refused(head .. "slices:\n - sources: [{model: a, layer_range: [0, 1]}]\n   merge_method: slerp",
  "c.yml:5: slices[1]: unknown key merge_method; a file has one for each document; give this part a document of its own, "
    .. "with a name")
refused("base_model: a\nexperts: [{source_model: b}]",
  "c.yml:2: experts: this is a configuration of mergekit-moe; model.moe builds mixtures of experts")
refused(head .. "models: [{model: 12}]", "c.yml:3: models[1] is 12, expected a text (quote it)")
refused(head .. "models:\n - {model: a}\n - {model: a+b+c}",
  "c.yml:5: models[2] 'a+b+c': one adapter may follow the model (a folder with + in its name: {model: {path: …}})")
refused(head .. "models: [{model: a+b@main}]",
  "c.yml:3: models[1] 'b@main': revisions (model@revision) are not supported, models are read from local "
    .. "folders (a folder with @ in its name: {model: {path: …}})")
refused(head .. "models: [{model: a@main}]",
  "c.yml:3: models[1] 'a@main': revisions (model@revision) are not supported, models are read from local "
    .. "folders (a folder with @ in its name: {model: {path: …}})")
-- Adapters: a model with one and without are two; the long form says the same.
for _, ref in ipairs { "x/a+ads/b/", "{model: {path: x/a}, lora: {path: ads/b}}", "{model: x/a/, lora: ads/b}" } do
  local d = read(head .. "models: [{model: " .. ref .. "}, {model: x/a}]")
  assert(#d.models == 2 and d.models[1].path == "x/a" and d.models[1].lora == "ads/b")
  assert(d.models[1].label == "a+b" and d.models[2].label == "a" and not d.models[2].lora)
end
refused(head .. "chat_template: chatmll\nmodels: [{model: a}]",
  "c.yml:3: chat_template 'chatmll' is neither auto, nor a template (at least 20 bytes with a brace), nor one of alpaca, "
    .. "chatml, exaone, llama3, mistral; did you mean 'chatml'?")
do
  local tokens = head .. "models: [{model: a}]\ntokenizer: "
  local function wrong(text, why) refused(tokens .. text, "c.yml:4: " .. why) end
  wrong("{souce: union}", "tokenizer: unknown key souce; did you mean 'source'?")
  wrong("{source: b+c}", "tokenizer, source 'b' is none of the models of this configuration")
  wrong("{pad_to_multiple_of: 0.5}", "pad_to_multiple_of is 0.5, expected a whole number from 1")
  wrong("{tokens: {x: {force: true}}}", "token x has force and no source")
  wrong("{tokens: {x: {source: {kind: one}}}}", "token x, source: kind is the text 'one'; expected zero or model_token")
  wrong("{tokens: {x: {source: {kind: model_token, model: a}}}}",
    "token x, source: one of token and token_id is expected")
  wrong("{tokens: {x: {source: {kind: model_token, model: a, token_id: -1}}}}",
    "token x, source: token_id is -1, expected a whole number")
  refused(tokens .. "{source: a}\ntokenizer_source: base", "c.yml:4: both tokenizer_source and tokenizer are given")
  local d = read(tokens .. "{source: a, tokens: {x: null, y: {source: {model: {path: a}}, force: on}}, pad_to_multiple_of: 8}")
  assert(d.tokenizer.source == d.models[1] and d.tokenizer.multiple == 8 and d.tokenizer.tokens.x)
  assert(d.tokenizer.tokens.y.source.model == d.models[1] and d.tokenizer.tokens.y.force)
end
refused("models: [{model: a}]\nmergemethod: linear", "c.yml:2: unknown top-level key mergemethod; did you mean 'merge_method'?")
refused("merge_method: karcher\nmodels: [{model: a}]\nparameters: {max_iter: 2.5}",
  "c.yml:3: max_iter is 2.5, expected a whole number")
refused("merge_method: linear\nmodels: [{model: a, parameters: {normalize: true}}]",
  "c.yml:2: normalize is one value for all models of linear; it belongs to the slice or to the top-level "
    .. "parameters, not to a model")
refused("merge_method: linear\nparameters: {weight: 1, normalize: 0.5}\nmodels: [{model: a}]",
  "c.yml:2: normalize is 0.5, expected true or false")
refused("merge_method: linear\nparameters: {weight: .inf}\nmodels: [{model: a}]",
  "c.yml:2: weight is inf, expected a finite number")
refused("merge_method: linear\nparameters: {weight: [{filter: mlp, vlaue: 1}]}\nmodels: [{model: a}]",
  "c.yml:2: weight, entry 1: unknown key 'vlaue'; an entry has filter and value")
refused("merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]",
  "c.yml: slerp needs the parameter t")
refused("merge_method: slerp\nmodels: [{model: a}, {model: b}]\nparameters: {t: 1}",
  "c.yml: slerp needs base_model")
refused("merge_method: ties\nbase_model: a\nmodels: [{model: a}]",
  "c.yml:3: ties takes at least one model besides the base; got a")
refused("merge_method: nuslerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}",
  "c.yml:3: nuslerp takes two models besides the base; got a and b")
refused("merge_method: nuslerp\nmodels: [{model: a}, {model: b}, {model: c}]\nparameters: {weight: 1}",
  "c.yml:2: nuslerp takes two models; got a, b and c")
refused("merge_method: passthrough\nmodels: [{model: a}, {model: b}]",
  "c.yml:2: passthrough takes one model; got a and b")
refused("merge_method: ties\nbase_model: o\nparameters: {weight: 1}\n"
  .. "slices:\n - sources: [{model: a, layer_range: [0, 1]}]",
  "c.yml:5: ties needs its base among the sources: add {model: o, layer_range: …} (slice 1)")
refused("merge_method: passthrough\nslices:\n - sources: [{model: a, layer_range: [1]}]",
  "c.yml:3: layer_range of model a has 1 entries, expected [first, end]")
refused("merge_method: passthrough\nslices:\n - sources: [{model: a, layer_range: [-1, 2]}]",
  "c.yml:3: layer_range of model a, entry 1 is -1, expected a layer's number")

-- ---- whole merges, against the language itself ----

local function merge_of(name, text)
  local file = assert(io.open(name .. ".yml", "w"))
  file:write(text)
  file:close()
  assert(os.execute(("'%s' merge --quiet %s.yml out/%s"):format(arg[1], name, name)))
  return model.load("out/" .. name)
end

local prose, code = model.load "inputs/bf16/prose", model.load "inputs/bf16/code"

local function same(m, name, expected)
  local differ = m:tensor(name):ne(expected):to("f64"):sum()
  assert(differ == 0, name .. ": " .. differ .. " elements differ")
end

-- Position 0 for the embedding, the final norm and the head; 0, 1/2, 1 for the three layers.
do
  local m = merge_of("gradient", [[
merge_method: linear
models:
  - {model: inputs/bf16/prose, parameters: {weight: [1, 0]}}
  - {model: inputs/bf16/code, parameters: {weight: [0, 1]}}
]])
  for _, name in ipairs(m:names()) do
    local layer = m:info(name).layer or 0
    local p, c = prose:tensor(name), code:tensor(name)
    same(m, name, layer == 0 and p or layer == 2 and c or ((p * 0.5 + c * 0.5) / 1):to "bf16")
  end
end

-- Filters see a source's own names, whatever they become.
do
  local m = merge_of("slices", [[
merge_method: passthrough
slices:
  - sources: [{model: inputs/bf16/prose, layer_range: [2, 3]}]
  - sources: [{model: inputs/bf16/code, layer_range: [0, 2],
               parameters: {scale: [{filter: layers.1.mlp, value: 2}, {value: 1}]}}]
  - sources: [{model: inputs/bf16/prose, layer_range: [1, 1]}]
]])
  assert(#m == #prose and m:structure().depths == 3)
  for _, name in ipairs(m:names()) do
    local layer = m:info(name).layer
    local from = layer and name:gsub("layers%.%d", "layers." .. (layer + 2) % 3) or name
    local x = (layer == 1 or layer == 2) and code:tensor(from) or prose:tensor(from)
    same(m, name, from:find "layers.1.mlp" and x * 2 or x)
  end
end

-- A base that is not listed joins linear; rescaling ties by L1 norms keeps the sum of magnitudes.
do
  local m = merge_of("joined", [[
merge_method: linear
base_model: inputs/bf16/code
models: [{model: inputs/bf16/prose}]
parameters: {weight: 1}
dtype: float32
]])
  local name = "model.norm.weight"
  assert(m:tensor(name).dtype == "f32")
  same(m, name, (code:tensor(name):to "f32" + prose:tensor(name)) / 2)
  local t = merge_of("rescaled", [[
merge_method: ties
base_model: inputs/bf16/code
models: [{model: inputs/bf16/prose, parameters: {weight: 1, density: 0.3}}]
parameters: {rescale: true}
dtype: float32
]])
  name = "lm_head.weight"
  local base = code:tensor(name):to "f32"
  local before, after = (prose:tensor(name):to "f32" - base):abs():sum(), (t:tensor(name) - base):abs():sum()
  assert(math.abs(after / before - 1) < 1e-4)
end

-- Equal tokenizers: nothing moves, whatever the files look like. What is wrong with one is told with its model. auto
-- takes the template that most have.
do
  local text = "merge_method: linear\nmodels: [{model: t1}, {model: t2}]\nparameters: {weight: 1}\n"
    .. "tokenizer_source: union\n"
  prose:save "t1"
  code:save "t2"
  local function write(path, what)
    local file = assert(io.open(path, "w"))
    file:write(what)
    file:close()
  end
  local function read_file(path)
    local file = assert(io.open(path))
    local all = file:read "a"
    file:close()
    return all
  end
  local function fails(name, why)
    assert(not os.execute(("'%s' merge --quiet %s.yml out/no 2>said.txt"):format(arg[1], name)))
    local said = read_file "said.txt"
    assert(said:find(name .. ".yml:4: " .. why, 1, true), said)
  end
  local tokens = {}
  for i = 0, 255 do tokens[i + 1] = ('"t%d":%d'):format(i, i) end
  local whole = '{"model":{"vocab":{' .. table.concat(tokens, ",") .. "}}}"
  write("t1/tokenizer.json", whole)
  write("t2/tokenizer.json", (whole:gsub('"model"', '\n"added_tokens":[],"model"')))
  local m = merge_of("plain", text)
  assert(m:info("lm_head.weight").shape[1] == 256 and read_file "out/plain/tokenizer.json" == whole)
  for what, why in pairs {
    ["{}"] = "tokenizer.json of t2 has no model.vocab",
    ["{"] = "tokenizer.json of t2: JSON:",
    ['{"model":{"vocab":{"a":0.5}}}'] = "tokenizer.json of t2: a token in model.vocab without an id",
    ['{"model":{"vocab":{"a":1,"b":1}}}'] = "two tokens of t2 have the id 1",
    ['{"model":{"vocab":{}},"added_tokens":[{"id":1}]}'] = "tokenizer.json of t2: an added token without id and content",
  } do
    write("t2/tokenizer.json", what)
    fails("plain", why)
  end
  os.remove "t2/tokenizer.json"
  merge_of("plain2", text) -- taken to be the first's
  write("t2/tokenizer.model", "x")
  fails("plain", "t2 has tokenizer.model and neither tokenizer.json nor vocab.json with merges.txt")
  os.remove "t2/tokenizer.model"
  write("t1/tokenizer_config.json", '{"pad_token":"<pad>"}')
  fails("plain", "pad_token of t1: '<pad>' is not in its tokenizer.json")

  text = text:gsub("tokenizer_source: union", "chat_template: auto")
  write("t1/tokenizer_config.json", [[{"bos": "x", "chat_template": "a \"b\" {{ c }}", "eos": 1}]])
  merge_of("template", text)
  assert(not io.open "out/template/chat_template.jinja") -- the first model's goes with it as it is
  write("t2/chat_template.jinja", "{{ d }}\n")
  merge_of("template2", text)
  assert(not io.open "out/template2/chat_template.jinja")
  write("t1/tokenizer_config.json", '{"bos": "x"}')
  merge_of("template3", text)
  assert(read_file "out/template3/chat_template.jinja" == "{{ d }}")
  write("t1/tokenizer_config.json", [[{"bos": "x", "chat_template": [{"name": "default", "template": "{{ e }}"}]}]])
  merge_of("template4", (text:gsub("auto", "'{{ messages[0].content }}'")))
  assert(read_file "out/template4/chat_template.jinja" == "{{ messages[0].content }}")
  assert(read_file "out/template4/tokenizer_config.json" == '{"bos": "x"}')
  for _, name in ipairs { "alpaca", "chatml", "exaone", "llama3", "mistral" } do
    merge_of(name, (text:gsub("auto", name)))
    local written = read_file("out/" .. name .. "/chat_template.jinja")
    assert(written == model.chat_template(code, name)["chat_template.jinja"] and #written > 100)
    assert(read_file("out/" .. name .. "/tokenizer_config.json") == '{"bos": "x"}')
  end

  -- a tokenizer that belongs to none of the models, and needs no weights
  text = text:gsub("chat_template: auto", "tokenizer_source: spoken")
  os.execute "mkdir -p spoken"
  local turned = {} -- the first two tokens change places, one is in none of the models
  for i = 0, 255 do turned[i + 1] = ('"t%d":%d'):format(i < 2 and 1 - i or i, i) end
  whole = '{"model":{"vocab":{' .. table.concat(turned, ",") .. ',"new":256}}}'
  write("spoken/tokenizer.json", whole)
  m = merge_of("spoken", text)
  assert(read_file "out/spoken/tokenizer.json" == whole and m:info("lm_head.weight").shape[1] == 257)
  local head, plain = m["lm_head.weight"]:load(), model.open("out/plain")["lm_head.weight"]:load()
  assert((head[1] - plain[2]):abs():max():item() == 0 and (head[2] - plain[1]):abs():max():item() == 0)
  assert(head[257]:abs():max():item() == 0)
  text = text:gsub("spoken", "nowhere")
  local file = assert(io.open("nowhere.yml", "w"))
  file:write(text)
  file:close()
  fails("nowhere", 'source = nowhere; expected "union", "base", a model or a folder with a tokenizer')
end

-- A document of its own may have a name; vocabularies of several sizes are cut where that is asked for.
do
  local text = "name: alone\nmerge_method: linear\nmodels: [{model: inputs/bf16/prose}, {model: longer}]\n"
    .. "parameters: {weight: 1}\n"
  code:resize_vocab(260):save "longer"
  local file = assert(io.open("longer.yml", "w"))
  file:write(text)
  file:close()
  assert(not os.execute(("'%s' merge --quiet longer.yml out/longer 2>said.txt"):format(arg[1])))
  assert(os.execute(("'%s' merge --quiet --truncate-embeddings longer.yml out/longer"):format(arg[1])))
  local m = model.load "out/longer"
  for _, name in ipairs(m:names()) do
    same(m, name, ((prose:tensor(name) * 1 + code:tensor(name) * 1) / 2):to "bf16")
  end
end

-- Several documents: those with a name are models of the others, in whatever order they stand, and none is
-- written. As the same merges in the language; what does not fit together is refused.
do
  local numbers, base = model.load "inputs/bf16/numbers", model.load "inputs/bf16/base"
  local pair = "name: pair\nmerge_method: linear\nmodels: [{model: inputs/bf16/prose, parameters: {weight: 1}}, "
    .. "{model: inputs/bf16/code, parameters: {weight: 3}}]\n"
  local sum = "merge_method: task_arithmetic\nbase_model: inputs/bf16/base\nmodels: [{model: turned, parameters: "
    .. "{weight: 0.5}}]\n"
  local turned = "name: turned\nmerge_method: slerp\nbase_model: pair\nout_dtype: float32\nparameters: {t: 0.25}\n"
    .. "models: [{model: pair}, {model: inputs/bf16/numbers}]\n"
  local got = merge_of("several", pair .. "---\n" .. sum .. "---\n" .. turned)
  local want = merge.linear { prose, code, weight = { 1, 3 } }
  want = merge.slerp { want, numbers, t = 0.25 }:cast "f32"
  want = merge.task_arithmetic { base = base, want, weight = 0.5 }
  for _, name in ipairs(want:names()) do same(got, name, want:load():tensor(name):to "bf16") end
  local function fails(text, message)
    local file = assert(io.open("bad.yml", "w"))
    file:write(text)
    file:close()
    assert(not os.execute(("'%s' merge --quiet bad.yml out/bad 2>said.txt"):format(arg[1])))
    local said = assert(io.open "said.txt"):read "a"
    assert(said:find(message, 1, true), said)
  end
  fails(pair .. "---\n" .. turned, "bad.yml: every document has a name; the one without is what is written")
  fails(sum .. "---\n" .. sum, "bad.yml:5: two documents have no name")
  fails(pair .. "---\n" .. pair .. "---\n" .. sum, "bad.yml:5: two documents are called pair")
  fails(sum .. "---\n" .. turned:gsub("base_model: pair", "base_model: turned"):gsub("{model: pair}", "{model: turned}"),
    "bad.yml:5: document turned needs itself")
  fails("name: 3\n" .. sum .. "---\n" .. turned, "bad.yml:1: the name of a document is 3, expected a text")
end

-- A document with a name may have a tokenizer of its own: who takes it for a model has its tokens and files, as from a
-- folder.
do
  local first = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: one}, {model: two}]\n"
    .. "tokenizer_source: union\nchat_template: chatml\n"
  local pair = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: %s}, {model: three}]\n"
  local function file_of(path)
    local file = io.open(path)
    return file and file:read "a"
  end
  merge_of("first", first)
  for name, text in pairs { union = pair .. "tokenizer_source: union\n", own = pair .. "tokenizer: {source: %s}\n",
    other = pair .. "tokenizer: {source: three}\nchat_template: auto\n",
    alone = "merge_method: passthrough\nmodels: [{model: %s}]\n" } do
    local want = merge_of(name .. "-folder", (text:gsub("%%s", "out/first")))
    local got = merge_of(name .. "-document", "name: first\n" .. first .. "---\n" .. text:gsub("%%s", "first"))
    for _, tensor in ipairs(want:names()) do
      assert((got:tensor(tensor) - want:tensor(tensor)):abs():max():item() < 1e-6, name .. ": " .. tensor)
    end
    for _, file in ipairs { "tokenizer.json", "tokenizer_config.json", "chat_template.jinja" } do
      local said = file_of(("out/%s-document/%s"):format(name, file))
      assert(said == file_of(("out/%s-folder/%s"):format(name, file)), name .. ": " .. file)
      assert(said, file)
    end
  end
end

-- Flags that stand for our options, and a base that may be there: as the same merges in the language.
-- What mergekit calls row-wise are columns, which is said.
do
  local base, numbers = model.load "inputs/bf16/base", model.load "inputs/bf16/numbers"
  local head = "base_model: inputs/bf16/base\nmodels:\n - {model: inputs/bf16/prose, parameters: {weight: 1}}\n"
    .. " - {model: inputs/bf16/code, parameters: {weight: 3}}\n"
  local function equal(name, text, m)
    local got = merge_of(name, text)
    for _, tensor in ipairs(m:names()) do same(got, tensor, m:tensor(tensor):to "bf16") end
  end
  local pair = { base = base, prose, code, weight = { 1, 3 } }
  local function with(t, o)
    for k, v in pairs(t) do o[k] = v end
    return o
  end
  equal("rows", "merge_method: nuslerp\nparameters: {nuslerp_flatten: false}\n" .. head,
    merge.nuslerp(with(pair, { axis = "row" })))
  equal("columns", "merge_method: nuslerp\nparameters: {nuslerp_flatten: false, nuslerp_row_wise: true}\n" .. head,
    merge.nuslerp(with(pair, { axis = "column" })))
  local command = ("'%s' merge --plan columns.yml out/columns2 2>said.txt >plan.txt"):format(arg[1])
  assert(os.execute(command))
  local said = assert(io.open "said.txt"):read "a"
  assert(said:find("columns.yml:%d+: nuslerp_row_wise: mergekit interpolates columns"), said)
  equal("many", "merge_method: multislerp\nparameters: {normalize_weights: false}\n" .. head,
    merge.multislerp(with(pair, { normalize = false })))
  equal("apart", "merge_method: multislerp\nmodels:\n - {model: inputs/bf16/prose, parameters: {weight: 0.5}}\n"
    .. " - {model: inputs/bf16/numbers, parameters: {weight: 0.5}}\n", merge.multislerp { prose, numbers })
  equal("filters", "merge_method: model_stock\nparameters: {filter_wise: true}\nbase_model: inputs/bf16/base\n"
    .. "models: [{model: inputs/bf16/prose}, {model: inputs/bf16/code}, {model: inputs/bf16/numbers}]\n",
    merge.model_stock { base = base, prose, code, numbers, axis = "row", norm_floor = 1e-6 })
end

-- What mergekit reads otherwise than it was meant, without a word, is warned of; nothing else is.
do
  local function warns(text, message)
    local file = assert(io.open("odd.yml", "w"))
    file:write(text)
    file:close()
    assert(os.execute(("'%s' merge --plan odd.yml out/odd 2>said.txt >plan.txt"):format(arg[1])))
    local said = assert(io.open "said.txt"):read "a"
    assert(said == (message and "tarn: warning: odd.yml:" .. message .. "\n" or ""), said)
  end
  local prose, code = "model: inputs/bf16/prose", "model: inputs/bf16/code"
  local rules = "merge_method: linear\nmodels: [{" .. prose .. "}, {" .. code .. "}]\nparameters:\n  weight:\n"
    .. "    - {filter: %s, value: 0.9}\n    - {value: 0.5}\n"
  warns(rules:format "mpl", "5: weight, entry 1: no tensor has 'mpl' in its name, so this entry has no effect")
  warns(rules:format "mlp")
  local ties = "merge_method: ties\nbase_model: inputs/bf16/prose\nmodels:\n - {" .. prose .. "%s}\n - {" .. code
    .. ", parameters: {weight: 1}}\n"
  warns(ties:format ", parameters: {weight: 0.3}", "4: parameters of prose, the base, have no effect, in mergekit neither")
  warns(ties:format "")
  -- what another method has is left alone, and said once
  local stock = "merge_method: model_stock\nbase_model: inputs/bf16/base\nmodels:\n - {" .. prose .. "%s}\n - {" .. code
    .. ", parameters: {weight: 2}}\n"
  warns(stock:format ", parameters: {weight: [{filter: mlp, value: [2, 1]}, {value: 1}]}",
    "4: weight has no effect on model_stock, in mergekit neither")
  local slices = "merge_method: linear\nparameters: {weight: 1}\nslices:\n - sources: [{" .. prose .. ", layer_range: [0, %d]}"
    .. "%s]\n - sources: [{" .. prose .. ", layer_range: [2, 3]}, {" .. code .. ", layer_range: [2, 3]}]\n"
  warns(slices:format(2, ""), "5: final norm and head are made of all 2 sources of the last slice; mergekit takes as many as "
    .. "the first slice has, 1")
  warns(slices:format(2, ", {" .. code .. ", layer_range: [0, 2]}"))
end

-- Slices are model.stack, adapters base + model.lora.
do
  local numbers = model.load "inputs/bf16/numbers"
  local got = merge_of("stacked", "merge_method: passthrough\nslices:\n"
    .. " - sources: [{model: inputs/bf16/prose, layer_range: [0, 2]}]\n"
    .. " - sources: [{model: inputs/bf16/code, layer_range: [1, 3]}]\n"
    .. " - sources: [{model: inputs/bf16/numbers, layer_range: [2, 3]}]\n")
  local m = model.stack { prose:layers(0, 1), code:layers(1, 2), numbers:layers(2) }
  assert(#got == #m and m:structure().stacks[1].count == 5)
  for _, name in ipairs(m:names()) do same(got, name, m:tensor(name)) end

  local llama = model.open "lora/base_llama"
  local one, two = model.lora("lora/r4_qv", llama), model.lora("lora/dora", llama)
  got = merge_of("adapters", "merge_method: linear\nparameters: {weight: 0.5}\nmodels: [{model: lora/base_llama+lora/r4_qv}, "
    .. "{model: {model: lora/base_llama, lora: {path: lora/dora/}}}]\n")
  m = merge.linear({ llama + one, llama + two, weight = 0.5 }):load()
  for _, name in ipairs(m:names()) do same(got, name, m:tensor(name)) end
end
