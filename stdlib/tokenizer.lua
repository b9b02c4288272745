-- SPDX-License-Identifier: Apache-2.0
-- Models with different tokenizers brought to one: what tokenizer.json and tokenizer_config.json beside the weights say
-- of tokens becomes maps of ids for model.token_union, and the files of the result's tokenizer are those of one model
-- with tokens added. Nothing else in the files is touched: they are edited as texts.
return function(define, check)
  local json, decode = require "json", require("json.decode").decode
  local text_file = require "text_file"

  -- All files of a tokenizer; the second list says the same as tokenizer.json in older forms, and would be wrong once
  -- tokens are added.
  local of_tokenizer = { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja" }
  local older = { "tokenizer.model", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model" }

  local function fail(message, ...) error("model.one_tokenizer: " .. message:format(...), 0) end

  local function beside(m, name)
    local folder = m:folder()
    local path = folder and folder .. "/" .. name
    local file = path and io.open(path, "rb")
    if not file then return nil end
    file:close()
    return text_file(path)
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
    if not ok then fail("%s of %s: %s", name, m:label(), r) end
    if type(r) ~= "table" then fail("%s of %s holds no object", name, m:label()) end
    return r
  end

  local function add(v, entry, where)
    local id = entry.id
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
        fail("%s of %s: '%s' is not in its tokenizer.json, so it has no id; load and save the tokenizer once with "
          .. "transformers, which writes it there", key, v.label, content)
      end
    end
    for key, token in pairs(settings) do
      if type(key) == "string" and key:find "_token$" then known(key, token) end
    end
    local more = settings.additional_special_tokens
    for _, token in ipairs(type(more) == "table" and more or {}) do known("additional_special_tokens", token) end
  end

  -- {label, ids = {token = id}, plain = {token = true}, added = {token = entry}, rows, text, settings}, or nil where
  -- a model has no tokenizer at all.
  local function vocabulary(m)
    local text = beside(m, "tokenizer.json")
    if not text then
      for _, name in ipairs(older) do
        if beside(m, name) then
          fail("%s has %s and no tokenizer.json; load and save its tokenizer once with transformers", m:label(), name)
        end
      end
      return nil
    end
    local v = { model = m, label = m:label(), ids = {}, plain = {}, added = {}, rows = rows_of(m), text = text,
      settings = beside(m, "tokenizer_config.json") }
    local root = parsed(m, "tokenizer.json", text)
    local list = type(root.model) == "table" and root.model.vocab
    if type(list) ~= "table" then fail("tokenizer.json of %s has no model.vocab", m:label()) end
    for key, x in pairs(list) do
      local token, id = key, x
      if math.type(key) == "integer" then -- Unigram: a list of {token, score}
        token, id = type(x) == "table" and x[1], key - 1
      end
      if type(token) ~= "string" or math.type(id) ~= "integer" or id < 0 then
        fail("tokenizer.json of %s: a token in model.vocab without an id", m:label())
      end
      v.ids[token], v.plain[token] = id, true
    end
    for _, entry in ipairs(type(root.added_tokens) == "table" and root.added_tokens or {}) do
      add(v, entry, "tokenizer.json")
    end
    local settings = v.settings and parsed(m, "tokenizer_config.json", v.settings) or {}
    local more = settings.added_tokens_decoder
    for id, entry in pairs(type(more) == "table" and more or {}) do
      if type(entry) == "table" then
        entry.id = math.tointeger(tonumber(id))
        add(v, entry, "tokenizer_config.json")
      end
    end
    check_special(v, settings)
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

  -- The texts of its files; `carried`: whose files go with the result anyway.
  local function files_of(out, carried)
    local files, of = {}, out.of
    if not out.changed and of.model == carried then return files end
    for _, name in ipairs(of_tokenizer) do files[name] = beside(of.model, name) or false end
    for _, name in ipairs(older) do files[name] = not out.changed and beside(of.model, name) or false end
    if not out.changed then return files end
    local entries, settings = {}, {}
    for i, entry in ipairs(added_list(out)) do
      entries[i] = "    " .. json.encode(json.pick(entry, { "id", "content", table.unpack(flags) }))
      settings[i] = ('    "%d": %s'):format(entry.id, json.encode(json.pick(entry, { "content", table.unpack(flags) })))
    end
    local function lines(open, list, close)
      return #list == 0 and open .. close or open .. "\n" .. table.concat(list, ",\n") .. "\n  " .. close
    end
    files["tokenizer.json"] = replaced(of.text, "added_tokens", lines("[", entries, "]"))
    if of.settings and member(of.settings, "added_tokens_decoder") then
      files["tokenizer_config.json"] = replaced(of.settings, "added_tokens_decoder", lines("{", settings, "}"))
    end
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
    local from = said.from
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
    local list, base = {}, vocabulary(o[first]) or fail("%s has no tokenizer.json", o[first]:label())
    for k, m in ipairs(o) do
      list[k] = k == first and base or vocabulary(m)
      if not list[k] then
        list[k] = setmetatable({ model = m, label = m:label(), rows = rows_of(m) }, { __index = base })
        warn(("%s has no tokenizer; it is taken to be that of %s"):format(m:label(), base.label))
      end
    end
    return list, base
  end

  local function tokenizer_of(o, vocabularies, base)
    local source = o.source or "union"
    local of = (source == "union" or source == "base") and base or vocabularies[source]
    if not of then fail("source = %s; expected \"union\", \"base\" or the number of a model", tostring(source)) end
    local out = begun(of, type(source) == "string")
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
    check("model.one_tokenizer", o, { "source", "base", "tokens", "multiple_of", "among" }, true)
    local multiple, there = o.multiple_of or 1, among_of(o)
    if math.type(multiple) ~= "integer" or multiple < 1 then fail("multiple_of = %s", tostring(multiple)) end
    local vocabularies, base = vocabularies_of(o)
    local out = tokenizer_of(o, vocabularies, base)
    local sources, force, moved = sources_of(o, out, vocabularies)
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
    .. "among = } -> {model, …}, files, lent",
    "Models with different tokenizers brought to one, so that they can be merged: rows of embeddings and heads move to "
      .. "where its tokens are. Tokens are read from tokenizer.json (and tokenizer_config.json) beside the weights. A "
      .. "token that a model lacks takes the row of the only model that has it, else of the base, else the mean over "
      .. "the models that have it; what none has is zero. files are the tokenizer's of the result, for "
      .. "m:save(path, { files = files }); lent says whether some model lacked a token.\n"
      .. "  source: \"union\": the tokens of the base (or first) model, then what the others have besides, in the "
      .. "order of models and ids, the added ones last; \"base\": the base's tokenizer; a number: that model's\n"
      .. "  base: number of the model that lends rows first, and whose tokenizer is extended; without it the first is "
      .. "extended and none lends first\n"
      .. "  tokens: {[\"<token>\"] = {from = …, force = true}, …}: adds the token if need be; from: the number of a "
      .. "model, {number, token or id}, or \"zero\": the row for models that lack it, with force for all\n"
      .. "  multiple_of: rows are added up to a multiple of this, each the mean of all\n"
      .. "  among: {number, …} of the models that are wanted and lend rows (default: all); the others are false in the "
      .. "list\n"
      .. "What ids leave open is an error: tokenizers without tokenizer.json, tokens that only the settings name.",
    [[
local m = model.open "tests/golden/tokenizer/one"
local list, files = model.one_tokenizer { m, model.open "tests/golden/tokenizer/two", base = 1 }
print(m["model.embed_tokens.weight"].shape[1], list[1]["model.embed_tokens.weight"].shape[1])
-- > 12	12]], one_tokenizer)

  define("model.chat_template", "model.chat_template(m, text, files) -> files",
    "The side files that give what is saved with those of m another chat template: chat_template.jinja, and a "
      .. "tokenizer_config.json without one. For m:save(path, { files = … }). files: what model.one_tokenizer gave.",
    [[
local m = model.open "tests/golden/tokenizer/one"
print(model.chat_template(m, "{{ messages[0].content }}")["chat_template.jinja"])
-- > {{ messages[0].content }}]],
    function(m, template, files)
      local out = {}
      for name, text in pairs(files or {}) do out[name] = text end
      local settings = out["tokenizer_config.json"]
      if settings == nil then settings = beside(m, "tokenizer_config.json") end
      if settings and member(settings, "chat_template") then
        out["tokenizer_config.json"] = without(settings, "chat_template")
      end
      out["chat_template.jinja"], out["chat_template.json"] = template, false
      return out
    end)
end
