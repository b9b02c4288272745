-- SPDX-License-Identifier: Apache-2.0
-- What a long probe has done, in a file, so that a run that was stopped goes on and ends with the bytes of one that was
-- not. A probe is a sequence of named steps. A step that is done is one line of the journal, with its tensors in a file
-- beside it. A step that is a long loop (the Lanczos process, training) also keeps the state between two of its turns,
-- in one file that is replaced as a whole: every half minute, and when a stop comes, which waits for the turn's end.
-- The first line says what the run was made of; another run's journal is refused.
return function(core)
  local lines = require "search.journal"
  local bytes = require "bytes"
  local decode = require "json.decode".decode
  local net_of = require "nn.net"
  local journal = {}

  local PERIOD = 30 -- seconds between two writings of a state
  local LONG = 1024 -- a list of so many floats is a tensor

  -- ---- which run it is ----

  local function contents(t)
    local ok, text = pcall(core.fingerprint, t)
    return ok and text or core.fingerprint(t:clone()) -- a view
  end

  local describe

  local function plain(t, depth)
    local keys, out = {}, {}
    for key in pairs(t) do
      if type(key) == "string" or type(key) == "number" then keys[#keys + 1] = key end
    end
    table.sort(keys, function(x, y)
      if type(x) ~= type(y) then return type(x) == "number" end
      return x < y
    end)
    for i, key in ipairs(keys) do out[i] = ("%s=%s"):format(key, describe(t[key], depth + 1)) end
    return "{" .. table.concat(out, ",") .. "}"
  end

  -- What a network makes of one batch, since a summary does not tell an epsilon or the base of rotations: of its own
  -- random weights, in training, so that momenta show too. "" where its input is not known.
  local function behaviour(net)
    local ok, text = pcall(function()
      local shape = { 4, table.unpack(net.input) }
      local x = net.tokens and (tensor.uniform(shape, 1) * 2):to "i64" or tensor.normal(shape, 1)
      local y, state = net(net:init { seed = 1 }, x, { mode = "train", key = 1 })
      local out = { contents(y) }
      for name, t in pairs(state or {}) do out[#out + 1] = name .. contents(t) end
      table.sort(out)
      return " " .. table.concat(out, " ")
    end)
    return ok and text or ""
  end

  -- A text, the same for equal contents: of all that decides a result, but of functions, whose code nobody can tell.
  function describe(v, depth)
    depth = depth or 0
    local kind = core.kind(v)
    if kind == "tensor" or kind == "model" then return kind .. " " .. contents(v) end
    if kind == "number" then return math.type(v) == "integer" and ("%d"):format(v) or ("%a"):format(v) end
    if type(v) ~= "table" then return type(v) == "function" and "function" or tostring(v) end
    if net_of.is(v) then return v:summary() .. behaviour(v) end
    if kind == "loss" then
      return tostring(v) .. plain({ v.net, v.data, v.options, v.size, v.bn, v.key }, depth)
    end
    if rawget(v, "f") and rawget(v, "theta") then return tostring(v) .. plain({ v.f, v.theta, v.size }, depth) end
    if kind == "dataset" then return tostring(v) .. v:digest() end
    if getmetatable(v) ~= nil then -- optimisers, schedules, records
      local own = rawget(v, "options")
      return type(own) == "table" and tostring(v) .. plain(own, depth + 1) or tostring(v)
    end
    return depth < 8 and plain(v, depth) or "{…}"
  end

  journal.describe = describe

  -- Options less those that change no result, in those of train.fit too.
  local silent = { journal = true, log = true, quiet = true }

  local function deciding(options)
    local out = {}
    for key, v in pairs(options) do
      if key == "train" and core.kind(v) == "table" then v = deciding(v) end
      if not silent[key] then out[key] = v end
    end
    return out
  end

  -- ---- values as text and tensors ----

  -- Numbers as hexadecimal floats, texts behind an apostrophe, tensors by their number in the list.
  local function encoded(v, tensors)
    local kind = core.kind(v)
    if kind == "tensor" then
      tensors[#tensors + 1] = v:clone() -- what a model holds cannot be given away
      return "@" .. #tensors
    end
    if math.type(v) == "float" then return ("#%a"):format(v) end
    if type(v) == "string" then return "'" .. v end
    if type(v) ~= "table" then return v end
    local out, count, floats = {}, 0, true
    for _, item in pairs(v) do count, floats = count + 1, floats and math.type(item) == "float" end
    if count == #v and count > 0 then
      if floats and count >= LONG then
        tensors[#tensors + 1] = tensor(v, { dtype = "f64" })
        return "~" .. #tensors
      end
      for i, item in ipairs(v) do out[i] = encoded(item, tensors) end
      return out
    end
    for key, item in pairs(v) do
      out[type(key) == "string" and "'" .. key or ("#%d"):format(key)] = encoded(item, tensors)
    end
    return out
  end

  local special = { inf = math.huge, ["-inf"] = -math.huge, nan = -(0 / 0), ["-nan"] = 0 / 0 }

  local function decoded(v, tensors)
    if type(v) == "string" then
      local mark, rest = v:sub(1, 1), v:sub(2)
      if mark == "'" then return rest end
      if mark == "#" then return special[rest] or tonumber(rest) end
      local t = tensors[rest] or error("a tensor is missing", 0)
      return mark == "~" and t:totable() or t
    end
    if type(v) ~= "table" then return v end
    local out = {}
    for key, item in pairs(v) do
      if type(key) == "string" then key = key:sub(1, 1) == "'" and key:sub(2) or math.tointeger(key:sub(2)) end
      out[key] = decoded(item, tensors)
    end
    return out
  end

  -- The same for values without tensors, for other journals.
  function journal.encoded(v) return encoded(v, {}) end

  function journal.decoded(v) return decoded(v, {}) end

  local function named(tensors)
    local parts = {}
    for i, t in ipairs(tensors) do parts[tostring(i)] = t end
    return parts
  end

  local function tensors_of(path)
    local m, out = model.load(path), {}
    for _, name in ipairs(m:names()) do out[name] = m:tensor(name):clone() end
    return out
  end

  -- A model as what can be kept, and back, in the form of `like`.
  function journal.parts(m)
    local out = {}
    for _, name in ipairs(m:names()) do out[name] = m:tensor(name) end
    return out
  end

  function journal.whole(parts, like) return like and core.with_values(like, parts) or model.new(parts) end

  -- The rows { done =, rows = } of a loop's state put into a tensor; how many they are.
  function journal.restored(loop, t)
    local s = loop.state
    if s then t[{ { 1, s.done }, {} }]:copy_(s.rows) end
    return s and s.done or 0
  end

  -- ---- the journal ----

  local idle = { idle = true, keep = function() end }
  local none = setmetatable({
    keys = function() return {} end,
    kept = function() end,
    put = function() end,
    drop = function() end,
    once = function(_, f) return f() end,
    loop = function(_, f) return f(idle) end,
    follow = function() end,
  }, { __close = function() end })

  journal.none = none

  -- open(what, options, {what the result follows from}, draw) -> a value to be closed:
  --   once(key, f)   the value of f(), or what it was in the run before
  --   keys(), kept(key), put(key, value); drop(key) leaves the key and takes its tensors away: the same by hand
  --   loop(key, f)   the same of a step that keeps its state: f(l), where l.state is the state to go on from, or nil,
  --                  and l.keep(make) is called between two turns; make() -> the state
  -- Values and states are numbers, texts, booleans, tensors and tables of these. options.journal is the path, or
  -- {path =, every = seconds between two writings of a state}; without one nothing is kept. All other options count as
  -- what the run is made of. draw: its progress (probe.progress), which may be given later, by follow(draw).
  function journal.open(what, options, given, draw)
    local path, every = options and options.journal, PERIOD
    if path == nil then return none end
    if core.kind(path) == "table" then path, every = path.path, path.every or PERIOD end
    if type(path) ~= "string" or type(every) ~= "number" then
      error(what .. ": journal is the path of a file, or {path =, every = seconds}", 0)
    end
    local id = core.text_hash(describe { what, deciding(options), given })
    local rows, seen, state_path, holding = lines.read(path), {}, lines.beside(path, "state"), false
    local count = #rows
    if count == 0 then
      lines.append(path, { probe = what, id = id })
      count = 1
    elseif rows[1].id ~= id then
      error(("%s: %s is the journal of another run (other models, data or options)"):format(what, path), 0)
    end
    for k = 2, #rows do seen[lines.text(rows[k].at)] = rows[k] end

    local function note(within)
      local said = ("%d step%s"):format(count - 1, count == 2 and "" or "s")
      core.note(lines.note(draw and draw.said() or said .. (within and " and a part of the next" or ""), path))
    end

    -- The value of a row; nil where its tensors are not whole: then the step is done again.
    local function value_of(row)
      local ok, v = pcall(function()
        return decoded(row.value, row.file and tensors_of(lines.beside(path, row.file)) or {})
      end)
      if ok then return v end
    end

    local function put(key, value)
      local tensors, row = {}, { at = key }
      row.value = encoded(value, tensors)
      count = count + 1
      if #tensors > 0 then
        row.file = count
        model.new(named(tensors)):save(lines.beside(path, count), { overwrite = true })
      end
      lines.append(path, row)
      seen[lines.text(key)] = row
      if not draw then note() end
    end

    local function kept(key)
      local row = seen[lines.text(key)]
      return row and value_of(row)
    end

    local function state_of(key)
      local ok, v = pcall(function()
        local tensors = tensors_of(state_path)
        local plainly = decode(bytes.text(tensors.plain))
        return plainly.id == id and plainly.at == lines.text(key) and { decoded(plainly.value, tensors) } or nil
      end)
      return ok and v and v[1] or nil
    end

    local self = { kept = kept, put = put }

    function self.keys()
      local list = {}
      for k = 2, #rows do list[k - 1] = rows[k].at end
      return list
    end

    function self.drop(key)
      local row = seen[lines.text(key)]
      if row and row.file then os.remove(lines.beside(path, row.file)) end
    end

    function self.follow(its)
      draw = its
      draw.changed = function() return not holding and note() end
    end
    if draw then self.follow(draw) end

    function self.once(key, f)
      local value = kept(key)
      if value == nil then
        value = f()
        put(key, value)
      end
      return value
    end

    function self.loop(key, f)
      local value = kept(key)
      if value ~= nil then return value end
      local run <close>, due, left = core.run(true), core.now() + every, false
      local l = { state = state_of(key) }
      holding = true
      function l.keep(make)
        local stops = core.stopping() and not left
        if not stops and core.now() < due then return end
        local tensors = {}
        local value_now = encoded(make(), tensors)
        local parts = named(tensors)
        parts.plain = bytes.of(lines.text { id = id, at = lines.text(key), value = value_now })
        model.new(parts):save(state_path, { overwrite = true })
        due = core.now() + every
        note(true)
        if stops then
          left = true -- where something else holds the stop, the work goes on
          core.stop(run)
        end
      end
      value = f(l)
      holding = false
      if not left then -- a loop that a stop has cut short has no value to keep
        put(key, value)
        note() -- a stop that came after the last turn is told when `run` closes
      end
      return value
    end

    return setmetatable(self, { __close = function(_, err)
      core.note()
      if err == nil then os.remove(state_path) end
    end })
  end

  return journal
end
