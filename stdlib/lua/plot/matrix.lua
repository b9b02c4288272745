-- SPDX-License-Identifier: Apache-2.0
-- A matrix as a heat map, its values written into cells that have room.
local levels = require "plot.levels"
local paper = require "plot.paper"

local num = paper.num
local matrix = {}

local function name(v) return type(v) == "number" and levels.label(v) or tostring(v) end

-- Every how many labels fit.
local function spread(count, room, each) return math.max(1, math.ceil(count * each / math.max(room, 1))) end

function matrix.svg(s, box, fig)
  local n, m, widest, theme = #fig.values, #fig.values[1], 0, s.theme
  for _, row in ipairs(fig.rows) do widest = math.max(widest, paper.width_of(name(row), 11)) end
  widest = math.min(widest, box.w * 0.35)
  local a = { left = box.x + 14 + widest + (fig.ylabel and 20 or 0), right = box.x + box.w - 76,
    top = box.y + (fig.title and 36 or fig.label and 26 or 14), bottom = box.y + box.h - 30 - (fig.xlabel and 20 or 0) }
  if fig.square then
    local side = math.min((a.right - a.left) / m, (a.bottom - a.top) / n)
    local dx, dy = (a.right - a.left - side * m) / 2, (a.bottom - a.top - side * n) / 2
    a.left, a.right, a.top, a.bottom = a.left + dx, a.right - dx, a.top + dy, a.bottom - dy
  end
  local w, h = (a.right - a.left) / m, (a.bottom - a.top) / n
  for i = 1, n do
    local y, j = a.top + (i - 1) * h, 1
    while j <= m do -- neighbours of one colour are one rectangle
      local c, k = paper.colour(levels.place(fig.levels, fig.values[i][j])), j
      while k < m and paper.colour(levels.place(fig.levels, fig.values[i][k + 1])) == c do k = k + 1 end
      s.add('<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>', num(a.left + (j - 1) * w), num(y),
        num((k - j + 1) * w + (k < m and 0.4 or 0)), num(h + (i < n and 0.4 or 0)), c)
      j = k + 1
    end
  end
  local most = 1
  for _, row in ipairs(fig.values) do
    for _, v in ipairs(row) do most = math.max(most, #levels.label(v)) end
  end
  local size = math.floor(math.min(12, h * 0.6, w / (0.62 * most)))
  if fig.written ~= false and size >= 7 then
    for i = 1, n do
      for j = 1, m do
        local v = fig.values[i][j]
        s.text(a.left + (j - 0.5) * w, a.top + (i - 0.5) * h + size * 0.36, levels.label(v), "middle", size,
          (' fill="%s"'):format(paper.ink_on(levels.place(fig.levels, v))))
      end
    end
  end
  s.add('<rect x="%s" y="%s" width="%s" height="%s" fill="none" stroke="%s"/>', num(a.left), num(a.top),
    num(a.right - a.left), num(a.bottom - a.top), theme.axis)
  local every = spread(n, a.bottom - a.top, 14)
  for i = 1, n, every do s.text(a.left - 7, a.top + (i - 0.5) * h + 4, name(fig.rows[i]), "end", 11) end
  local longest = 0
  for _, column in ipairs(fig.columns) do longest = math.max(longest, paper.width_of(name(column), 11) + 8) end
  every = spread(m, a.right - a.left, longest)
  for j = 1, m, every do s.text(a.left + (j - 0.5) * w, a.bottom + 17, name(fig.columns[j]), "middle", 11) end
  if fig.title then s.text((a.left + a.right) / 2, a.top - 14, fig.title, "middle", 14, ' font-weight="bold"') end
  if fig.xlabel then s.text((a.left + a.right) / 2, a.bottom + 38, fig.xlabel, "middle", 12) end
  if fig.ylabel then
    local x, y = a.left - widest - 18, (a.top + a.bottom) / 2
    s.text(x, y, fig.ylabel, "middle", 12, (' transform="rotate(-90 %s %s)"'):format(num(x), num(y)))
  end
  local parts, steps = {}, 40
  for k = 1, steps do
    local at = (k - 1) / steps * (#fig.levels - 1)
    local i = math.floor(at)
    parts[k] = { paper.colour((k - 0.5) / steps), (k - 1) % 10 == 0
      and levels.label(fig.levels[i + 1] + (at - i) * (fig.levels[i + 2] - fig.levels[i + 1])) or nil }
  end
  parts.top = levels.label(fig.levels[#fig.levels])
  paper.bar(s, a, parts, fig.label)
end

local shades = { utf8 = { " ", "░", "▒", "▓", "█" }, ascii = { " ", ".", ":", "+", "#" } }

-- Numbers where they fit into the width, else shades.
function matrix.text(fig, o)
  local widest, cell, cells, out = 0, 0, {}, {}
  for _, row in ipairs(fig.rows) do widest = math.max(widest, utf8.len(name(row)) or #name(row)) end
  for i, row in ipairs(fig.values) do
    cells[i] = {}
    for j, v in ipairs(row) do
      cells[i][j] = levels.label(v)
      cell = math.max(cell, #cells[i][j], utf8.len(name(fig.columns[j])) or 1)
    end
  end
  local function right(text, n) return (" "):rep(n - (utf8.len(text) or #text)) .. text end
  if fig.title then out[1] = fig.title end
  if widest + #fig.columns * (cell + 1) <= o.width then
    local head = { right("", widest) }
    for j, column in ipairs(fig.columns) do head[j + 1] = right(name(column), cell) end
    out[#out + 1] = table.concat(head, " ")
    for i, row in ipairs(cells) do
      local line = { right(name(fig.rows[i]), widest) }
      for j, text in ipairs(row) do line[j + 1] = right(text, cell) end
      out[#out + 1] = table.concat(line, " ")
    end
  else
    local ramp = o.ascii and shades.ascii or shades.utf8
    local room = math.max(8, o.width - widest - 2)
    local every = math.max(1, math.ceil(#fig.columns / room))
    for i, row in ipairs(fig.values) do
      local line = { right(name(fig.rows[i]), widest), o.ascii and "|" or "│" }
      for j = 1, #row, every do
        line[#line + 1] = ramp[math.min(#ramp, math.floor(levels.place(fig.levels, row[j]) * #ramp) + 1)]
      end
      out[#out + 1] = table.concat(line)
    end
    out[#out + 1] = ("%s from %s (blank) to %s (%s)"):format(fig.label or "values", levels.label(fig.levels[1]),
      levels.label(fig.levels[#fig.levels]), ramp[#ramp])
  end
  for k, line in ipairs(out) do out[k] = line:gsub(" +$", "") end
  return table.concat(out, "\n")
end

function matrix.data(fig)
  return { rows = fig.rows, columns = fig.columns, values = fig.values, label = fig.label }
end

return matrix
