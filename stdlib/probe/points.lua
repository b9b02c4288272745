-- SPDX-License-Identifier: Apache-2.0
-- Evaluating a function of models at many points: what probes of paths, planes and regions share. A loss over a data
-- set keeps its examples ready in memory, so that a point costs little more than the network's products; what stands
-- for batch norm's running statistics is said once; what is done can be kept in a journal.
return function(core)
  local loss = require "nn.loss"
  local journal = require "search.journal"
  local exact = require "probe.journal"(core)
  local points = {}

  -- Examples are kept ready in memory up to so many bytes.
  local READY = 2 ^ 28

  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end

  -- ---- the function ----

  -- The same loss over examples that are ready to be used, with other data for running statistics where given.
  local function ready(f, bn)
    local data = f.data
    if type(data.batch) == "function" and data.x:numel() * 4 <= READY then
      local ok, all = pcall(data.batch, data, 1, data.x.shape[1])
      if ok then data = { x = all.x, y = all.y } end -- else there is no room: chunk by chunk, as before
    end
    local o = f.options
    return loss.new(f.net, data, { loss = o.loss, mode = o.mode, label_smoothing = o.label_smoothing,
      ignore_index = o.ignore_index, bn = bn or f.bn, batch = f.size, key = f.key })
  end

  local function buffers_of(root)
    local list = {}
    for _, p in ipairs(root:params()) do list[#list + 1] = p.buffer and p.name or nil end
    return list
  end

  -- The numbers that f gives at a model, by name.
  local function numbers(what, v)
    if type(v) == "number" then return { loss = v } end
    if type(v) ~= "table" then
      fail(what, "the function gives a %s, not a number or a table of numbers", core.kind(v))
    end
    local out = {}
    for name, x in pairs(v) do
      if type(x) == "number" and type(name) == "string" then out[name] = x end
    end
    if not out.loss then fail(what, "the function gives a table without a number `loss`") end
    return out
  end

  -- Models whose losses are taken together, for each processor, where that takes less than a moment, else one: they
  -- have to be in memory, and a stop loses them.
  local EACH, MOMENT = 4, 0.5

  local function bytes_of(m)
    local sum = 1
    if core.kind(m) ~= "model" then return sum end
    for _, name in ipairs(m:names()) do sum = sum + 4 * m:tensor(name):numel() end
    return sum
  end

  -- open(what, f, {bn =, journal =, identity = {…}, total = n}) -> evaluator:
  --   at(theta, key) -> {loss =, …}; key: where in the journal. theta may be a function that makes the model.
  --   all(n, function(k) -> theta, key) -> {{loss =, …}, …}: of points 1 … n; those of a loss side by side, a few for
  --   each processor at a time
  --   bn: "none", "interpolate", "keep" or "recompute"
  --   like(reference): with bn = "keep", whose running statistics hold everywhere
  function points.open(what, f, o)
    local e, seen, bn = {}, {}, o.bn
    if core.kind(o.journal) == "table" then o.journal = o.journal.path end -- {path =, every =}: each point is written
    if o.journal and type(o.journal) ~= "string" then fail(what, "journal is the path of a file, or {path =}") end
    if core.kind(f) == "loss" then
      if bn ~= nil and type(bn) ~= "string" then e.f, e.bn = ready(f, bn), "recompute"
      else e.f, e.bn = ready(f), bn or f.bn and "recompute" or "interpolate" end
      e.buffers = buffers_of(f.net)
      if #e.buffers == 0 then e.bn = "none" end
      if bn ~= nil and bn ~= "keep" and bn ~= "interpolate" and type(bn) == "string" then
        fail(what, "bn = %q; expected \"keep\", \"interpolate\" or data to make running statistics anew", bn)
      end
      if type(bn) == "string" and f.bn then
        fail(what, "bn = %q, but the loss makes running statistics anew", bn)
      end
    else
      if bn ~= nil then fail(what, "bn: only a loss of a network has running statistics (net:loss)") end
      if type(f) ~= "function" and not (type(f) == "table" and (getmetatable(f) or {}).__call) then
        fail(what, "expected a loss (net:loss(data)) or a function of a model, got %s", core.kind(f))
      end
      e.f, e.bn = f, nil
    end
    local is_loss, due, done = core.kind(f) == "loss", 0, 0

    function e.like(reference)
      if e.bn ~= "keep" then return end
      e.kept = {}
      for _, name in ipairs(e.buffers) do e.kept[name] = reference:tensor(name) end
    end

    local function progress()
      done = done + 1
      if o.journal then
        local left = o.total and done < o.total
        core.note(left and journal.note(("%d of %d points"):format(done, o.total), o.journal) or nil)
      end
      local now = core.now()
      if now >= due and o.total then
        due = core.line(("%s: %d of %d points"):format(what, done, o.total)) and now + 0.1 or math.huge
      end
    end

    -- The values at several models; of a function that is no loss, one after the other.
    local function compute(thetas)
      for k, theta in ipairs(thetas) do
        if type(theta) == "function" then theta = theta() end
        thetas[k] = e.kept and core.with_values(theta, e.kept) or theta
      end
      if not is_loss then return { numbers(what, (e.f(thetas[1]))) } end
      local values = loss.reports(e.f, thetas)
      for k, v in ipairs(values) do values[k] = numbers(what, v) end
      return values
    end

    -- How many models like this one are taken at once.
    local together, quick = not is_loss and 1 or nil, false
    local function room_for(theta)
      if not together then
        if type(theta) == "function" then theta = theta() end
        local limit, used = core.memory()
        together = math.max(1, math.min(EACH * core.workers(), (limit - used) // 4 // bytes_of(theta)))
      end
      return quick and together or math.min(together, core.workers())
    end

    if o.journal then
      -- The first line says what the file belongs to; another plane's points must not be taken for this one's.
      local id = core.text_hash(journal.text { o.identity, e.bn or "", exact.describe(bn) })
      local rows = journal.read(o.journal)
      if #rows == 0 then journal.append(o.journal, { probe = what, id = id })
      elseif rows[1].id ~= id then
        fail(what, "%s is the journal of another run (other models, data, points or options)", o.journal)
      end
      for k = 2, #rows do seen[journal.text(rows[k].at)] = exact.decoded(rows[k].value) end
    end

    function e.all(n, point)
      -- what a stop says of this run is not said of another
      local _ <close> = setmetatable({}, { __close = function() return o.journal and core.note() end })
      local out, group = {}, {}
      local function finish()
        local thetas = {}
        for k, p in ipairs(group) do thetas[k] = p.theta end
        local began, values = core.now(), #group > 0 and compute(thetas) or {}
        quick = core.now() - began < MOMENT
        for k, v in ipairs(values) do
          local p = group[k]
          out[p.k] = v
          if o.journal then journal.append(o.journal, { at = p.key, value = exact.encoded(v) }) end
          progress()
        end
        group = {}
      end
      for k = 1, n do
        local theta, key = point(k)
        out[k] = o.journal and seen[journal.text(key)]
        if out[k] then progress() else
          group[#group + 1] = { k = k, theta = theta, key = key }
          if #group >= room_for(theta) then finish() end
        end
      end
      finish()
      return out
    end

    function e.at(theta, key)
      return e.all(1, function() return theta, key end)[1]
    end
    return e
  end

  -- What tells one function or model from another: a text, the same for equal contents.
  points.fingerprint = exact.describe

  -- ---- models ----

  -- A model in memory; anything else that can be added (a tensor, a number) as it is.
  function points.loaded(what, m, whose)
    local kind = core.kind(m)
    if kind == "model" then return m:load() end
    if kind ~= "tensor" and kind ~= "number" then fail(what, "%s is a %s, not a model", whose or "a point", kind) end
    return m
  end

  -- Raises unless it is {base = m, a, b, …}; what a and b are is for the caller to say.
  function points.family(what, models)
    if core.kind(models) ~= "table" or core.kind(models.base) ~= "model" then
      fail(what, "expected {base = m, a, b, …}")
    end
    for key in pairs(models) do
      if math.type(key) ~= "integer" and key ~= "base" then
        fail(what, "'%s' is none of {base = m, a, b, …}", tostring(key))
      end
    end
  end

  -- The sum of w m over the pairs of {w, m}; a weight of 0 leaves a model out, and one of 1 alone gives it as it is.
  function points.sum(list)
    local sum
    for _, pair in ipairs(list) do
      local w, m = pair[1], pair[2]
      if w ~= 0 then
        local part = w == 1 and m or w * m
        sum = sum == nil and part or sum ~= nil and sum + part
      end
    end
    return sum == nil and 0 * list[1][2] or sum
  end

  function points.dot(a, b)
    if type(a) == "number" then return a * b end
    if core.kind(a) == "tensor" then return (a:to "f64" * b:to "f64"):sum() end
    return a:dot(b)
  end

  function points.norm(a) return math.sqrt(points.dot(a, a)) end

  -- ---- options ----

  function points.count(what, name, v, least)
    if math.type(v) ~= "integer" or v < least then fail(what, "%s is a whole number, at least %d", name, least) end
    return v
  end

  -- `n` numbers evenly from low to high, the ends exact.
  function points.evenly(low, high, n)
    local list = {}
    for k = 0, n - 1 do list[k + 1] = k == n - 1 and high or low + (high - low) * k / (n - 1) end
    return list
  end

  function points.list(what, name, v)
    if core.kind(v) == "tensor" then v = v:totable() end
    if core.kind(v) ~= "table" or #v < 2 then fail(what, "%s is a list of at least two numbers", name) end
    for k, x in ipairs(v) do
      if type(x) ~= "number" or x - x ~= 0 or k > 1 and x <= v[k - 1] then
        fail(what, "%s is a list of numbers that ascends", name)
      end
    end
    return v
  end

  -- The values under q (a list from 0 to 1) of a list of numbers, by linear interpolation of the sorted ones.
  function points.quantiles(values, q)
    local sorted, out = {}, {}
    for k, v in ipairs(values) do sorted[k] = v ~= v and math.huge or v end -- no number is one that has diverged
    table.sort(sorted)
    for k, p in ipairs(q) do
      local at = 1 + p * (#sorted - 1)
      local low = math.floor(at)
      local high = math.min(low + 1, #sorted)
      local even = at == low or sorted[low] == sorted[high] -- of two infinities too
      out[k] = even and sorted[low] or sorted[low] + (at - low) * (sorted[high] - sorted[low])
    end
    return out
  end

  return points
end
