-- SPDX-License-Identifier: Apache-2.0
-- A figure in characters, for the terminal: lines as dots of Braille cells (2 by 4 in a character),
-- a marker for each point by which series are told apart; plain ASCII where the terminal has no UTF-8.

local scale = require "plot.scale"

local marks = { utf8 = { "●", "■", "▲", "◆", "○", "□", "△", "◇" }, ascii = { "o", "x", "+", "*", "#", "@", "%", "&" } }

-- The bit of the dot in column 0…1 and row 0…3 of a Braille cell.
local bits = { [0] = { [0] = 0x01, 0x02, 0x04, 0x40 }, { [0] = 0x08, 0x10, 0x20, 0x80 } }

local function length(s) return utf8.len(s) or #s end
local function left_of(s, n) return (" "):rep(n - length(s)) .. s end

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

local function draw(c, fig, place, marks_of)
  for i, s in ipairs(fig.series) do
    local px, py
    for k = 1, fig.lines and #s.x or 0 do
      local x, y = place(s.x[k], s.y[k])
      if x and px then line(c, px, py, x, y) end
      px, py = x, y
    end
    local every = fig.lines and math.max(1, #s.x * 8 // c.columns) or 1 -- a dense line: some of its points
    for k = 1 + (i - 1) * every // #fig.series, #s.x, every do
      local x, y = place(s.x[k], s.y[k])
      if x then c.mark(x, y, marks_of[(i - 1) % #marks_of + 1]) end
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
  local xs = scale.make(fig.xlim[1], fig.xlim[2], fig.xlog, math.max(2, columns // 12))
  local c = canvas(columns, rows, o.ascii)
  local function place(x, y)
    if x ~= x or y ~= y or (fig.xlog and x <= 0) or (fig.ylog and y <= 0) then return nil end
    local a, b = xs.at(x) * (c.width - 1), (1 - ys.at(y)) * (c.height - 1)
    if a - a ~= 0 or b - b ~= 0 or math.abs(a) > 1e5 or math.abs(b) > 1e5 then return nil end
    return math.floor(a + 0.5), math.floor(b + 0.5)
  end
  local marks_of = o.ascii and marks.ascii or marks.utf8
  draw(c, fig, place, marks_of)
  local out, label = {}, {}
  for _, t in ipairs(ys.ticks) do
    label[math.floor((1 - ys.at(t.value)) * (rows - 1) + 0.5) + 1] = t.label
  end
  if fig.title then out[1] = (" "):rep(math.max(0, (o.width - length(fig.title)) // 2)) .. fig.title end
  if fig.ylabel then out[#out + 1] = fig.ylabel end
  local edge = o.ascii and { "|", "+", "-", "+" } or { "│", "┤", "─", "└" }
  for i, row in ipairs(c.lines()) do
    out[#out + 1] = left_of(label[i] or "", wide) .. (label[i] and edge[2] or edge[1]) .. row
  end
  out[#out + 1] = left_of("", wide) .. edge[4] .. edge[3]:rep(columns)
  out[#out + 1] = left_of("", wide + 1) .. x_labels(xs.ticks, xs.at, columns)
  if fig.xlabel then
    out[#out + 1] = (" "):rep(wide + 1 + math.max(0, (columns - length(fig.xlabel)) // 2)) .. fig.xlabel
  end
  local legend = {}
  for i, s in ipairs(fig.series) do
    if s.label then legend[#legend + 1] = marks_of[(i - 1) % #marks_of + 1] .. " " .. s.label end
  end
  if #legend > 0 then out[#out + 1] = (" "):rep(wide + 1) .. table.concat(legend, "   ") end
  for i, row in ipairs(out) do out[i] = row:gsub(" +$", "") end
  return table.concat(out, "\n")
end
