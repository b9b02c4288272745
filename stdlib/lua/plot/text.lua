-- SPDX-License-Identifier: Apache-2.0
-- A figure in characters, for the terminal: lines as dots of Braille cells (2 by 4 in a character),
-- a marker for each point by which series are told apart; plain ASCII where the terminal has no UTF-8.

local scale = require "plot.scale"
local words = require "plot.words"

local length, right_of = words.length, words.right_of
local marks = { utf8 = { "●", "■", "▲", "◆", "○", "□", "△", "◇" }, ascii = { "o", "x", "+", "*", "#", "@", "%", "&" } }

-- The bit of the dot in column 0…1 and row 0…3 of a Braille cell.
local bits = { [0] = { [0] = 0x01, 0x02, 0x04, 0x40 }, { [0] = 0x08, 0x10, 0x20, 0x80 } }

-- What stands for series i: dashed ones have no marks.
local function mark_of(s, i, ascii)
  if s.dash then return ascii and "-" or "╌" end
  local list = ascii and marks.ascii or marks.utf8
  return list[((s.style or i) - 1) % #list + 1]
end

-- A canvas of w by h characters: dot(x, y) in units of dots from the top left, mark(x, y, c), lines().
local function canvas(w, h, ascii)
  local cells, over = {}, {}
  local dx, dy = ascii and 1 or 2, ascii and 1 or 4
  local c = { columns = w, width = w * dx, height = h * dy }
  local function cell(x, y) return (y // dy) * w + x // dx end
  function c.dot(x, y)
    if x < 0 or y < 0 or x >= c.width or y >= c.height then return end
    local at = cell(x, y)
    cells[at] = (cells[at] or 0) | (ascii and 1 or bits[x % 2][y % 4])
  end
  function c.mark(x, y, ch)
    if x >= 0 and y >= 0 and x < c.width and y < c.height then over[cell(x, y)] = ch end
  end
  function c.lines()
    local out = {}
    for row = 0, h - 1 do
      local line = {}
      for col = 0, w - 1 do
        local at = row * w + col
        line[#line + 1] = over[at] or (cells[at] and (ascii and "." or utf8.char(0x2800 + cells[at]))) or " "
      end
      out[row + 1] = table.concat(line)
    end
    return out
  end
  return c
end

local function line(c, x0, y0, x1, y1)
  local n = math.max(math.abs(x1 - x0), math.abs(y1 - y0))
  for i = 0, n do
    local t = n == 0 and 0 or i / n
    c.dot(math.floor(x0 + (x1 - x0) * t + 0.5), math.floor(y0 + (y1 - y0) * t + 0.5))
  end
end

-- A line of many points in each column of dots: from the lowest to the highest of them.
local function dense(c, s, place)
  local low, high = {}, {}
  for k = 1, #s.x do
    local x, y = place(s.x[k], s.y[k])
    if x then low[x], high[x] = math.min(low[x] or y, y), math.max(high[x] or y, y) end
  end
  for x = 0, c.width - 1 do
    if low[x] then line(c, x, low[x], x, high[x]) end
  end
end

local function draw(c, fig, place, ascii)
  for i, s in ipairs(fig.series) do
    local px, py
    local many = #s.x > 8 * c.width
    if fig.lines and many then dense(c, s, place) end
    for k = 1, fig.lines and not many and #s.x or 0 do
      local x, y = place(s.x[k], s.y[k])
      if x and px then line(c, px, py, x, y) end
      px, py = x, y
    end
    local every = fig.lines and math.max(1, #s.x * 8 // c.columns) or 1 -- a dense line: some of its points
    for k = 1 + (i - 1) * every // #fig.series, s.dash and 0 or #s.x, every do
      local x, y = place(s.x[k], s.y[k])
      if x then c.mark(x, y, mark_of(s, i, ascii)) end
    end
  end
end

-- Labels of the x axis, each under its tick, as far as they do not touch.
local function x_labels(ticks, at, width)
  local out, free = {}, 0
  for _, t in ipairs(ticks) do
    local n = length(t.label)
    local start = math.max(0, math.min(width - n, math.floor(at(t.value) * (width - 1) - n / 2 + 0.5)))
    if start >= free then
      out[#out + 1] = (" "):rep(start - (free > 0 and free - 1 or 0)) .. t.label
      free = start + n + 1
    end
  end
  return table.concat(out)
end

-- {width =, height =} in characters, ascii. Lines without trailing spaces.
return function(fig, o)
  local rows = math.max(4, o.height)
  local ys = scale.make(fig.ylim[1], fig.ylim[2], fig.ylog, math.max(2, rows // 4))
  local wide = 0
  for _, t in ipairs(ys.ticks) do wide = math.max(wide, length(t.label)) end
  local columns = math.max(16, o.width - wide - 1)
  local xs = scale.make(fig.xlim[1], fig.xlim[2], fig.xlog, math.max(2, columns // 12), fig.whole)
  local xlabel, ylabel = scale.named(fig.xlabel, xs, "x"), scale.named(fig.ylabel, ys, "y")
  local c = canvas(columns, rows, o.ascii)
  local function place(x, y)
    if not scale.shown(x, fig.xlog) or not scale.shown(y, fig.ylog) then return nil end
    local a, b = xs.at(x) * (c.width - 1), (1 - ys.at(y)) * (c.height - 1)
    if math.abs(a) > 1e5 or math.abs(b) > 1e5 then return nil end
    return math.floor(a + 0.5), math.floor(b + 0.5)
  end
  draw(c, fig, place, o.ascii)
  local out, label = {}, {}
  for _, t in ipairs(ys.ticks) do
    label[math.floor((1 - ys.at(t.value)) * (rows - 1) + 0.5) + 1] = t.label
  end
  if fig.title then out[1] = words.centred(fig.title, o.width, o.ascii) end
  if ylabel then out[#out + 1] = words.cut(ylabel, o.width, o.ascii) end
  local edge = o.ascii and { "|", "+", "-", "+" } or { "│", "┤", "─", "└" }
  for i, row in ipairs(c.lines()) do
    out[#out + 1] = right_of(label[i] or "", wide) .. (label[i] and edge[2] or edge[1]) .. row
  end
  out[#out + 1] = right_of("", wide) .. edge[4] .. edge[3]:rep(columns)
  out[#out + 1] = right_of("", wide + 1) .. x_labels(xs.ticks, xs.at, columns)
  if xlabel then out[#out + 1] = (" "):rep(wide + 1) .. words.centred(xlabel, columns, o.ascii) end
  local legend = {}
  for i, s in ipairs(fig.series) do
    if s.label then legend[#legend + 1] = mark_of(s, i, o.ascii) .. " " .. words.clean(s.label) end
  end
  for _, row in ipairs(words.wrapped(legend, "   ", columns, o.ascii)) do
    out[#out + 1] = (" "):rep(wide + 1) .. row
  end
  for i, row in ipairs(out) do out[i] = row:gsub(" +$", "") end
  return table.concat(out, "\n")
end
