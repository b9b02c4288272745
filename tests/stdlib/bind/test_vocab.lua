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
  -- whatever their number: as many as there are tokens, or more, as in models of characters
  local width = gpt2:info("transformer.wte.weight").shape[2]
  local tall = gpt2:info("transformer.wte.weight").shape[1]
  for _, context in ipairs { tall, 3 * tall } do
    local chars = gpt2:map(function(t, name) return name == "transformer.wpe.weight" and tensor.ones { context, width } or t end)
    check.equal(chars:load():resize_vocab(9):info("transformer.wpe.weight").shape, { context, width })
    check.equal(chars:load():resize_vocab(9):info("transformer.wte.weight").shape, { 9, width })
  end
  -- nor are the rows of norms and of what stands before the head of a BERT as wide as its vocabulary is large
  local bert = model.new { ["bert.embeddings.word_embeddings.weight"] = tensor.ones { 4, 4 },
    ["bert.embeddings.position_embeddings.weight"] = tensor.ones { 4, 4 }, ["bert.embeddings.LayerNorm.weight"] = tensor.ones { 4 },
    ["cls.predictions.transform.dense.weight"] = tensor.ones { 4, 4 }, ["cls.predictions.transform.LayerNorm.bias"] = tensor.ones { 4 },
    ["cls.predictions.bias"] = tensor.ones { 4 }, ["bert.pooler.dense.weight"] = tensor.ones { 4, 4 } }
  local rows = {}
  for name, t in pairs(bert:resize_vocab(7)) do if t.shape[1] == 7 then rows[#rows + 1] = name end end
  table.sort(rows)
  check.equal(rows, { "bert.embeddings.word_embeddings.weight", "cls.predictions.bias" })
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

  -- what single tokens are told: a row of another token, of a model that lacks it, zero, also where a model has one
  u = model.token_union { llama, twin, ids = ids, rows = 7, fill = "zero", base = 1, force = { [1] = true, [3] = true },
    sources = { [0] = { 2, 9 }, [1] = { 2, 9 }, [2] = false, [3] = { 1, 8 }, [5] = { 1, 10 } } }
  x, y = llama[embed]:load(), twin[embed]:load()
  for i, r in ipairs { x[1], y[10], x[8], x[9], y[7], x[11], 0 * x[1] } do same(row(u[1], embed, i), r, i) end
  for i, r in ipairs { y[4], y[10], 0 * x[1], x[9], y[7], x[11], 0 * x[1] } do same(row(u[2], embed, i), r, i) end

  local function refused(text, o) check.raises(text, model.token_union, o) end
  refused("sources of token 0: expected {model, its token} with a model from 1 to 1", { llama, ids = { { [0] = 0 } },
    sources = { [0] = { 2, 0 } } })
  refused("sources of token 0: expected", { llama, ids = { { [0] = 0 } }, sources = { [0] = true } })
  refused("sources: a token outside 0 to 0", { llama, ids = { { [0] = 0 } }, sources = { [1] = { 1, 1 } } })
  refused("force is a number, expected a table", { llama, ids = { { [0] = 0 } }, force = 1 })
  refused("tokens 0 and 1 both become 4", { llama, ids = { { [0] = 4, [1] = 4 } } })
  refused("token 9 becomes 4, but there are rows 0 to 2", { llama, ids = { { [9] = 4 } }, rows = 3 })
  refused("token 0 is to be row 64 of lm_head.weight in base_llama, which has rows 0 to 63", { llama, ids = { { [64] = 0 } } })
  refused("ids is a list", { llama, ids = {} })
  refused("ids of model 1: expected {[token] = new token, …}", { llama, ids = { { a = 1 } } })
  refused("base one of their numbers", { llama, ids = { {} }, base = 2 })
  refused("have different lengths", { llama, llama:map(function(t) return t end):slice(embed, 1, 3):map(function(t, name)
    return name == embed and t:reshape { 6, 16 } or t end), ids = { { [0] = 0 }, { [1] = 1 } } })
end

-- ---- tokenizers; what mergekit makes of these is compared in tests/cli/test_merge.sh ----

do
  local one, two = model.open "tests/golden/tokenizer/one", model.open "tests/golden/tokenizer/two"
  check.equal(one:folder(), "tests/golden/tokenizer/one")
  check.equal((0.5 * one:cast "bf16" + 0.5 * one):folder(), one:folder())
  check.equal(model.new({ { "w", tensor { 1 } } }):folder(), nil)
  local list, files, lent = model.one_tokenizer { one, two, source = 1 }
  check.equal(lent, true)
  check.equal(list[1]:info(embed).shape, { 9, 4 })
  list, files, lent = model.one_tokenizer { list[1], source = "base" } -- nothing is left to move
  check.equal({ #list, next(files), lent }, { 1, nil, false })
  list, files = model.one_tokenizer { one, two, among = { 2 }, source = 2 }
  check.equal(list[1], false)
  same(list[2]:tensor(embed):load(), two[embed]:load())
  check.equal(files["tokenizer.json"] ~= nil and files["merges.txt"], false)

  -- side files of an earlier call, in the place of those in the folder
  local both, of_both = model.one_tokenizer { one, two }
  local rows = both[1]:info(embed).shape[1]
  both = model.one_tokenizer { both[1], one, files = { of_both } }
  check.equal(both[2]:info(embed).shape[1], rows)
  check.equal(rows > 9, true)

  local out = folder "files"
  files = model.chat_template(one, "{{ x }}", { ["tokenizer.json"] = false, ["tokenizer_config.json"] = '{"chat_template": 1}' })
  one:save(out, { files = files })
  local function text(name)
    local f = io.open(out .. "/" .. name)
    return f and f:read "a"
  end
  check.equal(text "tokenizer.json", nil)
  check.equal(text "tokenizer_config.json", "{}")
  check.equal(text "chat_template.jinja", "{{ x }}")
  local function refused(why, o) check.raises(why, one.save, one, folder "no", { files = o }) end
  refused("'../x' is no side file of a model", { ["../x"] = "" })
  refused("'config.json' is no side file of a model", { ["config.json"] = "" })
  refused("tokenizer.json is a number, expected a text or false", { ["tokenizer.json"] = 1 })
  refused("files is a number, expected a table", 1)

  -- a Unigram vocabulary is a list; tokens of the settings count, and new ones are added there too
  local uni = folder "uni"
  two:save(uni, { files = { ["tokenizer.json"] = '{"added_tokens": [], "model": {"type": "Unigram", "vocab": [["a", 0], ["z", -1.5]]}}',
    ["tokenizer_config.json"] = '{"added_tokens_decoder": {"2": {"content": "<pad>", "special": true}}, "pad_token": "<pad>"}',
    ["tokenizer.model"] = "old" } })
  list, files = model.one_tokenizer { model.open(uni), one }
  local decode = require("json.decode").decode
  local added = decode(files["tokenizer.json"]).added_tokens
  check.equal(files["tokenizer.model"], false)
  check.equal(added[1].content .. added[2].content .. added[3].content, "<pad>bc")
  check.equal(decode(files["tokenizer_config.json"]).added_tokens_decoder["3"].content, "b")
  check.equal(list[2]:info(embed).shape, { 11, 4 })
  same(row(list[1], embed, 3), two[embed]:load()[3]) -- <pad>: its own row
  same(row(list[2], embed, 1), one[embed]:load()[4]) -- a
  same(row(list[2], embed, 2), two[embed]:load()[2]) -- z: lent

  -- members of a text, wherever they stand
  for was, is in pairs { ['{"chat_template":"a,}","b":[1,{}]}'] = '{"b":[1,{}]}',
    ['{"a":{"chat_template":1}, "chat_template" : {"x":["]}"]} }'] = '{"a":{"chat_template":1} }',
    ['{"a":"\\"chat_template","chat_template":null,"c":1}'] = '{"a":"\\"chat_template","c":1}' } do
    check.equal(model.chat_template(one, "{t}", { ["tokenizer_config.json"] = was })["tokenizer_config.json"], is)
  end

  local function wrong(why, o) check.raises(why, model.one_tokenizer, o) end
  wrong("base_llama has no tokenizer", { llama })
  wrong('source = three; expected "union", "base", the number of a model or a folder', { one, source = "three" })
  wrong("base = 3 is no number of a model", { one, base = 3 })
  wrong("among: 2 is no number of a model", { one, among = { 2 } })
  wrong("files is 1, expected a table", { one, files = 1 })
  wrong("multiple_of = 0", { one, multiple_of = 0 })
  wrong("one has no row for '<|im_start|>', which 'a' is to come from", { one, two, tokens = { a = { from = { 1, "<|im_start|>" } } } })
  wrong("the source of 'a' is neither", { one, two, tokens = { a = { from = 3 } } })
  wrong("'a' has force and no source", { one, two, tokens = { a = { force = true } } })
  wrong("token 'd' of one has id 6, but its embedding has rows 0 to 5", { one:resize_vocab(6) })
end

-- ---- a tokenizer without weights; the older form ----

do
  local one, two = model.open "tests/golden/tokenizer/one", model.open "tests/golden/tokenizer/two"
  local decode = require("json.decode").decode
  local function write(path, name, text)
    os.execute("mkdir -p " .. path)
    local f <close> = assert(io.open(path .. "/" .. name, "w"))
    f:write(text)
  end
  local bare = folder "bare"
  for _, name in ipairs { "tokenizer.json", "tokenizer_config.json", "chat_template.jinja" } do
    local f <close> = assert(io.open("tests/golden/tokenizer/two/" .. name))
    write(bare, name, f:read "a")
  end
  local list, files = model.one_tokenizer { one, two, source = bare, base = 1 }
  local same_list, same_files = model.one_tokenizer { one, two, source = 2, base = 1 }
  check.equal(files["tokenizer.json"], same_files["tokenizer.json"])
  local ids = decode(files["tokenizer.json"]).model.vocab
  for token, id in pairs(ids) do
    for k = 1, 2 do same(row(list[k], embed, id + 1), row(same_list[k], embed, id + 1), token) end
  end

  -- vocab.json and merges.txt say the same as tokenizer.json, and are what is written; additions stand beside them
  local old = folder "old"
  local vocab = decode(files["tokenizer.json"])
  local function text(map)
    local words = {}
    for token, id in pairs(map) do words[#words + 1] = ('"%s": %d'):format(token:gsub('[\\"]', "\\%0"), id) end
    table.sort(words)
    return "{" .. table.concat(words, ", ") .. "}"
  end
  local added = {}
  for _, entry in ipairs(vocab.added_tokens) do added[entry.content] = entry.id end
  two:save(old, { files = { ["tokenizer.json"] = false, ["tokenizer_config.json"] = '{"model_max_length": 8}',
    ["vocab.json"] = text(vocab.model.vocab), ["merges.txt"] = "a b\n", ["added_tokens.json"] = text(added) } })
  local third = model.open(old)
  list, files = model.one_tokenizer { one, third, source = 2, base = 1 }
  check.equal({ files["vocab.json"], files["merges.txt"], files["tokenizer.json"] },
    { text(vocab.model.vocab), "a b\n", false })
  same_list = model.one_tokenizer { one, two, source = 2, base = 1 }
  for i = 1, list[1]:info(embed).shape[1] do
    for k = 1, 2 do same(row(list[k], embed, i), row(same_list[k], embed, i), i) end
  end
  list, files = model.one_tokenizer { third, source = "base", tokens = { ["<new>"] = { from = "zero" } } }
  local n = decode(files["added_tokens.json"])["<new>"]
  check.equal(list[1]:info(embed).shape[1], n + 1)
  for token, id in pairs(added) do check.equal(decode(files["added_tokens.json"])[token], id) end
  check.equal(decode(files["tokenizer_config.json"]).added_tokens_decoder[tostring(n)].content, "<new>")
  check.equal(decode(files["tokenizer_config.json"]).model_max_length, 8)
  check.equal({ files["vocab.json"], files["merges.txt"] }, { text(vocab.model.vocab), "a b\n" })

  local function wrong(why, path) check.raises(why, model.one_tokenizer, { one, source = path }) end
  write(folder "broken", "vocab.json", '{"a": -1}')
  wrong("has vocab.json and neither tokenizer.json nor vocab.json with merges.txt", folder "broken")
  write(folder "broken", "merges.txt", "")
  wrong("vocab.json of " .. folder "broken" .. ": a token in it without an id", folder "broken")
  write(folder "broken", "vocab.json", '{"a": 0}')
  write(folder "broken", "added_tokens.json", '{"b": "1"}')
  wrong("added_tokens.json of " .. folder "broken" .. ": an added token without id", folder "broken")
  write(folder "broken", "added_tokens.json", '{"b": 1}')
  write(folder "broken", "special_tokens_map.json", '{"pad_token": {"content": "<pad>"}}')
  wrong("'<pad>' is not in its vocab.json", folder "broken")
  write(folder "pieces", "tokenizer.model", "x")
  wrong("has tokenizer.model and neither tokenizer.json", folder "pieces")
end

-- ---- chat templates by name ----

do
  local one = model.open "tests/golden/tokenizer/one"
  local marks = { alpaca = { "### Instruction:", "### Response:" }, chatml = { "<|im_start|>", "<|im_end|>" },
    exaone = { "[|assistant|]", "[|endofturn|]" }, llama3 = { "bos_token", "<|start_header_id|>", "<|eot_id|>" },
    mistral = { "bos_token", "[INST] ", " [/INST]", "eos_token" } }
  for name, list in pairs(marks) do
    local text = model.chat_template(one, name)["chat_template.jinja"]
    for _, mark in ipairs(list) do assert(text:find(mark, 1, true), name .. " lacks " .. mark) end
    local open = { ["for"] = 0, ["if"] = 0 }
    for word in text:gmatch "{%%%-? *(%a+)" do
      local of = word:match "^end(%a+)$"
      if of then open[of] = open[of] - 1 elseif open[word] then open[word] = open[word] + 1 end
    end
    check.equal(open, { ["for"] = 0, ["if"] = 0 })
    assert(text:find "messages" and not text:find "[^-]%%}" and not text:find "{%%[^-]", name)
  end
  check.raises("'chatmll' is neither a template (it has no brace) nor one of alpaca, chatml, exaone, llama3, mistral; "
    .. "did you mean 'chatml'?", model.chat_template, one, "chatmll")
end
