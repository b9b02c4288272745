-- SPDX-License-Identifier: Apache-2.0
-- CMA-ES with the default parameters of the tutorial (N. Hansen 2016, arXiv:1604.00772): weighted
-- recombination with negative weights (active covariance), cumulation, step-size control by path length.
-- Bounds are kept by a smooth map of the whole line onto the box, the identity but near its ends, so
-- that the search itself never meets a wall. Everything is f64; each generation's numbers are a
-- function of (seed, generation), so a search that is run again asks the same questions.
return function(define, check, core)
  local journal = require "search.journal"
  local expect = require "expect"(core.kind)
  local ES = {}
  ES.__index = ES
  ES.__name = "cmaes"
  ES.__metatable = false
  local name = "search.cmaes"
  local f64 = { dtype = "f64" }

  -- ---- what a point looks like outside ----

  -- start -> list of numbers, function(list) -> a point of that form
  local function form_of(start)
    if core.kind(start) == "tensor" then
      local shape = {}
      for i = 1, #start.shape do shape[i] = start.shape[i] end
      local flat = start:to("f64"):flatten():totable()
      local dtype = start.dtype
      return flat, function(x) return tensor(x, f64):to(dtype):reshape(shape) end, nil
    elseif type(start) ~= "table" then
      error(name .. ": start is a list of numbers, { name = number, … } or a tensor, got " .. core.kind(start), 3)
    elseif #start > 0 then
      return { table.unpack(start) }, function(x) return { table.unpack(x) } end, nil
    end
    local keys, flat = {}, {}
    for key in pairs(start) do keys[#keys + 1] = key end
    table.sort(keys)
    for i, key in ipairs(keys) do flat[i] = start[key] end
    return flat, function(x)
      local p = {}
      for i, key in ipairs(keys) do p[key] = x[i] end
      return p
    end, keys
  end

  local function per_coordinate(v, n, keys, what, default)
    local out = {}
    for i = 1, n do
      local item = v
      if core.kind(v) == "tensor" then item = v:flatten():totable()[i] end
      if type(v) == "table" then item = v[keys and keys[i] or i] end
      if item == nil then item = default end
      if type(item) ~= "number" then
        error(("%s: %s is a number, or one for each coordinate"):format(name, what), 3)
      end
      out[i] = item
    end
    return out
  end

  -- ---- bounds ----

  -- The line onto [l, u]: the identity inside, parabolas of width 2 a around the ends, mirrored beyond.
  local function folded(x, l, u)
    if l == -math.huge and u == math.huge then return x end
    local al = math.min((u - l) / 2, (1 + math.abs(l)) / 20)
    local au = math.min((u - l) / 2, (1 + math.abs(u)) / 20)
    if l == -math.huge then al = 0 end
    if u == math.huge then au = 0 end
    if l > -math.huge and u < math.huge then
      local low, period = l - al, 2 * (u - l + al + au)
      local d = (x - low) % period
      x = low + (d > period / 2 and period - d or d)
    elseif l > -math.huge and x < l - al then
      x = 2 * (l - al) - x
    elseif u < math.huge and x > u + au then
      x = 2 * (u + au) - x
    end
    if l > -math.huge and x < l + al then return l + (x - (l - al)) ^ 2 / (4 * al) end
    if u < math.huge and x > u - au then return u - (x - (u + au)) ^ 2 / (4 * au) end
    return x
  end

  -- Where the search starts so that its point is x.
  local function unfolded(x, l, u)
    local al = l > -math.huge and math.min((u - l) / 2, (1 + math.abs(l)) / 20) or 0
    local au = u < math.huge and math.min((u - l) / 2, (1 + math.abs(u)) / 20) or 0
    if al > 0 and x < l + al then return l - al + 2 * math.sqrt(al * (x - l)) end
    if au > 0 and x > u - au then return u + au - 2 * math.sqrt(au * (u - x)) end
    return x
  end

  -- ---- parameters ----

  local function parameters(n, lambda)
    local p, w, positive, negative = { lambda = lambda, mu = lambda // 2 }, {}, 0, 0
    local sum, squares, sum_n, squares_n = 0, 0, 0, 0
    for i = 1, lambda do
      w[i] = math.log((lambda + 1) / 2) - math.log(i)
      if i <= p.mu then
        sum, squares = sum + w[i], squares + w[i] ^ 2
      else
        sum_n, squares_n = sum_n + w[i], squares_n + w[i] ^ 2
      end
      if w[i] >= 0 then positive = positive + w[i] else negative = negative - w[i] end
    end
    local mueff, mueff_n = sum ^ 2 / squares, sum_n ^ 2 / squares_n
    p.mueff = mueff
    p.cc = (4 + mueff / n) / (n + 4 + 2 * mueff / n)
    p.cs = (mueff + 2) / (n + mueff + 5)
    p.c1 = 2 / ((n + 1.3) ^ 2 + mueff)
    p.cmu = math.min(1 - p.c1, 2 * (0.25 + mueff + 1 / mueff - 2) / ((n + 2) ^ 2 + mueff))
    p.ds = 1 + 2 * math.max(0, math.sqrt((mueff - 1) / (n + 1)) - 1) + p.cs
    local least = math.min(1 + p.c1 / p.cmu, 1 + 2 * mueff_n / (mueff + 2), (1 - p.c1 - p.cmu) / (n * p.cmu))
    p.w, p.sum = {}, 0
    for i = 1, lambda do
      p.w[i] = w[i] >= 0 and w[i] / positive or least * w[i] / negative
      p.sum = p.sum + p.w[i]
    end
    p.chi = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n ^ 2))
    return p
  end

  -- ---- ask and tell ----

  local function column(list) return tensor(list, f64):reshape { #list, 1 } end

  -- C = B D^2 B', anew when enough has changed since (O(n^3) in one of many generations).
  local function decompose(self)
    local p, n = self.p, self.n
    if self.generation - (self.decomposed or -math.huge) <= 1 / (10 * n * (p.c1 + p.cmu)) then return end
    self.C = (self.C + self.C:t()) / 2
    local values, vectors = self.C:eigh()
    local list = values:totable()
    self.smallest, self.largest = list[1], list[n]
    if self.smallest <= 0 or self.smallest ~= self.smallest then
      error(name .. ": the covariance is no longer positive: the function's values may hold NaN", 3)
    end
    self.B, self.D = vectors, values:sqrt()
    self.root = vectors * self.D:reshape { 1, n }                       -- B D
    self.whiten = (vectors / self.D:reshape { 1, n }):matmul(vectors:t()) -- C^(-1/2)
    self.decomposed = self.generation
  end

  function ES:ask()
    if self.asked then error("search.cmaes: ask was called twice; tell the values of the first points", 2) end
    decompose(self)
    local seed = (self.seed * 0x9E3779B97F4A7C15 + self.generation * 0xD1B54A32D192ED03) & 0x7FFFFFFFFFFFFFFF
    local z = tensor.randn({ self.p.lambda, self.n }, seed, f64)
    self.y = z:matmul(self.root:t()) -- a row for each point
    local x = (self.mean:reshape { 1, self.n } + self.sigma * self.y):totable()
    local points = {}
    for k, row in ipairs(x) do
      local inside = {}
      for i, v in ipairs(row) do inside[i] = folded(v, self.low[i], self.high[i]) end
      row.inside = inside
      points[k] = self.form(inside)
    end
    self.asked = x
    return points
  end

  local function ranked(values)
    local order = {}
    for i = 1, #values do order[i] = i end
    table.sort(order, function(a, b)
      local x, y = values[a], values[b]
      if x ~= x then x = math.huge end
      if y ~= y then y = math.huge end
      if x ~= y then return x < y end
      return a < b
    end)
    return order
  end

  local function remember(self, values, order)
    local first = values[order[1]]
    if first == first and (not self.value or first < self.value) then
      self.value, self.x = first, self.asked[order[1]].inside
    end
    self.history[#self.history + 1] = first
    if #self.history > 10 + math.ceil(30 * self.n / self.p.lambda) then table.remove(self.history, 1) end
    self.spread = values[order[#order]] - first
  end

  function ES:tell(values)
    local p, n = self.p, self.n
    if not self.asked then error("search.cmaes: tell without ask", 2) end
    if core.kind(values) == "tensor" then values = values:flatten():totable() end
    if core.kind(values) ~= "table" then
      error("cmaes:tell: expected a list of values, got " .. expect.called(values), 2)
    end
    if #values ~= p.lambda then
      error(("search.cmaes: %d values were told for %d points"):format(#values, p.lambda), 2)
    end
    for i, v in ipairs(values) do
      if type(v) ~= "number" then error(("search.cmaes: value %d is a %s"):format(i, core.kind(v)), 2) end
    end
    local order = ranked(values)
    remember(self, values, order)
    self.evaluations, self.generation = self.evaluations + p.lambda, self.generation + 1
    local y = self.y:index_select(1, tensor(order):to "i64") -- best first
    local positive = {}
    for i = 1, p.lambda do positive[i] = i <= p.mu and p.w[i] or 0 end
    local step = tensor(positive, f64):reshape({ 1, p.lambda }):matmul(y):reshape { n } -- <y>_w
    self.mean = self.mean + self.sigma * step

    local white_step = self.whiten:matmul(step:reshape { n, 1 }):reshape { n }
    self.ps = (1 - p.cs) * self.ps + math.sqrt(p.cs * (2 - p.cs) * p.mueff) * white_step
    local length = self.ps:norm()
    local expected = math.sqrt(1 - (1 - p.cs) ^ (2 * self.generation))
    local h = length / expected < (1.4 + 2 / (n + 1)) * p.chi and 1 or 0
    self.pc = (1 - p.cc) * self.pc + h * math.sqrt(p.cc * (2 - p.cc) * p.mueff) * step

    -- Negative weights are scaled so that the covariance stays positive.
    local white = y:matmul(self.whiten)
    local squares = (white * white):sum(2):totable()
    local w = {}
    for i = 1, p.lambda do w[i] = p.w[i] >= 0 and p.w[i] or p.w[i] * n / (squares[i] + 1e-300) end
    local pc = self.pc:reshape { n, 1 }
    self.C = (1 + p.c1 * (1 - h) * p.cc * (2 - p.cc) - p.c1 - p.cmu * p.sum) * self.C
      + p.c1 * pc:matmul(pc:t()) + p.cmu * y:t():matmul(column(w) * y)
    self.sigma = self.sigma * math.exp(math.min(1, p.cs / p.ds * (length / p.chi - 1)))
    self.asked, self.y = nil, nil
  end

  function ES:stopped()
    local o = self.options
    if o.target and self.value and self.value <= o.target then return "target" end
    if self.evaluations >= o.evals then return "evals" end
    if self.generation == 0 then return nil end
    if self.largest > 1e14 * self.smallest then return "condition" end
    local size = self.sigma * math.max(self.pc:abs():max(), math.sqrt(self.largest))
    if size < o.tolx then return "tolx" end
    if #self.history >= 10 + math.ceil(30 * self.n / self.p.lambda) then
      local low, high = math.huge, -math.huge
      for _, v in ipairs(self.history) do low, high = math.min(low, v), math.max(high, v) end
      if high - low < o.tolfun and self.spread < o.tolfun then return "tolfun" end
    end
    return nil
  end

  function ES:best()
    if self.x then return self.form(self.x), self.value end
  end

  -- What the journal knows is not computed again: the search asks for the same points.
  function ES:journal(path)
    self.path, self.known = expect.one("cmaes:journal", nil, path, "the path of a file"), {}
    for _, row in ipairs(journal.read(path)) do self.known[journal.text(row.point)] = row.value end
    return self
  end

  local function evaluate(self, f, x, p)
    local key = self.path and journal.text(x)
    local v = key and self.known[key]
    if v == nil then
      v = f(p)
      if type(v) ~= "number" then error(name .. ": the function gave a " .. core.kind(v) .. ", not a number", 3) end
      if key then journal.append(self.path, { point = x, value = v }) end
    end
    return v
  end

  function ES:minimise(f)
    expect.one("cmaes:minimise", nil, f, "a function")
    while not self:stopped() do
      local points, values = self:ask(), {}
      for k, p in ipairs(points) do values[k] = evaluate(self, f, self.asked[k].inside, p) end
      self:tell(values)
    end
    local x, v = self:best()
    return x, v, self:stopped()
  end

  ES.__tostring = function(self)
    return ("%s of %d numbers: %d evaluations, best %s, sigma %.3g"):format(name, self.n, self.evaluations,
      self.value and ("%.6g"):format(self.value) or "unknown", self.sigma)
  end

  local names = { "start", "sigma", "low", "high", "seed", "popsize", "target", "evals", "tolx", "tolfun" }

  local function new(o)
    if type(o) ~= "table" then error(name .. ": expected { start =, sigma =, … }, got " .. core.kind(o), 2) end
    check(name, o, names)
    if o.start == nil then error(name .. ": start is missing, the point around which the search begins", 2) end
    local start, form, keys = form_of(o.start)
    local n = #start
    local low = per_coordinate(o.low, n, keys, "low", -math.huge)
    local high = per_coordinate(o.high, n, keys, "high", math.huge)
    local mean = {}
    for i, v in ipairs(start) do
      if type(v) ~= "number" then error(name .. ": start holds a " .. core.kind(v) .. ", not a number", 2) end
      if low[i] >= high[i] then
        error(("%s: low is not below high for %s"):format(name, keys and keys[i] or i), 2)
      end
      if v < low[i] or v > high[i] then
        error(("%s: start is outside of the bounds for %s"):format(name, keys and keys[i] or i), 2)
      end
      mean[i] = unfolded(v, low[i], high[i])
    end
    local lambda = o.popsize or 4 + math.floor(3 * math.log(n))
    if math.type(lambda) ~= "integer" or lambda < 2 then error(name .. ": popsize is a whole number, at least 2", 2) end
    if type(o.sigma) ~= "number" or o.sigma <= 0 then
      error(name .. ": sigma is missing: a number above 0, about a third of how far the minimum may be", 2)
    end
    local self = setmetatable({ n = n, form = form, low = low, high = high, seed = math.tointeger(o.seed or 0),
      options = { target = o.target, evals = o.evals or math.floor(1e3 * n ^ 2), tolx = o.tolx or 1e-12 * o.sigma,
        tolfun = o.tolfun or 1e-12 },
      mean = tensor(mean, f64), sigma = o.sigma, generation = 0, evaluations = 0, history = {},
      ps = tensor.zeros({ n }, f64), pc = tensor.zeros({ n }, f64), C = tensor.eye(n, f64) }, ES)
    self.p = parameters(n, lambda)
    return self
  end

  define("search.cmaes",
    "search.cmaes {start =, sigma =, low =, high =, seed = 0, popsize =, target =, evals =, tolx =, tolfun =} -> es",
    "CMA-ES, the covariance matrix adaptation evolution strategy, with the default parameters of Hansen's tutorial "
    .. "(arXiv:1604.00772): a population of 4 + floor(3 ln n) points a generation, weights of both signs. For some "
    .. "to some hundred numbers, and functions that are noisy, rugged or have no gradient. es:minimise(f) does all; "
    .. "es:ask() and es:tell(values) leave the evaluation to you; es:best() is the best point so far and its value.\n"
    .. "  start: a list of numbers, { name = number } or a tensor; points have the same form\n"
    .. "  sigma: the standard deviation of the first points, in each coordinate\n"
    .. "  low, high: bounds, a number or one for each coordinate\n"
    .. "  seed: the same seed asks the same points\n"
    .. "  popsize: points of one generation\n"
    .. "  target: stops when a value is at most this\n"
    .. "  evals: stops after so many evaluations (1000 n^2)\n"
    .. "  tolx, tolfun: stops when steps (1e-12 sigma) or values (1e-12) differ by less",
    "local es = search.cmaes { start = { 1, 1 }, sigma = 0.5, seed = 1 }\n"
    .. "local x, v = es:minimise(function(p) return (p[1] - 3) ^ 2 + 10 * (p[2] + 1) ^ 2 end)\n"
    .. "print(math.abs(x[1] - 3) < 1e-5, v < 1e-10)\n-- > true\ttrue", new)

  define("cmaes:minimise", "es:minimise(f) -> point, value, reason",
    "Runs the search: f(point) is a number, the less the better (NaN counts as the worst). Gives the best point, its "
    .. "value and why it stopped: target, evals, tolx, tolfun or condition.",
    "print(select(3, search.cmaes({ start = { x = 1 }, sigma = 1, target = 0.01 }):minimise(function(p) return "
      .. "p.x ^ 2 end)))\n"
    .. "-- > target", ES.minimise)
  define("cmaes:ask", "es:ask() -> {point, …}", "The points of the next generation.",
    "print(#search.cmaes({ start = { 0, 0, 0 }, sigma = 1 }):ask())\n-- > 7", ES.ask)
  define("cmaes:tell", "es:tell { value, … }", "What the points of the last es:ask gave, in their order.",
    "local es = search.cmaes { start = { 1, 1 }, sigma = 0.5, seed = 1 }\nfor _ = 1, 60 do\n  local values = {}\n"
    .. "  for k, p in ipairs(es:ask()) do values[k] = p[1] ^ 2 + p[2] ^ 2 end\n  es:tell(values)\nend\n"
    .. "print(select(2, es:best()) < 1e-8)\n-- > true", ES.tell)
  define("cmaes:journal", "es:journal(path) -> es",
    "Keeps what es:minimise evaluates in a file; a run that is started again with the same options and seed goes on "
    .. "from there.",
    "local path, n = os.tmpname(), 0\nfor _ = 1, 2 do\n  search.cmaes({ start = { 1 }, sigma = 1, seed = 2, "
      .. "evals = 40 }):journal(path)\n"
    .. "    :minimise(function(p) n = n + 1 return p[1] ^ 2 end)\nend\nprint(n)\nos.remove(path)\n-- > 40", ES.journal)
end
