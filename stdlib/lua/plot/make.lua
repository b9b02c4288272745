-- SPDX-License-Identifier: Apache-2.0
-- Figures of what probes return: plot.path, plot.plane, plot.matrix, plot.tree.
local figure = require "plot.figure"
local levels = require "plot.levels"
local scale = require "plot.scale"

local fail = figure.fail
local make = {}

local function kind(v) return type(v) == "table" and (getmetatable(v) or {}).__name or type(v) end

-- ---- paths ----

local function range_of(lists, log)
  local low, high = math.huge, -math.huge
  for _, list in ipairs(lists) do
    for _, v in ipairs(list) do
      if scale.shown(v, log) then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  return low, high
end

-- The upright at the point highest above the chord.
local function height_of(t, v)
  local n, best, at = #t, 0, nil
  for i = 1, n do
    local s = (t[i] - t[1]) / (t[n] - t[1])
    local h = v[i] - ((1 - s) * v[1] + s * v[n])
    if h > best then best, at = h, i end
  end
  if not at or best == math.huge then return nil end
  return { from = { t[1], v[1] }, to = { t[n], v[n] }, x = t[at], low = v[at] - best, high = v[at],
    label = levels.label(best) }
end

local function panel(what, paths, field, o)
  local fig = figure.start(what, { xlabel = o.xlabel or "t", ylabel = field, theme = o.theme }, "line", "xy", 640, 400)
  fig.lines, fig.series = true, {}
  local xs, ys = {}, {}
  for k, p in ipairs(paths) do
    if p[field] then
      local label = o.labels and o.labels[k] or p.label or (#paths > 1 and "path " .. k or nil)
      local heights = #paths <= 3 and o.chord ~= false and { height_of(p.t, p[field]) } or nil
      fig.series[#fig.series + 1] = { label = label, x = p.t, y = p[field], style = k, heights = heights }
      xs[#xs + 1], ys[#ys + 1] = p.t, p[field]
    end
  end
  if #ys == 0 then fail(what, "no path has %s", tostring(field)) end
  local low, high = range_of(ys, o.ylog)
  if low > high then fail(what, "no %s can be shown", field) end
  local left, right = range_of(xs)
  fig.xlim, fig.ylim, fig.ylog = { left, right }, { scale.range(low, high, o.ylog) }, o.ylog
  return fig
end

function make.path(what, paths, o)
  local list = {}
  for k, p in ipairs(paths) do
    if kind(p) == "barrier" or kind(p) == "interpolation" then p = p.path end
    if type(p) ~= "table" or type(rawget(p, "t")) ~= "table" then
      fail(what, "argument %d is a %s, not a path (probe.path) or barrier", k, kind(p))
    end
    list[k] = p
  end
  if #list == 0 then fail(what, "expected paths: plot.path(probe.path(f, a, b), …)") end
  local fields = o.fields or (list[1].error and { "loss", "error" } or { "loss" })
  local fig = figure.start(what, o, "panels", "panels", #fields > 1 and 860 or 560, 340)
  fig.parts = {}
  local widest = 0
  for k, field in ipairs(fields) do
    local one = panel(what, list, field, o)
    one.plain = k < #fields
    for _, s in ipairs(one.series) do widest = math.max(widest, utf8.len(s.label or "") or 0) end
    -- The last panel's legend takes room of its own, so that panels are equally wide.
    fig.parts[k] = { fig = one, share = 1 }
  end
  if #list > 1 then
    local each = fig.width / #fields
    local legend = math.min(widest * 7 + 40, each * 0.6)
    for k, part in ipairs(fig.parts) do part.share = (fig.width - legend) / #fields + (k == #fields and legend or 0) end
  end
  return fig
end

-- ---- planes ----

function make.plane(what, p, o)
  if kind(p) ~= "plane" and (type(p) ~= "table" or type(p.x) ~= "table" or type(p.y) ~= "table") then
    fail(what, "expected a plane (probe.plane), got a %s", kind(p))
  end
  local field = o.field or "loss"
  local values = p[field]
  if type(values) ~= "table" or type(values[1]) ~= "table" then fail(what, "the plane has no %s", tostring(field)) end
  local low, high = levels.extent(values)
  if not low then fail(what, "no %s is finite", field) end
  if o.most ~= nil and not (type(o.most) == "number" and scale.shown(o.most)) then
    fail(what, "most is a finite number, below 1e300 in size")
  end
  high = o.most or high
  if low >= high then high = low + math.max(math.abs(low) * 1e-3, 1e-12) end
  local log = o.log
  if log == nil then log = low >= 0 and high - low > 3 * math.max(low, 1e-12) end
  local dist = p.through == "through" or p.through == "pca"
  local equal = o.equal
  if equal == nil then
    local ratio = (p.x[#p.x] - p.x[1]) / (p.y[#p.y] - p.y[1])
    equal = (dist or p.through == "random") and ratio < 3 and ratio > 1 / 3
  end
  local height = 480
  if equal then -- as high as the plane is
    local span = (o.width or 560) - 150
    height = math.floor(span * (p.y[#p.y] - p.y[1]) / (p.x[#p.x] - p.x[1]) + 0.5) + (o.title and 86 or 76)
    height = math.max(240, math.min(height, 720))
  end
  local fig = figure.start(what, { title = o.title, xlabel = o.xlabel or p.xlabel, ylabel = o.ylabel or p.ylabel,
    theme = o.theme, width = o.width, height = o.height }, "plane", "plane", 560, height)
  fig.x, fig.y, fig.values, fig.marks, fig.trail, fig.label = p.x, p.y, values, p.marks or {}, p.trail, field
  fig.xlim, fig.ylim, fig.equal, fig.outlined = { p.x[1], p.x[#p.x] }, { p.y[1], p.y[#p.y] }, equal, o.lines ~= false
  if type(o.levels) == "table" then
    fig.levels = figure.numbers(o.levels, what, "levels")
    for k, v in ipairs(fig.levels) do
      if not scale.shown(v) then fail(what, "levels, entry %d is not finite and below 1e300 in size", k) end
      if k > 1 and v <= fig.levels[k - 1] then fail(what, "levels is a list that ascends, or how many there are") end
    end
    if #fig.levels < 2 then fail(what, "levels: at least two") end
  else
    local n = o.levels or 14
    if math.type(n) ~= "integer" or n < 1 or n > 200 then fail(what, "levels is a list, or a number from 1 to 200") end
    fig.levels = levels.rounded(levels.make(low, high, n, log))
  end
  fig.paths = o.paths
  return fig
end

-- ---- matrices ----

local function rows_of(v, what)
  if type(v) == "userdata" and v.totable then v = v:totable() end
  if type(v) ~= "table" or type(v[1]) ~= "table" then
    fail(what, "expected { {v, …}, … } or a tensor of two dimensions")
  end
  for i, row in ipairs(v) do
    if type(row) ~= "table" then fail(what, "row %d is a %s, expected a list of numbers", i, type(row)) end
    if #row ~= #v[1] or #row == 0 then fail(what, "row %d has %d values, row 1 has %d", i, #row, #v[1]) end
    for j, x in ipairs(row) do
      if type(x) ~= "number" then fail(what, "row %d, column %d is a %s", i, j, type(x)) end
    end
  end
  return v
end

local function labels_of(list, n, what, key)
  if list == nil then
    list = {}
    for k = 1, n do list[k] = k end
  end
  if type(list) ~= "table" or #list ~= n then
    fail(what, "%s has %d labels for %d", key, type(list) == "table" and #list or 0, n)
  end
  return list
end

function make.matrix(what, o)
  local values = rows_of(o[1], what)
  local fig = figure.start(what, o, "matrix", "matrix", 560, 420)
  fig.values, fig.label, fig.written, fig.square = values, o.label, o.written, o.square
  fig.rows, fig.columns = labels_of(o.rows, #values, what, "rows"), labels_of(o.columns, #values[1], what, "columns")
  if fig.square == nil then fig.square = #values == #values[1] end
  local low, high = levels.extent(values)
  if not low then fail(what, "no value is finite") end
  if o.lim then
    local lim = figure.limits(o, "lim", false, what)
    low, high = lim[1], lim[2]
  end
  fig.two_sided = o.two_sided
  if fig.two_sided == nil then fig.two_sided = low < 0 and high > 0 and not o.log end
  if fig.two_sided then
    local most = math.max(-low, high, 1e-300)
    low, high = -most, most
  end
  if low == high then high = low + (low == 0 and 1 or math.abs(low) * 1e-9) end
  fig.levels = levels.make(low, high, 40, o.log)
  return fig
end

-- ---- trees ----

local function count_leaves(node)
  if not node.kids then return 1 end
  local n = 0
  for _, kid in ipairs(node.kids) do n = n + count_leaves(kid) end
  return n
end

local function leaves_of(roots)
  local n = 0
  for _, root in ipairs(roots) do n = n + count_leaves(root) end
  return n
end

-- Least and greatest of the heights that can be shown: where a path diverged, none can.
local function span_of(node, low, high, what)
  if type(node.value) ~= "number" then fail(what, "the value of a node is a %s, not a number", type(node.value)) end
  if scale.shown(node.value) then low, high = math.min(low, node.value), math.max(high, node.value) end
  for _, kid in ipairs(node.kids or {}) do low, high = span_of(kid, low, high, what) end
  return low, high
end

function make.tree(what, r, o)
  local roots, note
  local ylabel = o.ylabel or "loss"
  if kind(r) == "topology" then
    local least = o.least
    if not least then -- as many branches as can be told apart
      local last = r.pairs[40]
      least = last and last.persistence or 0
    end
    roots = r:pruned(least)
    local hidden = r.minima - leaves_of(roots)
    if hidden > 0 then note = ("%d minima of less than %.2g persistence are not shown"):format(hidden, least) end
  elseif kind(r) == "barriers" then
    roots, ylabel = { r:tree() }, o.ylabel or r.quantity:gsub("_", " ")
  elseif type(r) == "table" and type(r.value) == "number" then
    roots = { r }
  else
    fail(what, "expected a topology (probe.topology), barriers (probe.barriers) or {value =, kids = {…}}, got a %s",
      kind(r))
  end
  local fig = figure.start(what, { title = o.title, ylabel = ylabel, theme = o.theme, width = o.width,
    height = o.height }, "tree", "tree", 560, 400)
  fig.roots, fig.note = roots, note
  local low, high = math.huge, -math.huge
  for _, root in ipairs(roots) do low, high = span_of(root, low, high, what) end
  if low > high then fail(what, "no height can be shown") end
  fig.ylim = { scale.range(low, high) }
  if low == 0 and high == 0 then fig.ylim = { 0.0, 1.0 } end -- heights are not below 0
  return fig
end

return make
