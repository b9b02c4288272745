-- SPDX-License-Identifier: Apache-2.0
-- A grid over parameters of a recipe, scored point by point. Norms and thresholds that points share are computed
-- once, since the program remembers those of files. All plans are made first; whole operations that every one of
-- them has can be done once too, into temporary files (`stage`), and else are told of.
local json, session_of, share = require "json", require "recipe.session", require "recipe.share"

local Sweep = {}
Sweep.__index = Sweep
Sweep.__name = "sweep"

local most = 10000

-- "0.1:0.9:0.1", "a,b" or a list -> list of values (texts are read by the parameter's type).
local function values(name, over)
  if type(over) == "table" and #over > 0 then return over end
  if type(over) ~= "string" then error("sweep: " .. name .. " is neither a list nor a text", 0) end
  local from, to, step = over:match "^([^:]+):([^:]+):([^:]+)$"
  local out = {}
  if not from then
    if over:find ":" then error(string.format("sweep: %s=%s; expected FROM:TO:STEP or A,B,…", name, over), 0) end
    for word in over:gmatch "[^,]+" do out[#out + 1] = word end
  else
    from, to, step = tonumber(from), tonumber(to), tonumber(step)
    if not (from and to and step and step ~= 0 and (to - from) / step >= 0) then
      error(string.format("sweep: %s=%s; expected FROM:TO:STEP with a step that leads there", name, over), 0)
    end
    if (to - from) / step > most then error("sweep: more than " .. most .. " points", 0) end
    for k = 0, math.floor((to - from) / step + 1e-9) do
      out[#out + 1] = tonumber(string.format("%.12g", from + k * step)) -- 0.3, not 0.30000000000000004
    end
  end
  if #out == 0 then error("sweep: " .. name .. " has no values", 0) end
  return out
end

-- Every combination, the last name fastest.
local function grid(names, lists)
  local points = { {} }
  for i, name in ipairs(names) do
    local more = {}
    for _, point in ipairs(points) do
      for _, value in ipairs(lists[i]) do
        local next_ = { table.unpack(point) }
        next_[i] = { name, value }
        more[#more + 1] = next_
        if #more > most then error("sweep: more than " .. most .. " points", 0) end
      end
    end
    points = more
  end
  return points
end

-- Takes away a folder's files, the last first, and the folder.
local function remove_all(list)
  for i = #list, 1, -1 do os.remove(list[i]) end
end

-- Computes what all points have in common into temporary files: paths of inputs by label, texts of inputs by the
-- operation that they stand for. What is no model (a task vector) or has several dtypes is left.
local function stage(sweep, session, found, files)
  local paths, instead = {}, {}
  for name, path in pairs(session.paths) do paths[name] = path end
  for _, row in ipairs(found) do
    local m = model.of_plan(row.plan, { input = session.paths })
    local dtype = m:dtype()
    if row.plain and dtype ~= "mixed" and math.abs(m:mass() - 1) < 1e-6 then
      local label = "shared " .. #sweep.shared + 1
      files[1] = files[1] or session.native.temporary()
      paths[label] = files[1] .. "/" .. #files .. ".safetensors"
      table.insert(files, paths[label])
      m:save(paths[label], { dtype = dtype == "f64" and "f64" or "f32" })
      instead[row.id] = share.input(paths[label], label)
      table.insert(sweep.shared, row.name)
    else
      table.insert(sweep.repeated, row.name)
    end
  end
  return paths, instead
end

local function first_score(score)
  if type(score) == "number" then return score end
  local names = {}
  for name in pairs(score) do names[#names + 1] = name end
  table.sort(names)
  return score[names[1]]
end

function Sweep:__tostring()
  local columns, rows = {}, {}
  for _, name in ipairs(self.names) do columns[#columns + 1] = name end
  local scores = {}
  for name in pairs(type(self[1].score) == "table" and self[1].score or { score = true }) do
    scores[#scores + 1] = name
  end
  table.sort(scores)
  table.move(scores, 1, #scores, #columns + 1, columns)
  for i, point in ipairs(self) do
    local row = {}
    for _, name in ipairs(self.names) do
      local v = point.params[name]
      row[#row + 1] = type(v) == "number" and string.format("%g", v) or type(v) == "table" and json.encode(json.list(v))
        or tostring(v)
    end
    for _, name in ipairs(scores) do
      row[#row + 1] = string.format("%.6g", type(point.score) == "table" and point.score[name] or point.score)
    end
    row[#row + 1] = point == self.best and "best" or ""
    rows[i] = row
  end
  columns[#columns + 1] = ""
  local out = {}
  for i = 0, #rows do
    local cells = {}
    for k, column in ipairs(columns) do
      local width = #column
      for _, row in ipairs(rows) do width = math.max(width, #row[k]) end
      cells[k] = string.format("%-" .. width .. "s", i == 0 and column or rows[i][k])
    end
    out[#out + 1] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(out, "\n")
end

-- sweep(native, path, {over =, input =, set =, stage =}) -> sweep
return function(native, path, o)
  local names, lists = {}, {}
  for name in pairs(type(o.over) == "table" and o.over or {}) do names[#names + 1] = name end
  table.sort(names)
  if #names == 0 then error("recipe.sweep: over = { NAME = values } is missing", 0) end
  for i, name in ipairs(names) do lists[i] = values(name, o.over[name]) end
  local session = session_of(native, path, { input = o.input, set = o.set })
  if not session.about.score then error(path .. ": the recipe has no score, by which points could be compared", 0) end
  local all = {}
  for i, point in ipairs(grid(names, lists)) do -- every value is read before the first point is computed
    local given = {}
    for name, value in pairs(o.set or {}) do given[name] = value end
    for _, pair in ipairs(point) do given[pair[1]] = pair[2] end
    session:set(given)
    all[i] = session.params
  end
  local sweep = setmetatable({ names = names, session = session, shared = {}, repeated = {} }, Sweep)
  local outputs, points = {}, {}
  for i, params in ipairs(all) do
    session.params = params
    points[i] = {}
    for k, row in ipairs(session:ask "build".outputs) do
      outputs[k] = row.name
      points[i][k] = row.plan
    end
  end
  local found, rewrite = share.find(points)
  local files <close> = setmetatable({}, { __close = remove_all })
  local paths, instead = session.paths, {}
  if o.stage then
    paths, instead = stage(sweep, session, found, files)
  else
    for _, row in ipairs(found) do table.insert(sweep.repeated, row.name) end
  end
  for i, params in ipairs(all) do
    session.params = params
    local out = {}
    for k, name in ipairs(outputs) do
      out[name == "" and "out" or "out:" .. name] = model.of_plan(rewrite(i, k, instead), { input = paths })
    end
    sweep[i] = { params = params, score = session:ask("score", outputs, out).score }
    if not sweep.best or first_score(sweep[i].score) > first_score(sweep.best.score) then sweep.best = sweep[i] end
  end
  return sweep
end
