-- SPDX-License-Identifier: Apache-2.0
-- A matrix as a heat map, its values written into cells that have room.
local levels = require "plot.levels"
local paper = require "plot.paper"
local scale = require "plot.scale"
local words = require "plot.words"

local num = paper.num
local matrix = {}

local function name(v) return type(v) == "number" and levels.label(v) or tostring(v) end

-- The first label that is written and every how many: all where they fit; else of mere counts the round ones.
local function spread(list, room, each)
  local every = math.max(1, math.ceil(#list * each / math.max(room, 1)))
  if every > 1 and list[1] == 1 and list[#list] == #list then
    every = scale.step(every, 1, true) | 0
    return every, every
  end
  return 1, every
end

-- Named columns that are too wide to stand beside each other are turned; of numbers some are left out.
local function columns_of(fig, room)
  local longest, named = 0, false
  for _, column in ipairs(fig.columns) do
    longest, named = math.max(longest, paper.width_of(name(column), 11)), named or type(column) ~= "number"
  end
  local turned = named and (longest + 8) * #fig.columns > room
  return { turned = turned, longest = longest, high = turned and math.min(longest, 120) + 6 or 17 }
end

local function draw_cells(s, a, fig, w, h)
  local n, m = #fig.values, #fig.values[1]
  local function colour(v)
    if v ~= v then return s.theme.grid end -- no number, no place on the scale
    return paper.colour(levels.place(fig.levels, v), fig.two_sided)
  end
  for i = 1, n do
    local y, j = a.top + (i - 1) * h, 1
    while j <= m do -- neighbours of one colour are one rectangle
      local c, k = colour(fig.values[i][j]), j
      while k < m and colour(fig.values[i][k + 1]) == c do k = k + 1 end
      s.add('<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>', num(a.left + (j - 1) * w), num(y),
        num((k - j + 1) * w + (k < m and 0.4 or 0)), num(h + (i < n and 0.4 or 0)), c)
      j = k + 1
    end
  end
  local write, widest = levels.writer(fig.values), 1
  for _, row in ipairs(fig.values) do
    for _, v in ipairs(row) do widest = math.max(widest, paper.width_of(write(v), 1)) end
  end
  local size = math.floor(math.min(12, h * 0.6, (w - 4) / widest))
  if fig.written == false or size < 7 then return end
  for i = 1, n do
    for j = 1, m do
      local v = fig.values[i][j]
      s.text(a.left + (j - 0.5) * w, a.top + (i - 0.5) * h + size * 0.36, write(v), "middle", size,
        (' fill="%s"'):format(paper.ink_on(colour(v))))
    end
  end
end

-- Round numbers along the bar, and the ends.
local function bar_ticks(list, high)
  local low, top = list[1], list[#list]
  local out = { { 0, levels.label(low) } }
  for _, t in ipairs(scale.make(low, top, false, math.max(2, high // 60)).ticks) do
    local at = levels.place(list, t.value)
    if at * high >= 10 and (1 - at) * high >= 10 then out[#out + 1] = { at, levels.label(t.value) }
    elseif at * high < 1 then out[1][2] = levels.label(t.value) end
  end
  out[#out + 1] = { 1, levels.label(top) }
  return out
end

function matrix.svg(s, box, fig)
  local n, m, widest = #fig.values, #fig.values[1], 0
  for _, row in ipairs(fig.rows) do widest = math.max(widest, paper.width_of(name(row), 11)) end
  widest = math.min(widest, box.w * 0.3)
  local a = { left = box.x + 14 + widest + (fig.ylabel and 20 or 0), right = box.x + box.w - 76,
    top = box.y + paper.room_above(fig, box, fig.label and 26 or 14) }
  local under = columns_of(fig, a.right - a.left)
  a.bottom = box.y + box.h - 13 - under.high - (fig.xlabel and 20 or 0)
  if fig.square then
    local side = math.min((a.right - a.left) / m, (a.bottom - a.top) / n)
    local dx, dy = (a.right - a.left - side * m) / 2, (a.bottom - a.top - side * n) / 2
    a.left, a.right, a.top, a.bottom = a.left + dx, a.right - dx, a.top + dy, a.bottom - dy
    if (under.longest + 8) * m > a.right - a.left and not under.turned then
      under = columns_of(fig, a.right - a.left)
      local less = under.high - 17 -- turned after all: as many pixels less, below
      a.bottom, a.left, a.right = a.bottom - less, a.left + less * m / n / 2, a.right - less * m / n / 2
    end
  end
  local w, h = (a.right - a.left) / m, (a.bottom - a.top) / n
  draw_cells(s, a, fig, w, h)
  s.add('<rect x="%s" y="%s" width="%s" height="%s" fill="none" stroke="%s"/>', num(a.left), num(a.top),
    num(a.right - a.left), num(a.bottom - a.top), s.theme.axis)
  local function size_of(room) return room < 13 and 9 or 11 end
  local first, every = spread(fig.rows, a.bottom - a.top, size_of(h) + 1)
  for i = first, n, every do
    s.text(a.left - 7, a.top + (i - 0.5) * h + 4, name(fig.rows[i]), "end", size_of(h), nil, widest + 1)
  end
  first, every = spread(fig.columns, a.right - a.left, under.turned and size_of(w) + 1 or under.longest + 8)
  for j = first, m, every do
    local x = a.left + (j - 0.5) * w
    if under.turned then
      s.text(x + 4, a.bottom + 6, name(fig.columns[j]), "end", size_of(w),
        (' transform="rotate(-90 %s %s)"'):format(num(x + 4), num(a.bottom + 6)), under.high - 5)
    else
      s.text(x, a.bottom + 17, name(fig.columns[j]), "middle", 11)
    end
  end
  paper.title(s, a, box, fig)
  paper.xlabel(s, { left = a.left, right = a.right, bottom = a.bottom + under.high - 17 }, box, fig.xlabel)
  paper.ylabel(s, a, box, fig.ylabel, a.left - widest - 18)
  paper.bar(s, a, box, function(at) return paper.colour(at, fig.two_sided) end, 40,
    bar_ticks(fig.levels, a.bottom - a.top), fig.label)
end

local shades = { utf8 = { " ", "░", "▒", "▓", "█" }, ascii = { " ", ".", ":", "+", "#" } }

-- Numbers where they fit into the width, else shades; long names give way.
function matrix.text(fig, o)
  local widest, cell, cells, out = 0, 0, {}, {}
  local write = levels.writer(fig.values)
  for _, row in ipairs(fig.rows) do widest = math.max(widest, words.length(name(row))) end
  widest = math.min(widest, o.width // 3)
  for i, row in ipairs(fig.values) do
    cells[i] = {}
    for j, v in ipairs(row) do
      cells[i][j] = write(v)
      cell = math.max(cell, #cells[i][j])
    end
  end
  local most = math.max((o.width - widest) // #fig.columns - 1, cell) -- of a column's name
  for _, column in ipairs(fig.columns) do cell = math.max(cell, math.min(most, words.length(name(column)))) end
  local function right(v, n) return words.right_of(words.cut(name(v), n, o.ascii), n) end
  if fig.title then out[1] = words.cut(fig.title, o.width, o.ascii) end
  if widest + #fig.columns * (cell + 1) <= o.width then
    local head = { right("", widest) }
    for j, column in ipairs(fig.columns) do head[j + 1] = right(column, cell) end
    out[#out + 1] = table.concat(head, " ")
    for i, row in ipairs(cells) do
      local line = { right(fig.rows[i], widest) }
      for j, v in ipairs(row) do line[j + 1] = right(v, cell) end
      out[#out + 1] = table.concat(line, " ")
    end
  else
    local ramp = o.ascii and shades.ascii or shades.utf8
    local room = math.max(8, o.width - widest - 2)
    local every = math.max(1, math.ceil(#fig.columns / room))
    for i, row in ipairs(fig.values) do
      local line = { right(fig.rows[i], widest), o.ascii and "|" or "│" }
      for j = 1, #row, every do
        line[#line + 1] = row[j] ~= row[j] and "?"
          or ramp[math.min(#ramp, math.floor(levels.place(fig.levels, row[j]) * #ramp) + 1)]
      end
      out[#out + 1] = table.concat(line)
    end
    for _, line in ipairs(words.wrapped({ fig.label or "values", "from " .. levels.label(fig.levels[1]) .. " (blank)",
      ("to %s (%s)"):format(levels.label(fig.levels[#fig.levels]), ramp[#ramp]) }, " ", o.width, o.ascii)) do
      out[#out + 1] = line
    end
  end
  for k, line in ipairs(out) do out[k] = line:gsub(" +$", "") end
  return table.concat(out, "\n")
end

function matrix.data(fig)
  return { rows = fig.rows, columns = fig.columns, values = fig.values, label = fig.label }
end

return matrix
