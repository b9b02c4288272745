-- SPDX-License-Identifier: Apache-2.0
-- Grids and random points: what is tried is known before the first is computed, so a journal can say
-- which of them are done. A point is a table of its parameters.
return function(define, check, core)
  local journal = require "search.journal"
  local Search, Point = {}, {}

  Point.__index = Point
  Point.__name = "point"
  -- The methods of a point need what it belongs to; kept beside, so that its fields are the parameters alone.
  local belongs = setmetatable({}, { __mode = "k" })

  local function names_of(space, name)
    local names = {}
    for key in pairs(space) do
      if type(key) ~= "string" then
        error(("%s: expected { name = values, … }, got a key %s"):format(name, tostring(key)), 3)
      elseif Point[key] then
        error(("%s: a parameter cannot be called '%s', which is a method of a point"):format(name, key), 3)
      end
      names[#names + 1] = key
    end
    table.sort(names)
    if #names == 0 then error(name .. ": there is no parameter", 3) end
    return names
  end

  local function new(name, count, point_at)
    return setmetatable({ name = name, count = count, point_at = point_at, done = {}, values = {} }, {
      __index = Search, __name = "search", __metatable = false, __len = function(self) return self.count end,
      __call = function(self) return self:next() end,
      __tostring = function(self)
        return ("%s of %d points, %d recorded"):format(self.name, self.count, #self:results())
      end,
    })
  end

  local function point(self, i)
    local p = setmetatable(self.point_at(i), Point)
    belongs[p] = { search = self, index = i }
    return p
  end

  -- The next point that has no value yet; nil behind the last, and the loop may start again.
  function Search:next()
    local i = (self.at or 0) + 1
    while i <= self.count and self.done[i] do i = i + 1 end
    self.at = i <= self.count and i or nil
    return self.at and point(self, i) or nil
  end

  local function record(self, i, value)
    self.done[i], self.values[i] = true, value
  end

  function Point:record(value)
    local me = belongs[self] or error("record: this is not a point of a search", 2)
    if value == nil then error("record: there is no value", 2) end
    local search = me.search
    if search.path then journal.append(search.path, { point = search.point_at(me.index), value = value }) end
    record(search, me.index, value)
    return value
  end

  define("search:record", "p:record(value) -> value",
    "Says what a point gave: a number, or a table of plain values. With a journal it is on the disk when this "
    .. "returns.",
    "local s = search.grid { x = { 1, 2 } }\nfor p in s do p:record(-p.x) end\nprint(s:best().x)\n-- > 2",
    Point.record)

  function Search:journal(path)
    if type(path) ~= "string" then error("search:journal: expected the path of a file", 2) end
    local index = {}
    for i = 1, self.count do index[journal.text(self.point_at(i))] = i end
    for _, row in ipairs(journal.read(path)) do
      local i = type(row.point) == "table" and index[journal.text(row.point)]
      if i then record(self, i, row.value) end
    end
    self.path = path
    return self
  end

  define("search:journal", "s:journal(path) -> s",
    "Keeps what is recorded in a file, one JSON line a point, so that a run that ends early (Ctrl-C, a failure) "
    .. "loses nothing: when it is started again, points in the file are skipped, and s:results() has them. Points of "
    .. "the file that the search does not hold (any more) are left alone.",
    "local path = os.tmpname()\nfor _ = 1, 2 do\n  for p in search.grid { x = { 1, 2, 3 } }:journal(path) do\n"
    .. "    p:record(p.x ^ 2)\n    if p.x == 2 then break end\n  end\nend\n"
    .. "local s = search.grid { x = { 1, 2, 3 } }:journal(path)\nprint(s:next(), "
    .. "#s:results())\nos.remove(path)\n-- > nil\t3",
    Search.journal)

  function Search:results()
    local list = {}
    for i = 1, self.count do
      if self.done[i] then list[#list + 1] = { point = point(self, i), value = self.values[i] } end
    end
    return list
  end

  define("search:results", "s:results() -> { {point =, value =}, … }",
    "The points that have been recorded, in the order of the search, with their values.",
    "local s = search.grid { x = { 1, 2 } }\nfor p in s do p:record(10 * p.x) end\n"
    .. "for _, r in ipairs(s:results()) do print(r.point.x, r.value) end\n-- > 1\t10\n-- > 2\t20",
    Search.results)

  function Search:best(by)
    local best, least
    for _, r in ipairs(self:results()) do
      local v = r.value
      if type(by) == "string" then v = v[by] elseif by then v = by(r.value) end
      if type(v) ~= "number" then
        error("search:best: the recorded value is a " .. type(v) .. "; say which number counts: s:best(\"loss\")", 2)
      end
      if v == v and (not least or v < least) then best, least = r, v end
    end
    if best then return best.point, best.value end
  end

  define("search:best", "s:best(field or function) -> point, value",
    "The point with the least recorded value. Values that are tables: the least of a field, or of what a function "
    .. "makes of them: s:best(function(v) return -v.accuracy end). NaN is never the best; nil where nothing is "
    .. "recorded.",
    "local s = search.grid { x = { -1, 0.5, 2 } }\nfor p in s do p:record(p.x ^ 2) end\nprint(s:best())\n"
    .. "-- > {x = 0.5}\t0.25", Search.best)

  Point.__tostring = function(self)
    local words = {}
    for _, name in ipairs(names_of(self, "point")) do
      words[#words + 1] = ("%s = %s"):format(name, tostring(self[name]))
    end
    return "{" .. table.concat(words, ", ") .. "}"
  end

  -- ---- grids ----

  define("search.grid", "search.grid { name = {v1, v2, …}, … } -> points",
    "All combinations of the values, for a loop: for p in search.grid { density = {0.1, 0.2}, lambda = {0.5, 1} } do … "
    .. "end. p.density is the value of this point, and p:record(result) keeps what it gave. Names go in alphabetical "
    .. "order, the last one fastest; a single value need not be in a table.",
    "for p in search.grid { a = { 1, 2 }, b = { \"x\", \"y\" } } do print(p.a, p.b) end\n"
    .. "-- > 1\tx\n-- > 1\ty\n-- > 2\tx\n-- > 2\ty",
    function(space)
      local name = "search.grid"
      if type(space) ~= "table" then
        error(name .. ": expected { name = values, … }, got " .. core.kind(space), 2)
      end
      local names, lists, count = names_of(space, name), {}, 1
      for k, key in ipairs(names) do
        local v = space[key]
        lists[k] = type(v) == "table" and { table.unpack(v) } or { v }
        if #lists[k] == 0 then error(("%s: %s has no values"):format(name, key), 2) end
        for _, item in ipairs(lists[k]) do
          local kind = type(item)
          if kind ~= "number" and kind ~= "string" and kind ~= "boolean" then
            error(("%s: the values of %s are numbers, texts or booleans, not a %s"):format(name, key,
              core.kind(item)), 2)
          end
        end
        count = count * #lists[k]
      end
      return new(name, count, function(i)
        local p, rest = {}, i - 1
        for k = #names, 1, -1 do
          p[names[k]] = lists[k][rest % #lists[k] + 1]
          rest = rest // #lists[k]
        end
        return p
      end)
    end)

  -- ---- random points ----

  local function range(name, key, r)
    if type(r) == "table" and type(r.one_of) == "table" and #r.one_of > 0 then
      return function(u) return r.one_of[math.min(math.floor(u * #r.one_of) + 1, #r.one_of)] end
    end
    if type(r) ~= "table" or type(r[1]) ~= "number" or type(r[2]) ~= "number" or r[1] >= r[2]
      or (r.log and r[1] <= 0) then
      error(("%s: %s is {low, high}, {low, high, log = true} with low > 0, {low, high, whole = true} or {one_of = "
        .. "{…}}"):format(name, key), 3)
    end
    local low, high = r[1], r[2]
    if r.whole then return function(u) return math.min(math.floor(low + u * (high - low + 1)), high) end end
    if r.log then return function(u) return low * (high / low) ^ u end end
    return function(u) return low + u * (high - low) end
  end

  define("search.random", "search.random({name = {low, high}, …}, {n = 100, seed = 0}) -> points",
    "n random points, for a loop as in search.grid. A range is {low, high} (evenly), {low, high, log = true} (evenly "
    .. "in the logarithm), {low, high, whole = true} (whole numbers, both ends in) or {one_of = {…}}. The points "
    .. "depend "
    .. "on the seed, the names and nothing else: a larger n goes on where a smaller one ended (Bergstra & Bengio "
    .. "2012).",
    "local n = 0\nfor p in search.random({ x = { 0, 1 } }, { n = 5, seed = 1 }) do\n"
    .. "  n = n + (p.x >= 0 and p.x < 1 and 1 or 0)\nend\nprint(n)\n-- > 5",
    function(space, o)
      local name = "search.random"
      if type(space) ~= "table" then
        error(name .. ": expected { name = {low, high}, … }, got " .. core.kind(space), 2)
      end
      check(name, o, { "n", "seed" })
      local n, seed = o and o.n or 100, o and o.seed or 0
      if math.type(n) ~= "integer" or n < 1 then error(name .. ": n is a whole number, at least 1", 2) end
      local names, draw = names_of(space, name), {}
      for k, key in ipairs(names) do
        if type(space[key]) == "table" then
          check(name .. ": " .. key, space[key], { "log", "whole", "one_of" }, true)
        end
        draw[k] = range(name, key, space[key])
      end
      local numbers = tensor.rand({ n, #names }, seed, { dtype = "f64" }):totable()
      return new(name, n, function(i)
        local p = {}
        for k, key in ipairs(names) do p[key] = draw[k](numbers[i][k]) end
        return p
      end)
    end)
end
