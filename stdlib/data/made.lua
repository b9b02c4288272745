-- SPDX-License-Identifier: Apache-2.0
-- Data sets that are computed: points in the plane, clusters, modular addition. All are functions of their
-- options and seed; each use of randomness draws a tensor of its own, so changing one option leaves the rest as it is.

return function(define, check, core, sets)
  local whole = sets.whole

  local function number(v, what, name, least)
    if type(v) ~= "number" or v ~= v or v < least or v == math.huge then
      error(string.format("%s: %s must be a number of at least %g, got %s", what, name, least, sets.shown(v)), 4)
    end
    return v
  end

  -- Reads { n =, noise =, seed = } and further options; the generator draws the noise last.
  local function options(what, o, extra, n, noise)
    local names = { "n", "noise", "seed" }
    table.move(extra, 1, #extra, 4, names)
    o = o or {}
    check(what, o, names)
    return whole(o.n or n, what, "n", 1), number(o.noise or noise, what, "noise", 0), whole(o.seed or 0, what, "seed",
      0), o
  end

  local function plane(name, x, y, classes, seed, noise, shuffle)
    local n = #y
    x = x + noise * tensor.randn({ n, 2 }, seed)
    local order = shuffle and core.order(n, seed, 1) or tensor.arange(n)
    local function pick(t) return core.take(core.batcher(t, { raw = true }), order, 0, n) end
    return sets.new { x = pick(x), columns = { y = pick(y) }, classes = classes, name = name }
  end

  -- n examples over k classes: the first ones have one more.
  local function share(n, k, c) return n // k + (c < n % k and 1 or 0) end

  local function columns(a, b) return tensor.stack({ a, b }, 2) end

  local function two_moons(o)
    local n, noise, seed = options("data.two_moons", o, {}, 500, 0.1)
    local n0, n1 = share(n, 2, 0), share(n, 2, 1)
    local x, y = {}, {}
    for c, m in ipairs { n0, n1 } do
      if m > 0 then
        local t = tensor.linspace(0, math.pi, m)
        x[#x + 1] = c == 1 and columns(t:cos(), t:sin()) or columns(1 - t:cos(), 0.5 - t:sin())
        y[#y + 1] = tensor.full({ m }, c - 1, { dtype = "i64" })
      end
    end
    return plane("two moons", tensor.cat(x, 1), tensor.cat(y, 1), 2, seed, noise, true)
  end

  local function spirals(o)
    local what = "data.spirals"
    local n, noise, seed, p = options(what, o, { "classes", "turns" }, 500, 0.02)
    local classes, turns = whole(p.classes or 2, what, "classes", 1), number(p.turns or 1.5, what, "turns", 0)
    local x, y = {}, {}
    for c = 0, classes - 1 do
      local m = share(n, classes, c)
      if m > 0 then
        local r = tensor.linspace(0.05, 1, m)
        local angle = r * (2 * math.pi * turns) + 2 * math.pi * c / classes
        x[#x + 1] = columns(r * angle:cos(), r * angle:sin())
        y[#y + 1] = tensor.full({ m }, c, { dtype = "i64" })
      end
    end
    return plane("spirals", tensor.cat(x, 1), tensor.cat(y, 1), classes, seed, noise, true)
  end

  -- A factor A with A A' = cov, from what was given for class k: a deviation, a list of them, a matrix.
  local function factor(cov, k, dim, what)
    local several = type(cov) == "table" and type(cov[k]) == "table" and type(cov[1]) == "table"
    local v = several and type(cov[1][1]) == "table" and cov[k] or cov
    if type(v) == "number" then return tensor.eye(dim) * math.sqrt(number(v, what, "cov", 0)) end
    if type(v) == "userdata" or (type(v) == "table" and type(v[1]) == "table") then
      local m = tensor(v, { dtype = "f64" })
      if tostring(m.shape) ~= string.format("[%d, %d]", dim, dim) then
        error(string.format("%s: a covariance is [%d, %d]; got %s", what, dim, dim, tostring(m.shape)), 4)
      end
      return m:cholesky():to "f32"
    end
    if type(v) ~= "table" or #v ~= dim then
      error(string.format("%s: cov is a variance, a list of %d variances, or matrices", what, dim), 4)
    end
    local d = tensor.zeros { dim, dim }
    for i, s in ipairs(v) do d:set_({ i, i }, math.sqrt(number(s, what, "cov", 0))) end
    return d
  end

  local function gaussians(o)
    local what = "data.gaussians"
    o = o or {}
    check(what, o, { "n", "means", "cov", "classes", "dim", "spread", "seed" })
    local n, seed = whole(o.n or 500, what, "n", 1), whole(o.seed or 0, what, "seed", 0)
    local means = o.means
    if means == nil then
      means = tensor.randn({ whole(o.classes or 3, what, "classes", 1), whole(o.dim or 2, what, "dim", 1) },
        seed + 1) * number(o.spread or 3, what, "spread", 0)
    elseif o.classes or o.dim or o.spread then
      error(what .. ": classes, dim and spread follow from means", 2)
    end
    means = tensor(means)
    if means.rank ~= 2 then error(what .. ": means is a list of points, { {0, 0}, {3, 1} }", 2) end
    local classes, dim = means.shape[1], means.shape[2]
    local z, x, y, from = tensor.randn({ n, dim }, seed), {}, {}, 0
    for c = 0, classes - 1 do
      local m = share(n, classes, c)
      if m > 0 then
        local part = z[{ { from + 1, from + m } }]
        x[#x + 1] = part:matmul(factor(o.cov or 1, c + 1, dim, what):t()) + means[c + 1]
        y[#y + 1] = tensor.full({ m }, c, { dtype = "i64" })
        from = from + m
      end
    end
    local order = core.order(n, seed, 1)
    local function pick(t) return core.take(core.batcher(t, { raw = true }), order, 0, n) end
    return sets.new { x = pick(tensor.cat(x, 1)), columns = { y = pick(tensor.cat(y, 1)) }, classes = classes,
      name = "gaussians" }
  end

  local function modular_addition(p, fraction, o)
    local what = "data.modular_addition"
    whole(p, what, "p", 2)
    if type(fraction) ~= "number" or not (fraction > 0 and fraction <= 1) then
      error(string.format("%s: the fraction to train on is %s; expected a share up to 1", what,
        sets.shown(fraction)), 2)
    end
    o = o or {}
    check(what, o, { "seed", "equals" })
    local k = tensor.arange(p * p)
    local a, b = k:floor_divide(p), k:remainder(p)
    local parts = { a, b }
    if o.equals ~= false then parts[3] = tensor.full({ p * p }, p, { dtype = "i64" }) end
    local all = sets.new { x = tensor.stack(parts, 2), columns = { y = (a + b):remainder(p) }, classes = p,
      name = "addition modulo " .. p, tokens = true, vocabulary = o.equals ~= false and p + 1 or p }
    local count = math.floor(fraction * p * p + 0.5)
    local order = core.order(p * p, whole(o.seed or 0, what, "seed", 0), 0)
    local function part(first, n, name)
      return sets.derive(all, { rows = core.take(core.batcher(order, { raw = true }), tensor.arange(p * p), first, n),
        name = string.format("%s, %s", all.name, name) })
    end
    return { train = part(0, count, "train"), test = part(count, p * p - count, "test"), all = all }
  end

  define("data.two_moons", "data.two_moons { n = 500, noise = 0.1, seed = 0 } -> data set",
    "Two half circles of radius 1 that reach into one another: class 0 around (0, 0), class 1 around (1, 0.5), "
      .. "evenly along each, with "
    .. "normal noise, in random order.", "print(data.two_moons { n = 200, seed = 1 })\n-- > two moons: 200 vectors "
    .. "of 2 (f32), 2 classes of 100 each",
    two_moons)
  define("data.spirals", "data.spirals { n = 500, classes = 2, turns = 1.5, noise = 0.02, seed = 0 } -> data set",
    "Arms that wind around (0, 0) out to radius 1, one a class.",
    "print(data.spirals { n = 300, classes = 3 })\n-- > spirals: 300 vectors of 2 (f32), 3 classes of 100 "
      .. "each", spirals)
  define("data.gaussians", "data.gaussians { n = 500, means = {{…}, …}, cov = 1, classes = 3, dim = 2, spread = 3, "
    .. "seed = 0 } -> data set",
    "Normal clusters, one a class. means: the centres; without them `classes` centres in `dim` dimensions, drawn "
      .. "with standard deviation "
    .. "`spread`. cov: one variance, a variance for each dimension, a covariance matrix, or a list of matrices, "
    .. "one a class.",
    "local d = data.gaussians { n = 100, means = { { 0, 0 }, { 10, 10 } }, cov = { { 1, 0.9 }, { 0.9, 1 } }, seed "
      .. "= 1 }\n"
    .. "print(d)\n-- > gaussians: 100 vectors of 2 (f32), 2 classes of 50 each", gaussians)
  define("data.modular_addition", "data.modular_addition(p, fraction, {seed = 0, equals = true}) -> {train =, test "
    .. "=, all =}",
    "All p² sums (a + b) mod p as token sequences a, b, = (token p; without it where equals is false): a random "
      .. "`fraction` to train on, the rest to "
    .. "test. d.vocabulary counts the tokens. The data of Power et al., \"Grokking\", 2022.",
    "local d = data.modular_addition(7, 0.4)\nprint(d.train.n, d.test.n, d.train.vocabulary, d.all.y[7 * 5 + 4 + "
      .. "1])\n-- > 20\t29\t8\t2",
    modular_addition)
end
