-- SPDX-License-Identifier: Apache-2.0
-- The data set as a value: stored examples that are never changed, and the rows of them that belong to it.
-- Subsets, splits and noisy labels share the examples; batches are made of them in C. Rows count from 0 here,
-- positions in a data set from 1 where scripts see them.

local nearest = require "nearest"
local told = require "nn.told"

local Set = { __name = "dataset", __metatable = false }
local inside = setmetatable({}, { __mode = "k" }) -- set -> { x, columns, rows, whole, made }
local methods = {}
local optional = { y = true, classes = true, y_true = true, cues = true, class_names = true, vocabulary = true,
  columns = true,
  normalise = true }

return function(define, check, core)
  local function is(d) return inside[d] ~= nil end

  local function self(d, what)
    if not inside[d] then
      error(string.format("%s: expected a data set, got %s (write d:%s)", what, core.kind(d), what:match "[^:]+$"), 3)
    end
    return inside[d]
  end

  local shown = require "expect"(core.kind).shown

  -- A table that begins with a list.
  local function listed(o, what, names, expected)
    check(what, o, names, true)
    local of = core.kind(o)
    if of ~= "table" and of ~= "shape" then error(string.format("%s: expected %s, got %s", what, expected, of), 3) end
  end

  -- ---- making ----

  -- { x, columns = { y = … }, rows = nil: all, name, classes, class_names, image, tokens, vocabulary, divisor, … }
  local function new(o)
    local total = #o.x
    local rows = o.rows or tensor.arange(total)
    local d = { n = #rows, name = o.name, classes = o.classes, class_names = o.class_names, image = o.image or false,
      tokens = o.tokens or false, vocabulary = o.vocabulary, normalise = o.normalise, columns = o.column_names }
    inside[d] = { x = o.x, columns = o.columns or {}, rows = rows, whole = not o.rows, divisor = o.divisor, made = {},
      cue_names = o.cue_names }
    return setmetatable(d, Set)
  end

  local function derive(d, o)
    local s = inside[d]
    return new { x = s.x, columns = o.columns or s.columns, rows = o.rows or (not s.whole and s.rows) or nil,
      name = o.name or d.name, classes = o.classes or d.classes, class_names = o.class_names or d.class_names,
      image = d.image, tokens = d.tokens, vocabulary = d.vocabulary, normalise = o.normalise or d.normalise,
      divisor = s.divisor, column_names = d.columns, cue_names = s.cue_names }
  end

  local function pick(t, rows, first, n)
    return core.take(core.batcher(t, { raw = true }), rows, first or 0, n or #rows)
  end

  local function column(d, name)
    local s = inside[d]
    local t = s.made[name] or s.columns[name]
    if t and not s.whole and not s.made[name] then
      t = pick(t, s.rows)
      s.made[name] = t
    end
    return t
  end

  local function cues(d)
    local names = inside[d].cue_names
    if not names then return nil end
    local out = {}
    for _, name in ipairs(names) do out[name] = column(d, "cue " .. name) end
    return out
  end

  function Set.__index(d, key)
    local s = inside[d]
    if key == "x" then
      s.made.x = s.made.x or (s.whole and s.x) or pick(s.x, s.rows)
      return s.made.x
    elseif key == "y" or key == "y_true" then
      return column(d, key)
    elseif key == "cues" then
      return cues(d)
    elseif methods[key] then
      return methods[key]
    elseif optional[key] or type(key) ~= "string" then
      return nil
    end
    local near = nearest(key, methods)
    error(string.format("a data set has no field or method '%s'%s", key,
      near and string.format("; did you mean d:%s?", near) or " (help \"dataset\" lists what there is)"), 2)
  end

  function Set.__newindex(_, key)
    error(string.format("a data set is not changed (d.%s = …); d:map and d:subset make others", tostring(key)), 2)
  end

  function Set.__len(d) return d.n end

  -- ---- labels ----

  local function labels(d, what)
    self(d, what)
    local y = d.y
    if not y or y.rank ~= 1 then
      error(string.format("%s: %s has no labels, one an example", what, d.name), 3)
    end
    return y:totable()
  end

  local function class_list(list, classes, what)
    local set = {}
    if core.kind(list) ~= "table" or #list == 0 then
      error(string.format("%s: expected a list of classes, {0, 1, …}, got %s", what,
        core.kind(list) == "table" and "an empty one" or shown(list)), 3)
    end
    for k, c in ipairs(list) do
      if math.type(c) ~= "integer" or c < 0 or c >= classes then
        error(string.format("%s: class %s is not one of 0 to %d", what, shown(c), classes - 1), 3)
      end
      if set[c] then error(string.format("%s: class %d is listed twice", what, c), 3) end
      set[c] = k - 1
    end
    return set
  end

  local function vector(list) return tensor(list, { dtype = "i64" }) end

  local function at(d, positions) -- positions from 1
    local rows = inside[d].rows:totable()
    local out = {}
    for k, p in ipairs(positions) do out[k] = rows[p] end
    return vector(out)
  end

  -- The set of the positions whose class is in the list.
  local function of_classes(d, list, relabel, what)
    local y, positions = labels(d, what), {}
    local wanted = class_list(list, d.classes, what)
    for p, c in ipairs(y) do
      if wanted[c] then positions[#positions + 1] = p end
    end
    local o = { rows = at(d, positions), name = string.format("%s {%s}", d.name, table.concat(list, ", ")) }
    if relabel then
      local all = inside[d].columns.y:totable()
      for k, c in ipairs(all) do all[k] = wanted[c] or 0 end -- rows of other classes are not in this set
      o.columns = { y = vector(all) }
      for name, t in pairs(inside[d].columns) do o.columns[name] = o.columns[name] or t end
      o.classes, o.class_names = #list, nil
      if d.class_names then
        o.class_names = {}
        for k, c in ipairs(list) do o.class_names[k] = d.class_names[c + 1] end
      end
    end
    return derive(d, o)
  end

  -- ---- choosing ----

  local function whole(v, what, name, least)
    if math.type(v) ~= "integer" or v < least then
      error(string.format("%s: %s must be a whole number of at least %d, got %s", what, name, least, shown(v)), 4)
    end
    return v
  end

  local function in_range(p, n, what)
    if math.type(p) ~= "integer" or p < 1 or p > n then
      error(string.format("%s: no example %s; there are 1 to %d", what, shown(p), n), 4)
    end
    return p
  end

  -- (indices) or (i, j) or (): rows of the store
  local function choose(d, i, j, what)
    local s = self(d, what)
    if i == nil and j == nil then return s.rows end
    local of = core.kind(i)
    if of == "table" or of == "tensor" then
      local list = i
      if of == "tensor" then
        list = i.dtype == "bool" and {} or i:totable()
        if i.dtype == "bool" then
          if #i ~= d.n then
            error(string.format("%s: a mask of %d values for %d examples", what, #i, d.n), 3)
          end
          for p, yes in ipairs(i:totable()) do
            if yes then list[#list + 1] = p end
          end
        end
      end
      for _, p in ipairs(list) do in_range(p, d.n, what) end
      return at(d, list)
    end
    local first = in_range(i, d.n, what)
    local last = j == nil and first or in_range(j, d.n, what)
    if last < first then error(string.format("%s: %d to %d holds no example", what, first, last), 3) end
    return pick(s.rows, tensor.range(first - 1, last - 1), 0, last - first + 1)
  end

  -- ---- splitting ----

  -- Shares below 1, or whole counts, as counts.
  local function counts_of(o, n, what)
    if #o == 0 then error(what .. ": expected shares or counts, { 0.9, 0.1 }", 3) end
    local out, sum, before = {}, 0, 0
    for k, v in ipairs(o) do
      if math.type(v) == "integer" and v >= 1 then
        out[k] = v
        sum = sum + v
      elseif type(v) == "number" and v > 0 and v <= 1 then
        sum = sum + v * n
        out[k] = math.floor(sum + 0.5) - before
      else
        error(string.format("%s: part %d is %s; expected a share up to 1 or a whole count", what, k, shown(v)), 3)
      end
      before = before + out[k]
    end
    if before > n or sum > n * (1 + 1e-9) then
      error(string.format("%s: the parts have %d examples, the data set %d", what, math.max(before, math.ceil(sum)),
        n), 3)
    end
    return out
  end

  local function stratified(d, o, order, what)
    local by_class, parts = {}, {}
    local y = labels(d, what)
    for _, p in ipairs(order:totable()) do
      local c = y[p + 1]
      by_class[c] = by_class[c] or {}
      table.insert(by_class[c], p)
    end
    for k = 1, #o do parts[k] = {} end
    for c = -1, d.classes - 1 do
      local members = by_class[c < 0 and -100 or c] or {} -- -100: rows without a class
      local from = 0
      for k, count in ipairs(counts_of(o, #members, what)) do
        table.move(members, from + 1, from + count, #parts[k] + 1, parts[k])
        from = from + count
      end
    end
    local place = {} -- each part in the order that one without strata would have
    for k, p in ipairs(order:totable()) do place[p] = k end
    for k, part in ipairs(parts) do
      table.sort(part, function(a, b) return place[a] < place[b] end)
      parts[k] = vector(part)
    end
    return parts
  end

  local function split(d, o)
    local what = "dataset:split"
    local s = self(d, what)
    listed(o, what, { "seed", "stratified" }, "shares or counts, { 0.9, 0.1 }")
    local order = o.seed and core.order(d.n, whole(o.seed, what, "seed", 0), 0) or tensor.arange(d.n)
    local parts, from = {}, 0
    if o.stratified then
      for k, v in ipairs(o) do
        if math.type(v) == "integer" and v >= 1 then
          error(string.format("%s: part %d is a count; strata are cut by shares", what, k), 2)
        end
      end
      parts = stratified(d, o, order, what)
    else
      for k, count in ipairs(counts_of(o, d.n, what)) do
        parts[k] = pick(order, tensor.arange(d.n), from, count)
        from = from + count
      end
    end
    for k, positions in ipairs(parts) do
      parts[k] = derive(d, { rows = pick(s.rows, positions), name = string.format("%s, part %d of "
        .. "%d", d.name, k, #parts) })
    end
    return table.unpack(parts)
  end

  -- ---- noise on labels ----

  local function with_label_noise(d, o)
    local what = "dataset:with_label_noise"
    local s = self(d, what)
    check(what, o, { "rate", "seed", "kind" })
    o = o or {}
    local y, rate, seed, kind = labels(d, what), o.rate, whole(o.seed or 0, what, "seed", 0), o.kind or "other"
    if type(rate) ~= "number" or not (rate >= 0 and rate <= 1) then
      error(string.format("%s: rate must be a share from 0 to 1, got %s", what, shown(rate)), 2)
    end
    if kind ~= "other" and kind ~= "next" and kind ~= "any" then
      error(string.format("%s: kind is '%s'; expected \"other\", \"next\" or \"any\"", what, shown(kind)), 2)
    end
    if d.classes < 2 and kind ~= "any" then error(what .. ": there is no other class", 2) end
    local k = math.floor(rate * d.n + 0.5)
    local chosen = core.order(d.n, seed, 1):totable()
    local draw = tensor.randint(0, kind == "other" and d.classes - 1 or d.classes, { k }, seed):totable()
    local stored, rows = s.columns.y:totable(), s.rows:totable()
    for i = 1, k do
      local p = chosen[i] + 1
      local c = y[p]
      stored[rows[p] + 1] = c < 0 and c or kind == "next" and (c + 1) % d.classes
        or kind == "other" and draw[i] >= c and draw[i] + 1 or draw[i]
    end
    local columns = {}
    for name, t in pairs(s.columns) do columns[name] = t end
    columns.y_true = columns.y_true or columns.y
    columns.y = vector(stored)
    return derive(d, { columns = columns, name = string.format("%s, %g %% label noise", d.name, 100 * rate) })
  end

  -- ---- batches ----

  local Batch = { __name = "batch", __metatable = false }
  function Batch.__tostring(b)
    return string.format("batch of %d: x %s%s%s", b.n, b.x.dtype, tostring(b.x.shape),
      b.y and ", y " .. b.y.dtype .. tostring(b.y.shape) or "")
  end

  -- What turns rows into numbers; a: what is varied, or nil.
  local function pipes(d, a)
    local s = inside[d]
    local o = { image = d.image, divisor = s.divisor }
    if d.normalise then
      o.channels, o.mean, o.std = #d.normalise.mean, d.normalise.mean, d.normalise.std
    end
    for k, v in pairs(a or {}) do o[k] = v end
    local x = core.batcher(s.x, o)
    local y = s.columns.y and core.batcher(s.columns.y, {})
    return function(rows, first, n, epoch)
      return core.take(x, rows, first, n, epoch), y and core.take(y, rows, first, n) or nil
    end
  end

  local function batch(d, i, j)
    local rows = choose(d, i, j, "dataset:batch")
    local x, y = pipes(d)(rows, 0, #rows, 0)
    local index = i == nil and tensor.range(d.n) or type(i) == "userdata" and i.dtype ~= "bool" and i:to "i64"
      or type(i) == "table" and vector(i) or math.type(i) == "integer" and tensor.range(i, j or i) or nil
    return setmetatable({ x = x, y = y, n = #rows, index = index }, Batch)
  end

  local function augmentation(d, o, what)
    local a = o.augment
    if a == nil then return nil end
    if type(a) ~= "table" then
      error(what .. ": augment is a table, { shift = 2, flip = true, … }, not " .. shown(a), 3)
    end
    check(what .. ": augment", a, { "shift", "flip", "noise", "cutout" })
    local flip = a.flip == true and 0.5 or a.flip or 0
    if type(flip) ~= "number" or flip < 0 or flip > 1 then
      error(string.format("%s: augment.flip is true or a probability, not %s", what, shown(flip)), 3)
    end
    if a.noise and (type(a.noise) ~= "number" or a.noise < 0 or a.noise == math.huge) then
      error(string.format("%s: augment.noise must be a standard deviation, got %s", what, shown(a.noise)), 3)
    end
    local shift, cutout = whole(a.shift or 0, what, "augment.shift", 0), whole(a.cutout or 0, what, "augment.cutout", 0)
    if d.image then
      local shape = inside[d].x.shape
      local side = math.max(shape[2], shape[3])
      if shift >= side or cutout > 2 * side then
        error(string.format("%s: shift %d and cutout %d are for images of %d x %d", what, shift, cutout, shape[2],
          shape[3]), 3)
      end
    end
    return { shift = shift, flip = flip, noise = a.noise or 0, cutout = cutout,
      seed = whole(o.augment_seed or o.seed or 0, what, "augment_seed", 0) }
  end

  local option_names = { "size", "epochs", "steps", "seed", "augment", "augment_seed", "dropout_seed", "drop_last",
    "start" }

  local function batches(d, o)
    local what = "dataset:batches"
    local s = self(d, what)
    o = o or {}
    check(what, o, option_names)
    local size, n = whole(o.size or 128, what, "size", 1), d.n
    if n == 0 then error(string.format("%s: %s has no examples", what, d.name), 2) end
    local per_epoch = o.drop_last and n // size or (n + size - 1) // size
    if per_epoch == 0 then
      error(string.format("%s: with drop_last, %d examples make no batch of %d", what, n, size), 2)
    end
    if o.epochs and o.steps then error(what .. ": give epochs or steps, not both", 2) end
    local total = o.steps and whole(o.steps, what, "steps", 0) or whole(o.epochs or 1, what, "epochs", 0) * per_epoch
    local seed = o.seed and whole(o.seed, what, "seed", 0)
    local dropout_seed = whole(o.dropout_seed or o.seed or 0, what, "dropout_seed", 0)
    local make, gather = pipes(d, augmentation(d, o, what)), core.batcher(s.rows, { raw = true })
    local identity = tensor.arange(n)
    local i, epoch, order, rows, positions = whole(o.start or 1, what, "start", 1) - 1, 0, nil, nil, nil
    return function()
      i = i + 1
      if i > total then return nil end
      local e, step = (i - 1) // per_epoch + 1, (i - 1) % per_epoch
      if e ~= epoch then
        epoch = e
        order = seed and core.order(n, seed, e) or identity
        rows = seed and core.take(gather, order, 0, n) or s.rows
        positions = core.batcher(order, { raw = true })
      end
      local first = step * size
      local count = math.min(size, n - first)
      local x, y = make(rows, first, count, e)
      return i, setmetatable({ x = x, y = y, n = count, index = core.take(positions, identity, first, count) + 1,
        epoch = e, step = step + 1, key = core.key(dropout_seed, i) }, Batch)
    end
  end

  -- ---- the whole ----

  local function counts(d)
    local y, out = labels(d, "dataset:counts"), {}
    for c = 0, d.classes - 1 do out[c] = 0 end
    for _, c in ipairs(y) do
      if c >= 0 then out[c] = out[c] + 1 end -- -100: no class
    end
    return out
  end

  local function digest(d)
    local s = self(d, "dataset:digest")
    if not s.digest then
      local parts = { core.digest(d.x), d.y and core.digest(d.y) or "-", string.format("%d %s %s %s", d.classes or 0,
        d.image, d.tokens, s.divisor or 1) }
      if d.normalise then
        parts[#parts + 1] = string.format("%s / %s", table.concat(d.normalise.mean, " "
          .. ""), table.concat(d.normalise.std, " "))
      end
      s.digest = core.digest(core.bytes(table.concat(parts, "\n")))
    end
    return s.digest
  end

  local function numbers(v, what, name)
    local list = type(v) == "number" and { v } or v
    if type(list) ~= "table" or #list == 0 then
      error(string.format("%s: %s is a number or one number a channel", what, name), 4)
    end
    for k, x in ipairs(list) do
      if type(x) ~= "number" or x ~= x or math.abs(x) == math.huge or (name == "std" and x <= 0) then
        error(string.format("%s: %s[%d] is %s", what, name, k, shown(x)), 4)
      end
    end
    return list
  end

  -- { mean, std }, each a number or a list: { mean = {…}, std = {…} }
  local function read_normalise(o, channels, what)
    if o == nil then return nil end
    if type(o) ~= "table" or #o ~= 2 then
      error(string.format("%s: normalise is { mean, std }, not %s", what, shown(o)), 3)
    end
    local mean, std = numbers(o[1], what, "mean"), numbers(o[2], what, "std")
    local most = math.max(#mean, #std)
    if (#mean ~= most and #mean ~= 1) or (#std ~= most and #std ~= 1) or (most ~= 1 and most ~= channels) then
      error(string.format("%s: %d means and %d deviations for %d channels", what, #mean, #std, channels), 3)
    end
    local out = { mean = {}, std = {} }
    for k = 1, most do
      out.mean[k], out.std[k] = mean[#mean == 1 and 1 or k], std[#std == 1 and 1 or k]
    end
    return out
  end

  local function map(d, f)
    local what = "dataset:map"
    self(d, what)
    if type(f) ~= "function" then error(what .. ": expected a function of a batch's x, got " .. core.kind(f), 2) end
    local parts = {}
    for _, b in batches(d, { size = 1000 }) do
      local x = f(b.x, b.y)
      if core.kind(x) ~= "tensor" or #x ~= b.n then
        error(string.format("%s: the function returned %s; expected a tensor of %d examples", what,
          core.kind(x) == "tensor" and tostring(x.shape) or core.kind(x), b.n), 2)
      end
      parts[#parts + 1] = x
    end
    local y = d.y
    local x = #parts == 1 and parts[1]:clone() or tensor.cat(parts, 1)
    return new { x = x, columns = { y = y }, name = d.name .. ", mapped", classes = d.classes,
      class_names = d.class_names, image = x.rank == 4, tokens = false }
  end

  -- "0 T-shirt/top 6000, 1 Trouser 6000, …"
  local function describe_classes(d)
    if not d.y then return ", no labels" end
    if d.y.rank ~= 1 then return string.format(", y %s%s", d.y.dtype, tostring(d.y.shape)) end
    local c, least, most, parts = counts(d), math.huge, 0, {}
    for k = 0, d.classes - 1 do
      least, most = math.min(least, c[k]), math.max(most, c[k])
      if k < 12 then
        parts[k + 1] = string.format("%s%s", d.class_names and d.class_names[k + 1] .. " " or k .. ": ", c[k])
      end
    end
    local head = string.format(", %d %s", d.classes, d.classes == 1 and "class" or "classes")
    if least == most then return string.format("%s of %d each", head, least) end
    return string.format("%s\n  %s%s", head, table.concat(parts, ", "), d.classes > 12
      and string.format(", … (%d to %d each)", least, most) or "")
  end

  function Set.__tostring(d)
    local shape = inside[d].x.shape
    local parts = {}
    for k = 2, #shape do parts[#parts + 1] = shape[k] end
    local each = #parts == 0 and "numbers" or d.tokens and string.format("sequences of %s tokens", parts[1])
      or d.image and "images of " .. table.concat(parts, " x ") or "vectors of " .. table.concat(parts, " x ")
    return string.format("%s: %d %s (%s)%s", d.name, d.n, each, inside[d].x.dtype, describe_classes(d))
  end

  -- ---- what scripts see ----

  local function add(name, signature, text, example, inner)
    local fn = told(inner)
    methods[name] = fn
    define("dataset:" .. name, signature, text, example, fn)
  end

  local moons = "local d = data.two_moons { n = 100, seed = 1 }\n"

  add("batches", "d:batches { size = 128, epochs = 1, steps =, seed =, augment = {shift = 0, flip = false, noise = 0, "
    .. "cutout = 0}, augment_seed =, dropout_seed =, drop_last = false, start = 1 } -> iterator",
    "Batches in a loop: for i, batch in d:batches { … }, i from 1 over all epochs. A batch has x, y (i64), n, index "
    .. "(the positions in d), epoch, step (in the epoch) and key, an integer for dropout. Pixels in bytes come as "
    .. "x/255 in "
    .. "f32, then normalised where d.normalise says so; tokens stay integers.\n"
    .. "  size: examples of a batch; the last of an epoch may have fewer, unless drop_last\n"
    .. "  epochs, steps: how many; one of them\n"
    .. "  seed: of the order, a new one in each epoch; without a seed examples come as they are stored\n"
    .. "  augment: shift (pixels, each way; what comes in is black), flip (true or a probability; left and right), "
    .. "noise "
    .. "(standard deviation, on the numbers of x), cutout (side of a square of zeros)\n"
    .. "  augment_seed: what an example becomes depends on this seed, the epoch and the example; default: seed\n"
    .. "  dropout_seed: of the keys; default: seed\n"
    .. "  start: the first i; the batches before it are not made, and the rest are what they would be",
    moons .. "for i, batch in d:batches { size = 40, seed = 1 } do print(i, batch.n, batch.x.shape) end\n"
    .. "-- > 1\t40\t[40, 2]\n-- > 2\t40\t[40, 2]\n-- > 3\t20\t[20, 2]", batches)
  add("batch", "d:batch(indices) or d:batch(i, j) or d:batch() -> batch",
    "One batch: the examples at these positions (from 1; a list, a tensor, or a mask), from i to j, or all. "
      .. "Nothing is varied.",
    moons .. "print(d:batch(1, 3))\n-- > batch of 3: x f32[3, 2], y i64[3]", batch)
  add("subset", "d:subset(indices) or d:subset(i, j) -> data set",
    "The examples at these positions, in this order: a list or tensor of positions from 1, a bool tensor of one "
      .. "value an example, or "
    .. "from i to j. The examples are shared, not copied.", moons .. "print(d:subset({ 3, 1, 2 }).n, d:subset(11, "
    .. "20).n)\n-- > 3\t10",
    function(d, i, j)
      self(d, "dataset:subset")
      if i == nil then error("dataset:subset: expected positions, or a first and a last one", 2) end
      return derive(d, { rows = choose(d, i, j, "dataset:subset"), name = d.name .. ", subset" })
    end)
  add("take", "d:take(n) -> data set", "The first n examples.", moons .. "print(d:take(10).n)\n-- > 10", function(d, n)
    self(d, "dataset:take")
    if math.type(n) ~= "integer" or n < 0 or n > d.n then
      error(string.format("dataset:take: %s of %d examples", shown(n), d.n), 2)
    end
    return derive(d, { rows = pick(inside[d].rows, tensor.arange(d.n), 0, n), name = string.format("%s, first "
      .. "%d", d.name, n) })
  end)
  add("split", "d:split { share or count, …, seed =, stratified = false } -> data set, …",
    "Parts without common examples, as many as there are numbers: shares of the whole (0.9) or counts. In random "
      .. "order with a seed, "
    .. "else as stored. stratified: each class is divided by the shares, so that parts have the same mixture of "
    .. "classes.",
    moons .. "local train, val = d:split { 0.8, 0.2, seed = 1, stratified = true }\n"
    .. "print(train.n, val.n, val:counts()[0])\n-- > 80\t20\t10", split)
  add("classes_only", "d:classes_only { class, …, relabel = false } -> data set",
    "The examples of these classes (numbers from 0). Labels stay, and d.classes, unless relabel: then the classes "
      .. "are numbered in the "
    .. "order of the list.", moons .. "print(d:classes_only({ 1 }).n)\n-- > 50", function(d, o)
      local what = "dataset:classes_only"
      self(d, what)
      listed(o, what, { "relabel" }, "a list of classes, { 0, 1 }")
      return of_classes(d, o, o.relabel, what)
    end)
  add("split_classes", "d:split_classes { {class, …}, {class, …}, …, relabel = false } -> data set, …",
    "A data set for each list of classes, as d:classes_only makes it: the tasks of specialists.",
    moons .. "local a, b = d:split_classes { { 0 }, { 1 } }\nprint(a:counts()[1], b:counts()[1])\n-- > "
      .. "0\t50", function(d, o)
      local what = "dataset:split_classes"
      self(d, what)
      listed(o, what, { "relabel" }, "lists of classes, { {0, 1}, {2} }")
      if #o == 0 then error(what .. ": expected lists of classes, { {0, 1}, {2} }", 2) end
      local out = {}
      for k, list in ipairs(o) do out[k] = of_classes(d, list, o.relabel, what) end
      return table.unpack(out)
    end)
  add("with_label_noise", "d:with_label_noise { rate =, seed = 0, kind = \"other\" } -> data set",
    "The same examples where a share `rate` of the labels is wrong: chosen by the seed, replaced by another class "
      .. "at random "
    .. "(\"other\"), by the next class (\"next\"), or by any, the right one too (\"any\"; with rate 1 labels mean "
    .. "nothing). d.y_true keeps "
    .. "the labels as they were.", moons .. "local noisy = d:with_label_noise { rate = 0.2, seed = 1 }\n"
    .. "print(noisy.y:ne(noisy.y_true):sum())\n-- > 20.0", with_label_noise)
  add("map", "d:map(function(x, y) -> tensor) -> data set",
    "A data set of what the function makes of x, with the same labels. It is called with batches of 1000 examples, "
      .. "in order, and returns "
    .. "as many.", moons .. "print(d:map(function(x) return x * 2 end).x[1][1] == 2 * d.x[1][1])\n-- > true", map)
  add("normalised", "d:normalised { mean, std } -> data set",
    "The same examples; batches have (x - mean) / std, where pixels in bytes are divided by 255 before. Mean and "
      .. "std are numbers, or "
    .. "lists of one a channel (the last dimension).",
    moons .. "print(d:normalised({ 0.5, 2 }):batch(1, 1).x[1][1] == (d.x[1][1] - 0.5) / 2)\n-- > true", function(d, o)
      local what = "dataset:normalised"
      local s = self(d, what)
      local shape = s.x.shape
      return derive(d, { normalise = read_normalise(o, #shape > 1 and shape[#shape] or 1, what) or error(what
        .. ": expected { mean, std }", 2) })
    end)
  add("counts", "d:counts() -> table", "How many examples each class has: counts[0], counts[1], ….",
    moons .. "print(d:counts()[0])\n-- > 50", counts)
  add("digest", "d:digest() -> string",
    "The SHA-256 of what the data set holds: examples, labels, and how batches are made of them. The name does not "
      .. "count, nor "
    .. "how it was chosen.", moons .. "print(d:digest() == d:subset(1, 100):digest())\n-- > true", digest)

  return { new = new, derive = derive, is = is, normalise = read_normalise, column = column, whole = whole,
    shown = shown }
end
