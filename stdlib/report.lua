-- SPDX-License-Identifier: Apache-2.0
-- The face of a report: sense made of the inner products and counts that the program found
-- (merge/plan/anatomy.h says in which order they come). Sums over tensors are sums of those numbers, so
-- a layer or the whole model is described by the same words as a tensor.
local show = require "show"

local function ratio(a, b)
  if b == 0 then return a == 0 and 0.0 or nil end
  return a / b
end

-- A reader of the numbers of one row: dot(i, j), then what follows in order.
local function reader(v, d)
  local at = 0
  local start = {}
  for i = 1, d do
    start[i] = at - i + 1
    at = at + d - i + 1
  end
  local function dot(i, j)
    if i > j then i, j = j, i end
    return v[start[i] + j]
  end
  local function take(n)
    at = at + n
    return table.unpack(v, at - n + 1, at)
  end
  return dot, take
end

-- x' G y for the offsets (or models) first … first + n - 1, all with weight 1/n.
local function mean_dot(dot, first, n, with)
  local s = 0
  for k = first, first + n - 1 do
    if with then
      s = s + dot(k, with) / n
    else
      for l = first, first + n - 1 do s = s + dot(k, l) / (n * n) end
    end
  end
  return s
end

local function cosine(dot, i, j)
  return ratio(dot(i, j), math.sqrt(dot(i, i)) * math.sqrt(dot(j, j)))
end

-- With a base the vectors are base, offsets, offset of the result; without, models and result.
local function describe(raw, v, exact)
  local n, based = #raw.models, raw.base ~= nil
  local d = n + 1 + (based and 1 or 0)
  local dot, take = reader(v, d)
  local first, last = based and 2 or 1, d
  local r = { base = raw.base, numel = raw.numel, models = {}, cosines = {} }
  local function norm_of(k) -- of a point
    local squared = dot(k, k) + (based and dot(1, 1) + 2 * dot(1, k) or 0)
    return math.sqrt(squared < 0 and 0 or squared) -- NaN stays
  end
  r.norm, r.base_norm = norm_of(last), based and math.sqrt(dot(1, 1)) or nil
  r.change = based and math.sqrt(dot(last, last)) or nil
  local norms, squares = 0, 0
  for k = 1, n do
    local i = first + k - 1
    norms, squares = norms + norm_of(i) / n, squares + dot(i, i) / n
    r.models[k] = { model = raw.models[k], size = norm_of(i), norm = math.sqrt(dot(i, i)),
      cosine = cosine(dot, i, last) }
    r.cosines[k] = {}
    for l = 1, n do r.cosines[k][l] = k == l and 1.0 or cosine(dot, i, first + l - 1) end
  end
  r.ratio = ratio(r.norm, norms)
  local sums, spreads = { take(d) }, 0
  local function spread_of(k) -- the standard deviation of a point's entries
    local mean = (sums[k] + (based and sums[1] or 0)) / r.numel
    local var = norm_of(k) ^ 2 / r.numel - mean * mean
    return math.sqrt(var < 0 and 0 or var)
  end
  for k = first, first + n - 1 do spreads = spreads + spread_of(k) / n end
  r.spread = ratio(spread_of(last), spreads)
  for k = 1, n do r.models[k].same = take(1) == 0 end
  if based then
    r.energy = ratio(dot(last, last), squares)
    r.t = ratio(mean_dot(dot, first, n, last), mean_dot(dot, first, n))
    for k = 1, n do
      local i, moved, agree = first + k - 1, take(2)
      r.models[k].moved = moved / r.numel
      r.models[k].kept = ratio(agree, moved)
      r.models[k].share = ratio(dot(i, last), dot(i, i))
    end
    local conflict, any, changed = take(3)
    r.conflict, r.moved, r.changed = ratio(conflict, any), any / r.numel, changed / r.numel
  end
  if exact then
    local off, rounded = take(2)
    r.rounding = { changed = rounded / r.numel, error = ratio(math.sqrt(off), based and r.change or r.norm) }
    if based then
      local left, lost = take(2)
      r.rounding.lost = ratio(lost, left)
    end
  end
  return r
end

