-- SPDX-License-Identifier: Apache-2.0
-- The state of a run in one safetensors file, replaced as a whole: weights under theta., the optimiser's
-- tensors under state., those of averages under average., the best weights so far under best., losses and rates of
-- every step, and the rest, plain values, as the bytes of a JSON text.
return function(core)
  -- A text as bytes and back, in pieces: a call takes and gives so many values and no more.
  local function bytes_of(text)
    local bytes = {}
    for i = 1, #text, 4096 do table.move({ text:byte(i, i + 4095) }, 1, 4096, i, bytes) end
    return bytes
  end

  local function text_of(t)
    local bytes, words = t:totable(), {}
    for i = 1, #bytes, 4096 do
      words[#words + 1] = string.char(table.unpack(bytes, i, math.min(i + 4095, #bytes)))
    end
    return table.concat(words)
  end

  local journal = require "search.journal"
  local decode = require "json.decode".decode
  local checkpoint = {}

  -- {name -> tensor} of nested tables, names joined by "/"; one within a name is written %2F.
  local function flat(x, path, out)
    for key, v in pairs(x) do
      local name = path .. "/" .. key:gsub("%%", "%%25"):gsub("/", "%%2F")
      if type(v) == "table" then flat(v, name, out) else out[name] = v end
    end
    return out
  end

  local function nested(x)
    local out = {}
    for name, t in pairs(x) do
      local at, last = out, nil
      for word in name:gmatch "[^/]+" do
        word = word:gsub("%%2F", "/"):gsub("%%25", "%%")
        if last then
          at[last] = at[last] or {}
          at = at[last]
        end
        last = word
      end
      at[last] = t
    end
    return out
  end

  local function add(parts, prefix, values)
    for name, t in pairs(values) do
      if type(t) ~= "number" then parts[prefix .. name] = t:clone() end -- what a model holds cannot be given away
    end
  end

  -- Keys of tables that have none are lost in nested(); the optimiser's init says which there are.
  function checkpoint.write(path, run)
    local parts = {}
    add(parts, "theta.", run.params)
    add(parts, "theta.", run.buffers)
    add(parts, "state.", flat(run.state, "", {}))
    add(parts, "average.", flat(run.kept, "", {}))
    if run.best then add(parts, "best.", run.best) end
    if #run.log.losses > 0 then
      parts["log.losses"] = tensor(run.log.losses, { dtype = "f64" })
      parts["log.rates"] = tensor(run.log.rates, { dtype = "f64" })
    end
    parts.plain = tensor(bytes_of(journal.text(run.plain)), { dtype = "u8" })
    model.new(parts):save(path, { overwrite = true })
  end

  local function with_prefix(m, prefix)
    local out, any = {}, false
    for _, name in ipairs(m:names()) do
      if name:sub(1, #prefix) == prefix then
        out[name:sub(#prefix + 1)], any = m:tensor(name):clone(), true
      end
    end
    return out, any
  end

  function checkpoint.read(path)
    local m = model.load(path)
    local names = {}
    for _, name in ipairs(m:names()) do names[name] = true end
    if not names.plain then error(("train.fit: %s is no checkpoint of train.fit"):format(path), 0) end
    local best, any = with_prefix(m, "best.")
    local run = { theta = with_prefix(m, "theta."), state = nested(with_prefix(m, "state.")),
      averages = nested(with_prefix(m, "average.")),
      best = any and best or nil, plain = decode(text_of(m:tensor "plain")), log = { losses = {}, rates = {} } }
    if names["log.losses"] then
      run.log.losses, run.log.rates = m:tensor("log.losses"):totable(), m:tensor("log.rates"):totable()
    end
    return run
  end

  function checkpoint.exists(path)
    local file = io.open(path, "rb")
    if file then file:close() end
    return file ~= nil
  end

  return checkpoint
end
