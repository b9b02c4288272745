-- SPDX-License-Identifier: Apache-2.0
-- Figures: what they are made of, and their faces: text, SVG, PNG, data. The file plot/NAME.lua that `drawn` names
-- draws a kind, in the functions svg, text and data.

local scale = require "plot.scale"
local show = require "show"

local Figure = {}
Figure.__index = Figure
Figure.__name = "figure"

-- ---- arguments ----

local function fail(what, message, ...)
  error(what .. ": " .. message:format(...), 0)
end

-- A list of numbers, or a tensor of one dimension.
local function numbers(v, what, whose)
  if type(v) == "userdata" and v.totable then
    v = v:totable()
    v = type(v) == "table" and v or { v }
  end
  if type(v) ~= "table" then fail(what, "%s is a %s, not a list of numbers", whose, type(v)) end
  local out = {}
  for i = 1, #v do
    if type(v[i]) ~= "number" then fail(what, "%s, entry %d is a %s, not a number", whose, i, type(v[i])) end
    out[i] = v[i] + 0.0
  end
  return out
end

local function counted(n)
  local out = {}
  for i = 1, n do out[i] = i + 0.0 end
  return out
end

-- Texts at points: { {number of the point, text}, … } of n points.
local function read_notes(notes, n, whose, what)
  if notes == nil then return nil end
  if type(notes) ~= "table" then fail(what, "%s: notes is a %s, not { {point, text}, … }", whose, type(notes)) end
  local out = {}
  for k, note in ipairs(notes) do
    local at, text = nil, nil
    if type(note) == "table" then at, text = note[1], note[2] end
    if math.type(at) ~= "integer" or at < 1 or at > n or type(text) ~= "string" then
      fail(what, "%s, note %d is {number of a point, 1 to %d, and a text}", whose, k, n)
    end
    out[k] = { at, text }
  end
  return out
end

