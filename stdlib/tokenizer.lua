-- SPDX-License-Identifier: Apache-2.0
-- Models with different tokenizers brought to one: what tokenizer.json (or vocab.json, its older form) and
-- tokenizer_config.json beside the weights say of tokens becomes maps of ids for model.token_union, and the files of
-- the result's tokenizer are those of one of them with tokens added. Nothing else in the files is touched: they are
-- edited as texts.
return function(define, check, raise, kind)
  local expect = require "expect"(kind, raise)
  local json, decode = require "json", require("json.decode").decode
  local text_file, templates = require "text_file", require "chat.templates"

  -- All files of a tokenizer; the second list says the same as tokenizer.json in older forms, and would be wrong once
  -- tokens are added.
  local of_tokenizer = { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja" }
  local older = { "tokenizer.model", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model" }

  local function fail(message, ...) error("model.one_tokenizer: " .. message:format(...), 0) end

  -- m: a model, or the path of a folder with a tokenizer and no weights.
  local function label_of(m) return type(m) == "string" and m or m:label() end

  -- files: side files that stand in the place of those in the folder, false for none.
  local function beside(m, name, files)
    if files and files[name] ~= nil then return files[name] or nil end
    local folder = type(m) == "string" and m or m:folder()
    return folder and text_file(folder .. "/" .. name, true)
  end

  -- ---- members of a JSON object, as places in its text ----

  local function behind_text(s, at) -- at: behind the opening quote
    while true do
      at = s:find('["\\]', at)
      if not at then return #s + 1 end
      if s:sub(at, at) == '"' then return at + 1 end
      at = at + 2
    end
  end

  -- Where member `key` of the object s begins, and where its value begins and ends; the text is good JSON.
  local function member(s, key)
    local depth, at = 0, 1
    local start, value
    while true do
      at = s:find('["{}%[%],]', at)
      if not at then return nil end
      local c = s:sub(at, at)
      if value and at >= value and depth == 1 and (c == "," or c == "}") then
        local to = at - 1
        while s:find("^%s", to) do to = to - 1 end
        return start, value, to
      end
      if c == '"' then
        local stop = behind_text(s, at + 1)
        local colon = depth == 1 and not value and s:match("^%s*:%s*()", stop)
        if colon and s:sub(at + 1, stop - 2) == key then start, value = at, colon end
        at = stop
      else
        if c == "{" or c == "[" then depth = depth + 1 elseif c ~= "," then depth = depth - 1 end
        at = at + 1
      end
    end
  end

  local function replaced(s, key, value)
    local _, from, to = member(s, key)
    if from then return s:sub(1, from - 1) .. value .. s:sub(to + 1) end
    local empty = s:find "^%s*{%s*}"
    local first = ('"%s": %s%s'):format(key, value, empty and "" or ",")
    return (s:gsub("^%s*{", function(open) return open .. first end, 1))
  end

  local function without(s, key)
    local start, _, to = member(s, key)
    if not start then return s end
    local before, after = s:sub(1, start - 1), s:sub(to + 1)
    if after:find "^%s*," then return before .. after:gsub("^%s*,%s*", "", 1) end
    return before:gsub(",%s*$", "", 1) .. after
  end

  -- ---- what a model's tokenizer says ----

  local function rows_of(m)
    local rows = 0
    for _, name in ipairs(m:names()) do
      local info = m:info(name)
      if info.place == "embed" and #info.shape == 2 then rows = math.max(rows, info.shape[1]) end
    end
    if rows == 0 then fail("%s: no embedding of tokens is known among its names", m:label()) end
    return rows
  end

  local flags = { "single_word", "lstrip", "rstrip", "normalized", "special" }

  local function parsed(m, name, text)
    local ok, r = pcall(decode, text)
    if not ok then fail("%s of %s: %s", name, label_of(m), r) end
    if type(r) ~= "table" then fail("%s of %s holds no object", name, label_of(m)) end
    return r
  end

  local function add(v, entry, where)
    local id = type(entry) == "table" and entry.id
    if math.type(id) ~= "integer" or id < 0 or type(entry.content) ~= "string" then
      fail("%s of %s: an added token without id and content", where, v.label)
    end
    if v.added[entry.content] then return end
    v.added[entry.content] = entry
    v.ids[entry.content] = id
  end

  -- A special token that only the settings know has a row that nothing tells.
  local function check_special(v, settings)
    local function known(key, token)
      local content = type(token) == "table" and token.content or token
      if type(content) == "string" and not v.ids[content] then
        fail("%s of %s: '%s' is not in its %s, so it has no id; load and save the tokenizer once with "
          .. "transformers, which writes it there", key, v.label, content, v.file)
      end
    end
    for key, token in pairs(settings) do
      if type(key) == "string" and key:find "_token$" then known(key, token) end
    end
    local more = settings.additional_special_tokens
    for _, token in ipairs(type(more) == "table" and more or {}) do known("additional_special_tokens", token) end
  end

  local function add_vocabulary(v, list)
    for key, x in pairs(list) do
      local token, id = key, x
      if math.type(key) == "integer" then -- Unigram: a list of {token, score}
        token, id = type(x) == "table" and x[1], key - 1
      end
      if type(token) ~= "string" or math.type(id) ~= "integer" or id < 0 then
        fail("%s of %s: a token in %s without an id", v.file, v.label, v.file == "vocab.json" and "it" or "model.vocab")
      end
      v.ids[token], v.plain[token] = id, true
    end
  end

  local function read_tokenizer_json(v)
    local root = parsed(v.model, v.file, v.text)
    local list = type(root.model) == "table" and root.model.vocab
    if type(list) ~= "table" then fail("tokenizer.json of %s has no model.vocab", v.label) end
    add_vocabulary(v, list)
    for _, entry in ipairs(type(root.added_tokens) == "table" and root.added_tokens or {}) do
      add(v, entry, "tokenizer.json")
    end
  end

  -- The older form of byte-pair tokenizers. added_tokens.json has ids alone: flags are in the settings, so they go
  -- first.
  local function read_vocab_json(v, settings)
    add_vocabulary(v, parsed(v.model, v.file, v.text))
    local text = beside(v.model, "special_tokens_map.json", v.files)
    local map = text and parsed(v.model, "special_tokens_map.json", text) or {}
    local special = {}
    for _, list in ipairs { settings, map } do
      for key, token in pairs(list) do
        local several = key == "additional_special_tokens" and token
          or type(key) == "string" and key:find "_token$" and { token }
        for _, t in ipairs(type(several) == "table" and several or {}) do
          special[type(t) == "table" and t.content or t] = true
        end
      end
    end
    text = beside(v.model, "added_tokens.json", v.files)
    for token, id in pairs(text and parsed(v.model, "added_tokens.json", text) or {}) do
      add(v, { id = id, content = token, single_word = false, lstrip = false, rstrip = false, normalized = false,
        special = special[token] or false }, "added_tokens.json")
    end
    return map
  end

  -- The text that holds the tokens, and its name.
  local function tokens_file(m, files)
    local text = beside(m, "tokenizer.json", files)
    if text then return text, "tokenizer.json" end
    text = beside(m, "merges.txt", files) and beside(m, "vocab.json", files)
    if text then return text, "vocab.json" end
    for _, name in ipairs(older) do
      if beside(m, name, files) then
        fail("%s has %s and neither tokenizer.json nor vocab.json with merges.txt; load and save its tokenizer once "
          .. "with transformers", label_of(m), name)
      end
    end
  end

  -- {model, files, label, file, text, ids = {token = id}, plain = {token = true}, added = {token = entry}, rows (of a
  -- model), settings}, or nil where there is no tokenizer at all.
  local function vocabulary(m, files)
    local text, file = tokens_file(m, files)
    if not text then return nil end
    local v = { model = m, files = files, label = label_of(m), file = file, text = text, ids = {}, plain = {},
      added = {}, settings = beside(m, "tokenizer_config.json", files) }
    local settings, map = v.settings and parsed(m, "tokenizer_config.json", v.settings) or {}, nil
    if file == "tokenizer.json" then read_tokenizer_json(v) end
    local more = settings.added_tokens_decoder
    for id, entry in pairs(type(more) == "table" and more or {}) do
      if type(entry) == "table" then
        entry.id = math.tointeger(tonumber(id))
        add(v, entry, "tokenizer_config.json")
      end
    end
    if file == "vocab.json" then map = read_vocab_json(v, settings) end
    check_special(v, settings)
    if map then check_special(v, map) end
    v.rows = type(m) ~= "string" and rows_of(m) or nil
    return v
  end

  -- The tokens of v with a row, in the order of their ids.
  local function in_order(v)
    local list = {}
    for token, id in pairs(v.ids) do
      if id < v.rows then list[#list + 1] = token end
    end
    table.sort(list, function(a, b)
      if v.ids[a] ~= v.ids[b] then return v.ids[a] < v.ids[b] end
      return a < b
    end)
    return list
  end

  -- ---- the tokenizer of the result ----

  -- {ids, added, n (ids 0 … n - 1), changed, of = the vocabulary whose files it has}
  local function begun(of, strip)
    local out, lost = { of = of, ids = {}, added = {}, n = 0 }, nil
    for token, id in pairs(of.ids) do
      if strip and id >= of.rows then
        if of.plain[token] and (not lost or id < of.ids[lost]) then lost = token end
        out.changed = true
      else
        out.ids[token], out.added[token], out.n = id, of.added[token], math.max(out.n, id + 1)
      end
    end
    if lost then
      fail("token '%s' of %s has id %d, but its embedding has rows 0 to %d", lost, of.label, of.ids[lost], of.rows - 1)
    end
    return out
  end

  local function append(out, token, entry)
    local id = out.ids[token]
    if id and (not entry or out.added[token]) then return end
    if not id then
      id = out.n
      out.n = id + 1
    end
    local new = { id = id, content = token, single_word = false, lstrip = false, rstrip = false, normalized = true,
      special = false }
    for _, flag in ipairs(flags) do
      if entry and entry[flag] ~= nil then new[flag] = entry[flag] end
    end
    out.ids[token], out.added[token], out.changed = id, new, true
  end

  local function union(out, vocabularies)
    for _, added in ipairs { false, true } do
      for _, v in ipairs(vocabularies) do
        for _, token in ipairs(v == out.of and {} or in_order(v)) do
          if added == (v.added[token] ~= nil) then append(out, token, v.added[token]) end
        end
      end
    end
  end

  local function added_list(out)
    local list = {}
    for _, entry in pairs(out.added) do list[#list + 1] = entry end
    table.sort(list, function(a, b) return a.id < b.id end)
    return list
  end

  local function lines(open, list, indent, close)
    return #list == 0 and open .. close or open .. "\n" .. table.concat(list, ",\n") .. "\n" .. indent .. close
  end

  -- The files that say which tokens are added.
  local function write_added(files, out)
    local of, entries, settings, ids = out.of, {}, {}, {}
    for i, entry in ipairs(added_list(out)) do
      entries[i] = "    " .. json.encode(json.pick(entry, { "id", "content", table.unpack(flags) }))
      settings[i] = ('    "%d": %s'):format(entry.id, json.encode(json.pick(entry, { "content", table.unpack(flags) })))
      ids[i] = ("  %s: %d"):format(json.encode(entry.content), entry.id)
    end
    if of.file == "tokenizer.json" then
      files["tokenizer.json"] = replaced(of.text, "added_tokens", lines("[", entries, "  ", "]"))
    else
      files["vocab.json"], files["merges.txt"] = of.text, beside(of.model, "merges.txt", of.files)
      files["added_tokens.json"] = lines("{", ids, "", "}") .. "\n"
    end
    if of.settings and (of.file ~= "tokenizer.json" or member(of.settings, "added_tokens_decoder")) then
      files["tokenizer_config.json"] = replaced(of.settings, "added_tokens_decoder", lines("{", settings, "  ", "}"))
    end
  end

  -- The texts of its files; `carried`: whose files go with the result anyway.
  local function files_of(out, carried)
    local files, of = {}, out.of
    if not out.changed and of.model == carried and not of.files then return files end
    for _, name in ipairs(of_tokenizer) do files[name] = beside(of.model, name, of.files) or false end
    for _, name in ipairs(older) do files[name] = not out.changed and beside(of.model, name, of.files) or false end
    if out.changed then write_added(files, out) end
    return files
  end

  -- ---- rows ----

  -- {[old] = new} of a model, whether every row stays where it is, and whether the model lacks a token.
  local function map_of(v, out)
    local ids, same, lacks = {}, v.rows == out.n, false
    for token, new in pairs(out.ids) do
      local old = v.ids[token]
      if old and old < v.rows then
        if ids[old] and ids[old] ~= new then
          fail("two tokens of %s have the id %d", v.label, old)
        end
        ids[old], same = new, same and old == new
      else
        same = false
        lacks = true
      end
    end
    return ids, same, lacks
  end

  local function source_of(token, said, vocabularies)
    local from = expect.one("model.one_tokenizer", "tokens: " .. tostring(token), said, "a table").from
    if from == nil then
      if said.force then fail("tokens: '%s' has force and no source", token) end
      return nil
    end
    if from == "zero" then return false end
    local k, which = from, token
    if type(from) == "table" then k, which = from[1], from[2] end
    local v = vocabularies[k]
    if not v or type(which) ~= "string" and math.type(which) ~= "integer" then
      fail("tokens: the source of '%s' is neither \"zero\", the number of a model, nor {number, token or id}", token)
    end
    local id = type(which) == "string" and v.ids[which] or math.tointeger(which)
    if not id or id < 0 or id >= v.rows then
      fail("tokens: %s has no row for '%s', which '%s' is to come from", v.label, which, token)
    end
    return { k, id }
  end

  -- The vocabularies of the models, by number, and that of the base (or first) model, which the others without a
  -- tokenizer are taken to have.
  local function vocabularies_of(o)
    local first = o.base or 1
    if not o[first] then fail("base = %s is no number of a model", tostring(first)) end
    local files = o.files or {}
    local list, base = {}, vocabulary(o[first], files[first]) or fail("%s has no tokenizer", o[first]:label())
    for k, m in ipairs(o) do
      list[k] = k == first and base or vocabulary(m, files[k])
      if not list[k] then
        list[k] = setmetatable({ model = m, label = m:label(), rows = rows_of(m) }, { __index = base })
        warn(("%s has no tokenizer; it is taken to be that of %s"):format(m:label(), base.label))
      end
    end
    return list, base
  end

  local function tokenizer_of(o, vocabularies, base)
    local source = o.source or "union"
    local grown = source == "union" or source == "base"
    local of = grown and base or vocabularies[source] or type(source) == "string" and vocabulary(source)
    if not of then
      fail("source = %s; expected \"union\", \"base\", the number of a model or a folder with a tokenizer",
        tostring(source))
    end
    local out = begun(of, grown)
    if source == "union" then union(out, vocabularies) end
    return out
  end

  -- The options sources and force of model.token_union; adds tokens that are not there.
  local function sources_of(o, out, vocabularies)
    local names, sources, force = {}, {}, {}
    for token in pairs(o.tokens or {}) do names[#names + 1] = token end
    table.sort(names)
    for _, token in ipairs(names) do append(out, token) end
    for _, token in ipairs(names) do
      local said, id = o.tokens[token], out.ids[token]
      sources[id], force[id] = source_of(token, said, vocabularies), said.force or nil
    end
    return sources, force, #names > 0
  end

  -- A tokenizer that belongs to none of the models may have tokens that none of them knows.
  local function check_known(out, vocabularies, sources)
    local n, first = 0, nil
    for token, id in pairs(out.ids) do
      local known = sources[id] ~= nil
      for _, v in ipairs(vocabularies) do known = known or v.ids[token] ~= nil and v.ids[token] < v.rows end
      if not known then n, first = n + 1, first and first < token and first or token end
    end
    if n > 0 then
      warn(("%d tokens of %s are in none of the models ('%s' …); their rows are zero"):format(n, out.of.label, first))
    end
  end

  local function among_of(o)
    local there = {}
    for k in ipairs(o) do there[k] = not o.among end
    for _, k in ipairs(o.among or {}) do
      if there[k] == nil then fail("among: %s is no number of a model", tostring(k)) end
      there[k] = true
    end
    return there
  end

  local function one_tokenizer(o)
    expect.one("model.one_tokenizer", nil, o, "a table")
    check("model.one_tokenizer", o, { "source", "base", "tokens", "multiple_of", "among", "files" }, true)
    expect("model.one_tokenizer", o, { files = "a table", tokens = "a table", among = "a table" })
    for k = 1, #o do expect.one("model.one_tokenizer", "model " .. k, o[k], "a model") end
    local multiple, there = o.multiple_of or 1, among_of(o)
    if math.type(multiple) ~= "integer" or multiple < 1 then fail("multiple_of = %s", tostring(multiple)) end
    local vocabularies, base = vocabularies_of(o)
    local out = tokenizer_of(o, vocabularies, base)
    local sources, force, moved = sources_of(o, out, vocabularies)
    if type(o.source) == "string" and out.of ~= base then check_known(out, vocabularies, sources) end
    local lent = moved
    local call = { base = o.base, rows = out.n, fill = "zero", ids = {}, sources = sources, force = force }
    for k, m in ipairs(o) do
      local ids, same, lacks = map_of(vocabularies[k], out)
      call[k], call.ids[k] = m, there[k] and ids or {}
      moved, lent = moved or not same, lent or lacks
    end
    local list = moved and model.token_union(call) or { table.unpack(o) }
    local rows = (out.n + multiple - 1) // multiple * multiple
    for k, m in ipairs(list) do list[k] = there[k] and (rows > out.n and m:resize_vocab(rows) or m) end
    return list, files_of(out, not moved and o[o.base or 1] or nil), lent
  end

  define("model.one_tokenizer", "model.one_tokenizer { m, m, …, source = \"union\", base =, tokens =, multiple_of =, "
    .. "among =, files = } -> {model, …}, files, lent",
    "Models with different tokenizers brought to one, so that they can be merged: rows of embeddings and heads move to "
      .. "where its tokens are. Tokens are read from tokenizer.json, or from vocab.json where merges.txt is too (and "
      .. "added_tokens.json), and from tokenizer_config.json, beside the weights. A token that a model lacks takes the "
      .. "row of the only model that has it, else of the base, else the mean over the models that have it; what none "
      .. "has is zero. files are the tokenizer's of the result, for m:save(path, { files = files }); lent says whether "
      .. "some model lacked a token.\n"
      .. "  source: \"union\": the tokens of the base (or first) model, then what the others have besides, in the "
      .. "order of models and ids, the added ones last; \"base\": the base's tokenizer; a number: that model's; "
      .. "any other text: the tokenizer in that folder, which needs no weights\n"
      .. "  base: number of the model that lends rows first, and whose tokenizer is extended; without it the first is "
      .. "extended and none lends first\n"
      .. "  tokens: {[\"<token>\"] = {from = …, force = true}, …}: adds the token if need be; from: the number of a "
      .. "model, {number, token or id}, or \"zero\": the row for models that lack it, with force for all\n"
      .. "  multiple_of: rows are added up to a multiple of this, each the mean of all\n"
      .. "  among: {number, …} of the models that are wanted and lend rows (default: all); the others are false in the "
      .. "list\n"
      .. "  files: {[number of a model] = files, …}: its side files where those of its folder are not meant, as an "
      .. "earlier call gave them\n"
      .. "What ids leave open is an error: tokenizers without these files, tokens that only the settings name.",
    [[
local m = model.open "tests/golden/tokenizer/one"
local list, files = model.one_tokenizer { m, model.open "tests/golden/tokenizer/two", base = 1 }
print(m["model.embed_tokens.weight"].shape[1], list[1]["model.embed_tokens.weight"].shape[1])
-- > 12	12]], one_tokenizer)

  define("model.chat_template", "model.chat_template(m, template, files) -> files",
    "The side files that give what is saved with those of m another chat template: chat_template.jinja, and a "
      .. "tokenizer_config.json without one. For m:save(path, { files = … }). template: Jinja, or the name of a "
      .. "published format: \"alpaca\", \"chatml\", \"exaone\", \"llama3\", \"mistral\". files: what "
      .. "model.one_tokenizer gave.",
    [[
local m = model.open "tests/golden/tokenizer/one"
print(model.chat_template(m, "{{ messages[0].content }}")["chat_template.jinja"])
-- > {{ messages[0].content }}]],
    function(m, template, files)
      expect.one("model.chat_template", nil, m, "a model")
      expect.one("model.chat_template", "the template", template, "a text")
      expect("model.chat_template", { files = files }, { files = "a table" })
      local text, wrong = templates.text(template)
      if not text then error("model.chat_template: " .. wrong, 0) end
      local out = {}
      for name, said in pairs(files or {}) do out[name] = said end
      local settings = out["tokenizer_config.json"]
      if settings == nil then settings = beside(m, "tokenizer_config.json") end
      if settings and member(settings, "chat_template") then
        out["tokenizer_config.json"] = without(settings, "chat_template")
      end
      out["chat_template.jinja"], out["chat_template.json"] = text, false
      return out
    end)
end
