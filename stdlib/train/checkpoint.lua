-- SPDX-License-Identifier: Apache-2.0
-- The state of a run as one model, in memory or in a safetensors file that is replaced as a whole: weights under
-- theta., the optimiser's tensors under state., those of averages under average., the best weights so far under best.,
-- losses and rates of every step, and the rest, plain values, as the bytes of a JSON text. Several such states are one
-- file too, which is written at once, so that all are of the same step.
return function(core)
  local bytes = require "bytes"
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
  function checkpoint.pack(run)
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
    parts.plain = bytes.of(journal.text(run.plain))
    return model.new(parts)
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

  -- path: or what pack gave.
  function checkpoint.read(path)
    local m = type(path) == "string" and model.load(path) or path
    local names = {}
    for _, name in ipairs(m:names()) do names[name] = true end
    if not names.plain then error(("train.fit: %s is no checkpoint of train.fit"):format(tostring(path)), 0) end
    local best, any = with_prefix(m, "best.")
    local run = { theta = with_prefix(m, "theta."), state = nested(with_prefix(m, "state.")),
      averages = nested(with_prefix(m, "average.")),
      best = any and best or nil, plain = decode(bytes.text(m:tensor "plain")), log = { losses = {}, rates = {} } }
    if names["log.losses"] then
      run.log.losses, run.log.rates = m:tensor("log.losses"):totable(), m:tensor("log.rates"):totable()
    end
    return run
  end

  -- ---- several runs as one ----

  -- States under 1., 2., …, and plain values of the whole.
  function checkpoint.join(states, plain)
    local parts = { members = bytes.of(journal.text(plain)) }
    for i, m in ipairs(states) do
      for _, name in ipairs(m:names()) do parts[("%d.%s"):format(i, name)] = m:tensor(name) end
    end
    return model.new(parts)
  end

  -- The models that join was given, and the plain values.
  function checkpoint.split(path, what)
    local m, parts, states = model.load(path), {}, {}
    for _, name in ipairs(m:names()) do
      local i, rest = name:match "^(%d+)%.(.*)$"
      i = math.tointeger(i)
      if i then
        parts[i] = parts[i] or {}
        parts[i][rest] = m:tensor(name)
      elseif name == "members" then
        parts.plain = decode(bytes.text(m:tensor(name)))
      end
    end
    if not parts.plain then error(("%s: %s is no checkpoint of it"):format(what, path), 0) end
    for i, part in ipairs(parts) do states[i] = model.new(part) end
    return states, parts.plain
  end

  -- The options checkpoint and resume, checked; unit: what `every` counts.
  function checkpoint.options(what, o, check, unit)
    local c = o.checkpoint
    if type(c) == "string" then c = { path = c } end
    if c ~= nil and (core.kind(c) ~= "table" or type(c.path) ~= "string" or not c.path:find "%.safetensors$") then
      error(("%s: checkpoint is {path = \"….safetensors\", every = %s, keep = folder}"):format(what, unit), 0)
    end
    check(what .. ": checkpoint", c, { "path", "every", "keep" })
    if c and c.every ~= nil and (math.type(c.every) ~= "integer" or c.every < 1) then
      error(("%s: checkpoint.every is a whole number, at least 1, got %s"):format(what, tostring(c.every)), 0)
    end
    if o.resume == true and not c then
      error(what .. ": resume = true goes on from checkpoint.path; there is none", 0)
    end
    if o.resume and o.resume ~= true and type(o.resume) ~= "string" then
      error(("%s: resume is true or the path of a checkpoint, got %s"):format(what, core.kind(o.resume)), 0)
    end
    return c
  end

  -- "run.safetensors" -> "run.3.safetensors"
  function checkpoint.numbered(path, i) return (path:gsub("%.%w+$", "." .. i .. "%0")) end

  function checkpoint.exists(path)
    local file = io.open(path, "rb")
    if file then file:close() end
    return file ~= nil
  end

  return checkpoint
end
