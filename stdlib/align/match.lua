-- SPDX-License-Identifier: Apache-2.0
-- Hard maps of classes that fit scores best. A term scores pairs of places along one axis: score[i, j] says how well
-- place i of the first network and place j of the second fit, where a place is a tuple of places in the factors of the
-- axis (a head, and a feature inside it). The sum over all places is to be as large as it can be.
--
-- One class is one assignment. A class that others lie under (a head) is scored by the best that the inner ones
-- reach in each pair of its places, so that both are solved together (the nested assignment of Verma and Elbayad 2024,
-- arXiv:2403.00986). Classes side by side in one axis (query heads in their group, and features) are solved in turn,
-- each first against a uniform mixture of the others, until nothing is gained.
local match = {}
local rounds, least = 20, 1e-12

-- ---- terms: { classes = { id, … } outermost first, sizes = { … }, score = [N, N] } ----

local function place_of(term, c)
  for q, other in ipairs(term.classes) do
    if other == c then return q end
  end
end

-- How a term looks from the factor q: classes and sizes without it, what lies before and behind.
local function around(term, q)
  local classes, sizes, before, behind = {}, {}, 1, 1
  for k, c in ipairs(term.classes) do
    if k ~= q then classes[#classes + 1], sizes[#sizes + 1] = c, term.sizes[k] end
    if k < q then before = before * term.sizes[k] elseif k > q then behind = behind * term.sizes[k] end
  end
  return { classes = classes, sizes = sizes }, before, term.sizes[q], behind
end

-- The term with the factor q at place i here and k there.
local function at(term, q, i, k)
  local out, before, n, behind = around(term, q)
  local t = term.score:reshape { before, n, behind, before, n, behind }
  out.score = t[{ {}, { i, i }, {}, {}, { k, k }, {} }]:reshape { before * behind, before * behind }
  return out
end

-- The term summed over the factor q, with weights [n, n] of pairs; a number where no other is left.
local function summed(term, q, weights)
  local out, before, n, behind = around(term, q)
  if #out.classes == 0 then return (term.score * weights):sum() end
  local t = term.score:reshape { before, n, behind, before, n, behind }:permute { 1, 3, 4, 6, 2, 5 }
  local size = before * behind
  out.score = t:reshape { size * size, n * n }:matmul(weights:reshape { n * n }):reshape { size, size }
  return out
end

-- ---- one level ----

local function lies_under(layout, c, outer)
  for _, u in ipairs(layout.classes[c].under or {}) do
    if u == outer then return true end
  end
  return false
end

-- Those of `classes` (a list) that lie under c.
local function inner_of(layout, classes, c)
  local list = {}
  for _, other in ipairs(classes) do
    if lies_under(layout, other, c) then list[#list + 1] = other end
  end
  return list
end

local function pairs_of(index, sign)
  local n = index.shape[1]
  local one = index:unsqueeze(2):eq(tensor.arange(n) + 1):to "f64"
  return sign and one * sign:to "f64":unsqueeze(2) or one
end

-- A term without c and what lies under it, by the solution there is (nil: all pairs the same); a number or a term.
local function without(layout, term, c, solution)
  local inner = inner_of(layout, term.classes, c)
  local q = place_of(term, c)
  local n = term.sizes[q]
  if not solution then
    local rest = summed(term, q, tensor.full({ n, n }, 1 / n, { dtype = "f64" }))
    for _, x in ipairs(inner) do
      if type(rest) == "table" and place_of(rest, x) then rest = without(layout, rest, x, nil) end
    end
    return rest
  end
  if #inner == 0 then return summed(term, q, pairs_of(solution.index, solution.sign)) end
  local total
  for i = 1, n do
    local rest = at(term, q, i, math.tointeger(solution.index[i]))
    for _, x in ipairs(inner) do
      if type(rest) == "table" and place_of(rest, x) then rest = without(layout, rest, x, solution.inner[i][x]) end
    end
    if not total then total = rest
    elseif type(rest) == "table" then total.score = total.score + rest.score
    else total = total + rest end
  end
  return total
end

-- A term summed over everything but the class `but` and what lies under it: a term, or a number.
local function reduced(layout, term, solved, but)
  if type(term) ~= "table" then return term end
  for _, c in ipairs(term.classes) do
    if c ~= but and not (but and lies_under(layout, c, but)) then
      local top = true
      for _, u in ipairs(layout.classes[c].under or {}) do top = top and not place_of(term, u) end
      if top then return reduced(layout, without(layout, term, c, solved[c]), solved, but) end
    end
  end
  return term
end

local function assigned(score)
  local index = align.assignment(score, { maximise = true })
  return index
end

local level

-- The map of c that is fixed, where the classes that it lies under have the places of `path`.
local function fixed_at(job, c, path)
  local m, instance = job.fixed[c], 1
  if not m then return nil end
  for _, u in ipairs(job.layout.classes[c].under or {}) do
    instance = (instance - 1) * job.layout.classes[u].size + path[u]
  end
  return { index = m.index[instance], sign = m.sign and m.sign[instance] }
end

-- The best map of the class c by terms over it and what lies under it.
local function best_of(job, c, terms, classes, path)
  local layout = job.layout
  local inner, n, score = inner_of(layout, classes, c), layout.classes[c].size, nil
  local fixed = fixed_at(job, c, path)
  if #inner == 0 then
    if fixed then return fixed end
    for _, term in ipairs(terms) do score = score and score + term.score or term.score end
    local flips = job.flips(layout.classes[c])
    local index = assigned(flips and score:abs() or score)
    local sign
    if flips then
      local at_match = score:gather(2, index:unsqueeze(2)):reshape { n }
      sign = tensor.where(at_match:lt(0), -1, 1):to "f32"
    end
    return { index = index, sign = sign }
  end
  local values, found = {}, {}
  for i = 1, n do
    values[i], found[i] = {}, {}
    path[c] = i
    local first, last = 1, n
    if fixed then first = math.tointeger(fixed.index[i]) last = first end
    for k = first, last do
      local parts, value = {}, 0.0
      for _, term in ipairs(terms) do
        local q = place_of(term, c)
        if #term.classes == 1 then
          value = value + (term.score[{ i, k }])
        else
          parts[#parts + 1] = at(term, q, i, k)
        end
      end
      local solved, inside = level(job, parts, inner, path)
      values[i][k], found[i][k] = value + inside, solved
    end
  end
  path[c] = nil
  local solution = { inner = {}, sign = fixed and fixed.sign }
  solution.index = fixed and fixed.index or assigned(tensor(values, { dtype = "f64" }))
  for i = 1, n do solution.inner[i] = found[i][math.tointeger(solution.index[i])] end
  return solution
end

-- { [class] = { index =, sign =, inner = { [place] = solutions } } }, value. classes: those to be solved here and
-- below; path: the places, in the first network, of the classes that these lie under.
function level(job, terms, classes, path)
  local layout, tops, solved = job.layout, {}, {}
  for _, c in ipairs(classes) do
    local top = true
    for _, u in ipairs(classes) do top = top and not lies_under(layout, c, u) end
    tops[#tops + 1] = top and c or nil
  end
  local value
  for round = 1, #tops > 1 and rounds or 1 do
    local before, changed = value, {}
    for _, c in ipairs(tops) do
      local own = {}
      for _, term in ipairs(terms) do
        if place_of(term, c) then own[#own + 1] = reduced(layout, term, solved, c) end
      end
      changed[c] = solved[c]
      if #own > 0 then solved[c] = best_of(job, c, own, classes, path) end
    end
    value = 0.0
    for _, term in ipairs(terms) do value = value + reduced(layout, term, solved) end
    if before and value <= before + least * math.abs(before) then
      for _, c in ipairs(tops) do
        if value < before then solved[c] = changed[c] end
      end
      return solved, math.max(value, before)
    end
  end
  return solved, value
end

-- ---- all of it ----

-- What belongs together: lists of terms and classes that no other term or nesting joins.
local function components(layout, terms)
  local root = {}
  local function find(c)
    while root[c] ~= c do c = root[c] end
    return c
  end
  local function add(c)
    if root[c] then return end
    root[c] = c
    for _, u in ipairs(layout.classes[c].under or {}) do
      add(u)
      root[find(c)] = find(u)
    end
  end
  for _, term in ipairs(terms) do
    for _, c in ipairs(term.classes) do
      add(c)
      root[find(c)] = find(term.classes[1])
    end
  end
  local list, by = {}, {}
  local ids = {}
  for c in pairs(root) do ids[#ids + 1] = c end
  table.sort(ids)
  for _, c in ipairs(ids) do
    local r = find(c)
    if not by[r] then
      by[r] = { classes = {}, terms = {} }
      list[#list + 1] = by[r]
    end
    table.insert(by[r].classes, c)
  end
  for _, term in ipairs(terms) do table.insert(by[find(term.classes[1])].terms, term) end
  return list
end

-- Maps [instances, n] out of nested solutions.
local function flat(layout, solved, rows)
  for c, s in pairs(solved) do
    rows[c] = rows[c] or { index = {}, sign = s.sign and {} or nil }
    table.insert(rows[c].index, s.index)
    if s.sign then table.insert(rows[c].sign, s.sign) end
    for i = 1, s.inner and layout.classes[c].size or 0 do flat(layout, s.inner[i], rows) end
  end
  return rows
end

-- terms over classes; o: fixed = { [class] = hard map }, flips = function(class) -> bool: signs
-- are chosen too, log = function(classes). -> { [class] = { index =, sign = } }
function match.solve(layout, terms, o)
  local maps = {}
  local job = { layout = layout, fixed = o.fixed or {}, flips = o.flips or function() return false end }
  for _, part in ipairs(components(layout, terms)) do
    local solved = level(job, part.terms, part.classes, {})
    for c, rows in pairs(flat(layout, solved, {})) do
      maps[c] = { index = tensor.stack(rows.index, 1), sign = rows.sign and tensor.stack(rows.sign, 1) or nil }
    end
    if o.log then o.log { classes = part.classes } end
  end
  return maps
end

return function() return match end