-- {y, …}, {"label", y}, {"label", x, y} or {label =, x =, y =}
local function read_series(entry, i, shared, what)
  local whose = "series " .. i
  local object = type(entry) == "table" and getmetatable(entry) == false and rawget(entry, 1) == nil
  if object or type(entry) ~= "table" and type(entry) ~= "userdata" then
    fail(what, "%s is a %s, expected { \"label\", y } or a list of numbers", whose, object and "object" or type(entry))
  end
  if type(entry) == "userdata" or type(entry[1]) == "number" then entry = { y = entry } end
  local s = { label = entry.label, x = entry.x, y = entry.y, dash = entry.dash and true or nil, style = entry.style }
  if type(entry[1]) == "string" then
    s.label = entry[1]
    if entry[3] ~= nil then s.x, s.y = entry[2], entry[3] else s.y = entry[2] end
  end
  if s.label ~= nil and type(s.label) ~= "string" then fail(what, "%s: its label is a %s", whose, type(s.label)) end
  if s.label then whose = "series " .. s.label end
  if s.y == nil then fail(what, "%s has no values: { \"label\", y } or { \"label\", x, y }", whose) end
  s.y = numbers(s.y, what, whose)
  s.x = s.x and numbers(s.x, what, whose .. ", x") or shared or counted(#s.y)
  if #s.x ~= #s.y then fail(what, "%s has %d values for %d of x", whose, #s.y, #s.x) end
  if s.style ~= nil and (math.type(s.style) ~= "integer" or s.style < 1) then
    fail(what, "%s: style is a whole number from 1, the place of a series whose look it has", whose)
  end
  s.notes = read_notes(entry.notes, #s.x, whose, what)
  if entry.low ~= nil or entry.high ~= nil then -- a band
    s.low = numbers(entry.low or s.y, what, whose .. ", low")
    s.high = numbers(entry.high or s.y, what, whose .. ", high")
    if #s.low ~= #s.x or #s.high ~= #s.x then fail(what, "%s: low and high have as many values as x", whose) end
  end
  return s
end

-- Least and greatest of what can be shown.
local function extent(fig, axis, log, what)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(fig.series) do
    for _, list in ipairs { s[axis], axis == "y" and s.low or {}, axis == "y" and s.high or {} } do
      for _, v in ipairs(list) do
        if scale.shown(v, log) then low, high = math.min(low, v), math.max(high, v) end
      end
    end
  end
  if low > high then
    fail(what, "no %s can be shown%s", axis, log and " (of a logarithm only values above 0)" or "")
  end
  return { scale.range(low, high, log) }
end

local function limits(o, key, log, what)
  local v = o[key]
  if v == nil then return nil end
  local span = type(v) == "table" and type(v[1]) == "number" and type(v[2]) == "number" and v[2] - v[1] or 0
  if span <= 0 or span - span ~= 0 or (log and v[1] <= 0) then
    fail(what, "%s = { low, high }%s", key, log and ", above 0 for a logarithm" or "")
  end
  return { v[1] + 0.0, v[2] + 0.0 }
end

local function size(o, key, default, what)
  local v = o[key] or default
  if math.type(v) ~= "integer" or v < 120 or v > 10000 then
    fail(what, "%s is a number of pixels, 120 to 10000", key)
  end
  return v
end

local function theme_of(o, what)
  local theme = o.theme or "light"
  if theme ~= "light" and theme ~= "dark" then
    fail(what, "theme = %q; expected \"light\" or \"dark\"", tostring(theme))
  end
  return theme
end

-- A figure of a kind: its size, texts and theme; `drawn` names the file that draws it.
local function start(what, o, kind, drawn, width, height)
  for _, key in ipairs { "title", "xlabel", "ylabel", "label" } do
    if o[key] ~= nil and type(o[key]) ~= "string" then fail(what, "%s is a %s, not a text", key, type(o[key])) end
  end
  return setmetatable({ kind = kind, drawn = drawn, title = o.title, xlabel = o.xlabel, ylabel = o.ylabel,
    width = size(o, "width", width, what), height = size(o, "height", height, what), theme = theme_of(o, what) },
    Figure)
end

-- Whether all numbers of an axis are whole, so that its ticks should be.
local function whole(series, axis)
  for _, s in ipairs(series) do
    for _, v in ipairs(s[axis]) do
      if v - v == 0 and v ~= math.floor(v) then return false end
    end
  end
  return true
end

local figure = { fail = fail, start = start, numbers = numbers, limits = limits }

-- Lines or points of a table of series.
function figure.xy(what, o, lines)
  local fig = start(what, o, lines and "line" or "scatter", "xy", 640, 400)
  fig.lines, fig.series, fig.xlog, fig.ylog = lines, {}, o.xlog, o.ylog
  local shared = o.x ~= nil and numbers(o.x, what, "x") or nil
  for i, entry in ipairs(o) do fig.series[i] = read_series(entry, i, shared, what) end
  if #fig.series == 0 then fail(what, "nothing to plot: give series, { \"label\", y }") end
  fig.xlim = limits(o, "xlim", o.xlog, what) or extent(fig, "x", o.xlog, what)
  fig.whole = not o.xlog and whole(fig.series, "x")
  fig.ylim = limits(o, "ylim", o.ylog, what) or extent(fig, "y", o.ylog, what)
  return fig
end

-- ---- faces ----

-- nil too where a script is not told (in a recipe).
local function environment(name)
  local told, v = pcall(function() return os.getenv(name) end)
  return told and v ~= "" and v or nil
end

local function utf8_terminal()
  local v = environment "LC_ALL" or environment "LC_CTYPE" or environment "LANG" or ""
  return v:lower():find "utf%-?8" ~= nil
end

-- The figure as text: width and height in characters, ascii = true without UTF-8.
function Figure:text(o)
  o = o or {}
  if type(o) ~= "table" then fail("figure:text", "expected a table of options, got %s", type(o)) end
  for key in pairs(o) do
    if key ~= "width" and key ~= "height" and key ~= "ascii" then
      fail("figure:text", "unknown option '%s' (width, height, ascii)", tostring(key))
    end
  end
  local width = o.width or math.tointeger(tonumber(environment "COLUMNS" or "80")) or 80
  local ascii = o.ascii
  if ascii == nil then ascii = not utf8_terminal() end
  width = math.max(24, math.min(width, 400))
  local text = require("plot." .. self.drawn).text(self, { width = width, height = o.height or 16, ascii = ascii })
  text = text:gsub("[^\n]+", function(line) return (show(line)) end) -- labels may be anything
  if ascii and utf8.len(text) then text = text:gsub("[\xC2-\xFD][\x80-\xBF]*", "?") end
  return text
end

function Figure:print(o)
  print(self:text(o))
end

function Figure:__tostring()
  return self:text()
end

-- At the prompt.
function Figure:__show(width)
  return self:text { width = width }
end

function Figure:svg()
  return require "plot.svg"(self)
end

-- Everything that is shown, as plain values.
function Figure:data()
  local data = require("plot." .. self.drawn).data(self)
  data.kind, data.title, data.xlabel, data.ylabel = self.kind, self.title, self.xlabel, self.ylabel
  return data
end

local function write(path, text)
  local file, why = io.open(path, "wb")
  if not file then fail("figure:save", "cannot open %s: %s", path, why) end
  local ok
  ok, why = file:write(text)
  local closed, late = file:close()
  if not (ok and closed) then fail("figure:save", "cannot write %s: %s", path, why or late) end
end

local function save(self, path, o)
  for key in pairs(o) do
    if key ~= "data" and key ~= "scale" then fail("figure:save", "unknown option '%s' (data, scale)", tostring(key)) end
  end
  local stem, form = tostring(path):match "^(.*)%.(%a+)$"
  form = form and form:lower()
  if type(path) ~= "string" or form ~= "svg" and form ~= "png" then
    fail("figure:save", "%s: figures are saved as .svg or .png", tostring(path))
  end
  local text = self:svg() -- before there is a file
  if form == "png" then text = figure.png(text, o.scale or 2) end
  local data = o.data ~= false and require "search.journal".text(self:data()) .. "\n" or nil
  write(path, text)
  if data then write(stem .. ".data.json", data) end
  return self
end

-- o: data = false (no file of data beside), scale (of PNG: pixels of the image for one of the figure). What is wrong is
-- told at the line of the script.
function Figure:save(path, o)
  local ok, fig = pcall(save, self, path, o or {})
  if not ok then error(fig, type(fig) == "string" and not fig:find "^[^\n]-:%d+: " and 2 or 0) end
  return fig
end

return figure
