-- SPDX-License-Identifier: Apache-2.0
-- Models along a line or over a simplex, judged by several scores: the table that papers print, and what is
-- best in it where scores disagree. Models are made when a score asks for them; a table keeps numbers only.
return function(define, check, core)
  local Sweep = {}
  local expect = require "expect"(core.kind)

  -- ---- what is not dominated ----

  local function is_less(o, field)
    if o == nil or o.less == nil then return false end
    if type(o.less) ~= "table" then return o.less end
    for _, name in ipairs(o.less) do
      if name == field then return true end
    end
    return false
  end

  -- The rows that no other row beats: at least as good in every field and better in one.
  local function pareto(what, rows, fields, o)
    local values = {}
    for i = 1, #rows do
      local row = rows[i]
      if type(row) ~= "table" or core.kind(row) == "dataset" then
        error(("%s: row %d is %s, expected a table of numbers"):format(what, i, expect.called(row)), 0)
      end
      values[i] = {}
      for j = 1, #fields do
        local field = fields[j]
        local v = field ~= nil and row[field]
        if type(v) ~= "number" then
          error(("%s: %s of row %d is a %s, not a number"):format(what, tostring(field), i, core.kind(v)), 0)
        end
        values[i][j] = v ~= v and -math.huge or is_less(o, field) and -v or v
      end
    end
    local function beats(x, y)
      local better = false
      for j = 1, #fields do
        if x[j] < y[j] then return false end
        better = better or x[j] > y[j]
      end
      return better
    end
    local front, index = {}, {}
    for i, v in ipairs(values) do
      local beaten = false
      for j = 1, #rows do
        if beats(values[j], v) then
          beaten = true
          break
        end
      end
      if not beaten then front[#front + 1], index[#index + 1] = rows[i], i end
    end
    return front, index
  end

  define("search.pareto", "search.pareto(rows, {\"field\", …}, {less = false}) -> rows, indices",
    "The Pareto front: the rows (tables with numbers under these fields) that no other row beats, that is, is at least "
    .. "as good as in every field and better in one; in their order. Rows that are equal stay together; NaN is the "
    .. "worst.\n"
    .. "  less: true where less is better, or a list of the fields for which it is",
    "local rows = { { a = 1, b = 3 }, { a = 2, b = 2 }, { a = 1, b = 2 }, { a = 3, b = 1 } }\n"
    .. "print(table.concat(select(2, search.pareto(rows, { \"a\", \"b\" })), \" \"))\n-- > 1 2 4",
    function(rows, fields, o)
      check("search.pareto", o, { "less" })
      if type(rows) ~= "table" or core.kind(fields) ~= "table" or #fields == 0 then
        error("search.pareto: expected rows and a list of fields", 0)
      end
      return pareto("search.pareto", rows, fields, o)
    end)

  -- ---- the table ----

  -- Scores as { {name, f}, … } in byte order of names.
  local function scores_of(what, scores)
    if expect.fits(scores, "a function") then scores = { score = scores } end
    if core.kind(scores) ~= "table" or next(scores) == nil then
      error(what .. ": expected scores: { id = function of a model, ood = … }, got " .. core.kind(scores), 0)
    end
    local list = {}
    for name, f in pairs(scores) do
      if type(name) ~= "string" then
        error(("%s: scores have names, as in { id = f, ood = g }"):format(what), 0)
      end
      list[#list + 1] = { name, expect.one(what, "score " .. name, f, "a function") }
    end
    table.sort(list, function(x, y) return x[1] < y[1] end)
    return list
  end

  -- keys: the names of the coordinates; points: rows with them; at(row) -> model.
  local function swept(what, keys, points, at, scores, o)
    local list = scores_of(what, scores)
    local self = { keys = keys, scores = {}, at_row = at, what = what, less = o and o.less }
    for i, s in ipairs(list) do
      self.scores[i] = s[1]
      for _, key in ipairs(keys) do
        if key == s[1] then error(("%s: a score cannot be called %s"):format(what, key), 0) end
      end
    end
    for i, point in ipairs(points) do
      local m, row = at(point), {}
      for _, key in ipairs(keys) do row[key] = point[key] end
      for _, s in ipairs(list) do
        local v = s[2](m)
        if type(v) ~= "number" then
          error(("%s: score %s is a %s, not a number"):format(what, s[1], core.kind(v)), 0)
        end
        row[s[1]] = v
      end
      self[i] = row
    end
    return setmetatable(self, Sweep)
  end

  local methods = {}
  Sweep.__index, Sweep.__name, Sweep.__metatable = methods, "sweep", false

  function methods.model(self, row)
    if type(row) ~= "table" then error("sweep:model: expected a row of the table", 2) end
    return self.at_row(row)
  end

  function methods.best(self, by)
    local less = type(by) == "string" and is_less(self, by)
    local best, most
    for _, row in ipairs(self) do
      local v
      if type(by) == "function" then v = by(row) else v = row[by or self.scores[1]] end
      if type(v) ~= "number" then
        error(("sweep:best: %s is no score of this table"):format(tostring(by)), 2)
      end
      if less then v = -v end
      if v == v and (not most or v > most) then best, most = row, v end
    end
    return best, best and self.at_row(best)
  end

  function methods.front(self, fields)
    return (pareto("sweep:front", self, fields or self.scores, self))
  end

  Sweep.__tostring = function(self)
    local columns, lines, widths = {}, {}, {}
    for _, key in ipairs(self.keys) do columns[#columns + 1] = key end
    for _, name in ipairs(self.scores) do columns[#columns + 1] = name end
    for i = 0, #self do
      lines[i] = {}
      for j, key in ipairs(columns) do
        local text = i == 0 and key or (j <= #self.keys and "%.4g" or "%.4f"):format(self[i][key])
        lines[i][j], widths[j] = text, math.max(widths[j] or 0, #text)
      end
    end
    local out = {}
    for i = 0, #self do
      for j, text in ipairs(lines[i]) do lines[i][j] = (" "):rep(widths[j] - #text) .. text end
      out[i + 1] = table.concat(lines[i], "  ")
    end
    return table.concat(out, "\n")
  end

  local table_of = " The result is a table of rows: s[i] has the coordinates and the scores by name, print(s) shows "
    .. "it, s:best(name) or s:best(function(row) … end) gives the row with the most and its model, s:front { names } "
    .. "the rows that no other beats, s:model(row) the model of a row.\n"
    .. "  scores: { id = f, ood = g }, functions of a model as eval.accuracy(net, data) makes; more is better\n"
    .. "  less: true where less is better, or a list of the names for which it is"

  local function line(what, a, default)
    a = a or default
    if type(a) ~= "table" or #a == 0 then error(what .. ": alphas is a list of numbers", 0) end
    local points = {}
    for i, v in ipairs(a) do
      if type(v) ~= "number" or v ~= v then error(what .. ": alphas is a list of numbers", 0) end
      points[i] = { alpha = v }
    end
    return points
  end

  local function evenly(from, to, n)
    local list = {}
    for i = 0, n do list[i + 1] = from + (to - from) * i / n end
    return list
  end

  local function two_models(what, a, b)
    for _, m in ipairs { a, b } do
      if core.kind(m) ~= "model" then error(what .. ": expected two models, got a " .. core.kind(m), 0) end
    end
    if core.kind(b) ~= "model" then error(what .. ": expected two models", 0) end
  end

  local setup = [[
local net, d = nn.mlp { 64, 128, 64, 10 }, data.digits().test
local base, low = model.load "examples/data/base.safetensors", model.load "examples/data/low.safetensors"
local scores = { id = eval.accuracy(net, d:classes_only { 0, 1, 2, 3, 4 }), ood = eval.accuracy(net, d) }
]]

  define("search.wise_ft", "search.wise_ft(base, tuned, scores, {alphas = {0, 0.1, …, 1}, less =}) -> table",
    "WiSE-FT (Wortsman et al. 2022, arXiv:2109.01903): (1 - alpha) base + alpha tuned for each alpha, judged by every "
    .. "score: accuracy where the model was tuned against accuracy on shifted data. At the ends the two models "
    .. "themselves are judged." .. table_of,
    setup .. [[
local s = search.wise_ft(base, low, scores, { alphas = { 0, 0.5, 1 } })
print(#s, s[1].ood == scores.ood(base), s:best("ood").alpha)
-- > 3	true	0]],
    function(base, tuned, scores, o)
      local what = "search.wise_ft"
      check(what, o, { "alphas", "less" })
      two_models(what, base, tuned)
      return swept(what, { "alpha" }, line(what, o and o.alphas, evenly(0, 1, 10)), function(p)
        if p.alpha == 0 then return base elseif p.alpha == 1 then return tuned end
        return (1 - p.alpha) * base + p.alpha * tuned
      end, scores, o)
    end)

  define("search.expo", "search.expo(start, aligned, scores, {alphas = {0, 0.1, …, 0.5}, less =}) -> table",
    "ExPO (Zheng et al. 2024, arXiv:2404.16792): aligned + alpha (aligned - start) for each alpha: beyond a model, "
    .. "in the direction in which its training moved it." .. table_of,
    setup .. [[
local s = search.expo(base, low, scores, { alphas = { 0, 0.25 } })
print(s[1].id == scores.id(low), #s:front())
-- > true	1]],
    function(start, aligned, scores, o)
      local what = "search.expo"
      check(what, o, { "alphas", "less" })
      two_models(what, start, aligned)
      return swept(what, { "alpha" }, line(what, o and o.alphas, evenly(0, 0.5, 5)), function(p)
        if p.alpha == 0 then return aligned end
        return aligned + p.alpha * (aligned - start)
      end, scores, o)
    end)

  -- ---- simplex ----

  -- All weights that are multiples of 1 / k and sum to one, the first varying slowest from 1 to 0.
  local function simplex(n, k)
    local list = {}
    local function fill(prefix, left)
      if #prefix == n - 1 then
        local w = { table.unpack(prefix) }
        w[n] = left
        for i = 1, n do w[i] = w[i] / k end
        list[#list + 1] = w
        return
      end
      for v = left, 0, -1 do
        prefix[#prefix + 1] = v
        fill(prefix, left - v)
        prefix[#prefix] = nil
      end
    end
    fill({}, k)
    return list
  end

  define("search.rewarded_soups", "search.rewarded_soups({a, b, …}, rewards, {steps = 10, weights =, less =}) -> table",
    "Rewarded soups (Rame et al. 2023, arXiv:2306.04488): sum_k w_k theta_k of models that were each tuned for a "
    .. "reward of their own, for all weights w1, w2, … that are multiples of 1 / steps and sum to one, judged by "
    .. "every reward. s:front() is the Pareto front of the rewards."
    .. table_of:gsub("scores: { id = f, ood = g }", "rewards: { a = f, b = g }")
    .. "\n  weights: a list of lists in the place of that lattice",
    [[
local function point(x, y) return model.new { { "w", tensor { x, y } } } end
local function near(x, y) return function(m) return -(m["w"] - tensor { x, y }):norm() end end
local s = search.rewarded_soups({ point(0, 0), point(1, 0), point(0, 2) }, { one = near(0, 0), two = near(1, 0) },
  { steps = 4 })
print(#s, #s:front())
-- > 15	5]],
    function(list, rewards, o)
      local what = "search.rewarded_soups"
      check(what, o, { "steps", "weights", "less" })
      o = o or {}
      if core.kind(list) ~= "table" or #list < 2 then error(what .. ": expected two or more models", 0) end
      for k = 1, #list do expect.one(what, "item " .. k, list[k], "a model") end
      local steps = o.steps or 10
      if math.type(steps) ~= "integer" or steps < 1 then error(what .. ": steps is a whole number, at least 1", 0) end
      local keys, points = {}, {}
      for k = 1, #list do keys[k] = "w" .. k end
      for i, w in ipairs(o.weights or simplex(#list, steps)) do
        local p = {}
        for k, key in ipairs(keys) do
          if type(w) ~= "table" or #w ~= #list or type(w[k]) ~= "number" then
            error(("%s: weights[%d] is not a list of %d numbers"):format(what, i, #list), 0)
          end
          p[key] = w[k]
        end
        points[i] = p
      end
      return swept(what, keys, points, function(p)
        local sum
        for k, key in ipairs(keys) do
          if p[key] == 1 then sum = sum and sum + list[k] or list[k]
          elseif p[key] ~= 0 then sum = sum and sum + p[key] * list[k] or p[key] * list[k] end
        end
        return sum or 0 * list[1]
      end, rewards, o)
    end)
end