-- ---- sums over tensors ----

local function signature(raw)
  return raw.v and (raw.base or "") .. "\n" .. table.concat(raw.models, "\n") or nil
end

local function sum_up(list)
  local sum = { base = list[1].base, models = list[1].models, numel = 0, v = {} }
  for i = 1, #list[1].v do sum.v[i] = 0 end
  for _, raw in ipairs(list) do
    sum.numel = sum.numel + raw.numel
    for i, x in ipairs(raw.v) do sum.v[i] = sum.v[i] + x end
  end
  return sum
end

-- The tensors that were merged from the models that most parameters were merged from.
local function main_group(tensors)
  local size, most = {}, nil
  for _, raw in ipairs(tensors) do
    local s = signature(raw)
    if s then
      size[s] = (size[s] or 0) + raw.numel
      if not most or size[s] > size[most] then most = s end
    end
  end
  local group = {}
  for _, raw in ipairs(tensors) do
    if most and signature(raw) == most then group[#group + 1] = raw end
  end
  return group
end

local function where_of(m, name)
  local info = m:info(name)
  return info.depth and { key = info.depth, label = "layer " .. info.depth, depth = info.depth }
    or { key = info.place, label = info.place }
end

local function by_layer(group, m)
  local lists, order = {}, {}
  for _, raw in ipairs(group) do
    local where = where_of(m, raw.name)
    if not lists[where.key] then
      lists[where.key] = { where = where }
      order[#order + 1] = where.key
    end
    table.insert(lists[where.key], raw)
  end
  local out = {}
  for i, key in ipairs(order) do out[i] = lists[key] end
  table.sort(out, function(a, b)
    local x, y = a.where, b.where
    if x.depth and y.depth then return x.depth < y.depth end
    if not x.depth and not y.depth then return x.label < y.label end
    return x.depth ~= nil
  end)
  return out
end

-- ---- text ----

local function short(x)
  if x == nil then return "-" end
  if x ~= x then return "nan" end
  return (math.abs(x) >= 1000 or (x ~= 0 and math.abs(x) < 0.001)) and string.format("%.1e", x)
    or string.format("%.3f", x)
end

local Report = {}
Report.__index = Report
Report.__name = "report"

local function cells(label, r, shown)
  local out = { label, short(r.change or r.norm), short(r.ratio), short(r.spread) }
  if r.base then
    for _, key in ipairs { "energy", "t", "conflict", "changed" } do out[#out + 1] = short(r[key]) end
  end
  if r.rounding then out[#out + 1] = short(r.base and r.rounding.lost or r.rounding.changed) end
  for k = 1, shown do
    local m = r.models[k]
    if r.base then
      out[#out + 1] = short(m.share)
      out[#out + 1] = short(m.kept)
    end
    out[#out + 1] = short(m.cosine)
  end
  return out
end

local function head(r, shown)
  local out = { "", r.base and "change" or "norm", "ratio", "spread" }
  if r.base then table.move({ "energy", "t", "conflict", "changed" }, 1, 4, #out + 1, out) end
  if r.rounding then out[#out + 1] = r.base and "lost" or "rounded" end
  for k = 1, shown do
    local label = r.models[k].model
    if r.base then table.move({ label .. " share", "kept" }, 1, 2, #out + 1, out) end
    out[#out + 1] = r.base and "cosine" or label .. " cosine"
  end
  return out
end

local function columns(rows)
  local wide = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do row[i] = show(cell) end -- names come from files
    for i, cell in ipairs(row) do wide[i] = math.max(wide[i] or 0, utf8.len(cell) or #cell) end
  end
  local lines = {}
  for k, row in ipairs(rows) do
    local out = {}
    for i, cell in ipairs(row) do
      local gap = (" "):rep(wide[i] - (utf8.len(cell) or #cell))
      out[i] = i == 1 and cell .. gap or gap .. cell
    end
    lines[k] = "  " .. table.concat(out, "  ")
  end
  return table.concat(lines, "\n")
end

-- The report as text; `full` adds a line for every tensor to the whole and the layers.
function Report:show(full)
  local w = self.whole
  if not w then return self.title .. ": nothing was merged from several models" end
  local shown = math.min(#w.models, 4)
  local rows = { head(w, shown), cells("whole", w, shown) }
  for _, layer in ipairs(self.layers) do rows[#rows + 1] = cells(layer.name, layer, shown) end
  local others = 0
  for _, t in ipairs(full and self.tensors or {}) do
    if t.models and #t.models == #w.models and t.base == w.base then
      rows[#rows + 1] = cells(t.name, t, shown)
    else
      others = others + 1
    end
  end
  local labels = {}
  for k, m in ipairs(w.models) do labels[k] = show(m.model) end
  local text = string.format("%s of %s%s: %d tensors\n", self.title, table.concat(labels, ", "),
    w.base and "; offsets from " .. show(w.base) or "", #self.tensors) .. columns(rows)
  for k = 1, shown - 1 do
    local list = {}
    for l = k + 1, shown do list[#list + 1] = labels[l] .. " " .. short(w.cosines[k][l]) end
    text = text .. string.format("\n  cosine of %s to %s", labels[k], table.concat(list, ", "))
  end
  if others > 0 then
    text = text .. string.format("\n  %d more tensors: copied, or made of other models (report:json() has all)", others)
  end
  return text
end

function Report:__tostring()
  return self:show(true)
end

-- ---- JSON ----

local function record(r, json)
  local out = {}
  local function add(key, v)
    if v ~= nil then out[#out + 1] = { key, v } end
  end
  for _, key in ipairs { "name", "numel", "compared", "base", "norm", "base_norm", "change", "ratio", "spread",
    "energy", "t", "conflict", "moved", "changed" } do
    add(key, r[key])
  end
  if r.models then
    local models, rows = {}, {}
    for k, m in ipairs(r.models) do
      local one = {}
      for _, key in ipairs { "model", "size", "norm", "cosine", "share", "moved", "kept", "same" } do
        if m[key] ~= nil then one[#one + 1] = { key, m[key] } end
      end
      models[k] = json.object(one)
      rows[k] = json.list {}
      for l = 1, #r.models do rows[k][l] = r.cosines[k][l] or 0 / 0 end -- null
    end
    add("models", json.list(models))
    add("cosines", json.list(rows))
  end
  if r.rounding then
    local one = {}
    for _, key in ipairs { "changed", "lost", "error" } do
      if r.rounding[key] ~= nil then one[#one + 1] = { key, r.rounding[key] } end
    end
    add("rounding", json.object(one))
  end
  return json.object(out)
end

function Report:json()
  local json = require "json"
  local tensors, layers = {}, {}
  for i, t in ipairs(self.tensors) do tensors[i] = record(t, json) end
  for i, t in ipairs(self.layers) do layers[i] = record(t, json) end
  return json.encode(json.object { { "title", self.title }, { "whole", self.whole and record(self.whole, json) or nil },
    { "layers", json.list(layers) }, { "tensors", json.list(tensors) } })
end

function Report:write(path)
  local text = self:json() -- before there is a file
  local file, why = io.open(path, "wb")
  if not file then error(string.format("report:write: cannot open %s: %s", path, why), 2) end
  local ok
  ok, why = file:write(text, "\n")
  local closed, late = file:close()
  if not (ok and closed) then error(string.format("report:write: cannot write %s: %s", path, why or late), 2) end
end

-- raw: {tensors = {{name, numel, base, models, v}}, exact, title, model} -> report
return function(raw)
  local report = { title = raw.title, tensors = {}, layers = {} }
  for i, t in ipairs(raw.tensors) do
    local r = t.v and describe(t, t.v, raw.exact) or { numel = t.numel, compared = false }
    r.name, r.gone = t.name, t.gone or nil
    report.tensors[i] = r
  end
  local group = main_group(raw.tensors)
  if #group > 0 then
    local sum = sum_up(group)
    report.whole = describe(sum, sum.v, raw.exact)
    for i, list in ipairs(by_layer(group, raw.model)) do
      sum = sum_up(list)
      report.layers[i] = describe(sum, sum.v, raw.exact)
      report.layers[i].name = list.where.label
    end
  end
  return setmetatable(report, Report)
end
