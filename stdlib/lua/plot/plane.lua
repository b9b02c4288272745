-- SPDX-License-Identifier: Apache-2.0
-- A loss over a plane: classes of values filled between their level lines, models marked, a trajectory as a chain.
local contour = require "plot.contour"
local levels = require "plot.levels"
local paper = require "plot.paper"
local scale = require "plot.scale"
local words = require "plot.words"

local num = paper.num
local plane = {}

-- at(fractional index) -> pixel along an axis whose coordinates need not be even.
local function along(list, pixel)
  return function(v)
    local k = math.min(math.floor(v), #list - 1)
    return pixel(list[k] + (v - k) * (list[k + 1] - list[k]))
  end
end

local function outline(lines, ax, ay)
  local out = {}
  for _, line in ipairs(lines) do
    local part, last = {}, nil
    for _, p in ipairs(line) do
      local at = num(ax(p[1])) .. " " .. num(ay(p[2]))
      if at ~= last then part[#part + 1] = (#part == 0 and "M" or "L") .. at end
      last = at
    end
    if #part > 1 then out[#out + 1] = table.concat(part) .. (line.closed and "Z" or "") end
  end
  return table.concat(out)
end

local function draw_fields(s, a, fig)
  local ax, ay = along(fig.x, a.px), along(fig.y, a.py)
  local n = #fig.levels - 1
  s.add('<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>', num(a.px(fig.x[1])), num(a.py(fig.y[#fig.y])),
    num(a.px(fig.x[#fig.x]) - a.px(fig.x[1])), num(a.py(fig.y[1]) - a.py(fig.y[#fig.y])), paper.colour(0.5 / n))
  for k = 2, n do
    local d = outline(contour.areas(fig.values, fig.levels[k]), ax, ay)
    if d ~= "" then
      s.add('<path d="%s" fill="%s" fill-rule="evenodd"/>', d, paper.colour((k - 0.5) / n))
    end
  end
  for i, row in ipairs(fig.values) do -- what is no number has no colour of the scale
    for j, v in ipairs(row) do
      if v - v ~= 0 then
        local left, right = ax(math.max(1, i - 0.5)), ax(math.min(#fig.x, i + 0.5))
        local top, bottom = ay(math.min(#fig.y, j + 0.5)), ay(math.max(1, j - 0.5))
        s.add('<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>', num(left), num(top), num(right - left + 0.4),
          num(bottom - top + 0.4), s.theme.grid)
      end
    end
  end
  for k = 2, fig.outlined and n or 1 do
    local d = outline(contour.lines(fig.values, fig.levels[k]), ax, ay)
    if d ~= "" then s.add('<path d="%s" fill="none" stroke="#ffffff" stroke-width="0.6" opacity="0.55"/>', d) end
  end
end

local function draw_marks(s, a, fig)
  local trail = {}
  if fig.trail then
    for k, m in ipairs(fig.marks) do trail[k] = (k == 1 and "M" or "L") .. num(a.px(m.x)) .. " " .. num(a.py(m.y)) end
    s.add('<path d="%s" fill="none" stroke="#ffffff" stroke-width="3" opacity="0.85"/>', table.concat(trail))
    s.add('<path d="%s" fill="none" stroke="#111111" stroke-width="1.3"/>', table.concat(trail))
  end
  for _, path in ipairs(fig.paths or {}) do
    local d = {}
    for k, p in ipairs(path) do d[k] = (k == 1 and "M" or "L") .. num(a.px(p[1])) .. " " .. num(a.py(p[2])) end
    s.add('<path d="%s" fill="none" stroke="#ffffff" stroke-width="1.6" stroke-dasharray="5 3"/>', table.concat(d))
  end
  local every = fig.trail and math.max(1, math.ceil(#fig.marks / 6)) or 1
  for k, m in ipairs(fig.marks) do
    local x, y = a.px(m.x), a.py(m.y)
    local ends = fig.trail and (k == 1 or k == #fig.marks)
    s.add('%s fill="#ffffff" stroke="#111111" stroke-width="1"/>',
      paper.marker(1, x, y, fig.trail and not ends and 2.6 or 5))
    if not fig.trail or ends or (k - 1) % every == 0 and k < #fig.marks - every / 2 then
      local right = x + 14 + paper.width_of(m.label, 12) < a.right or x < (a.left + a.right) / 2
      s.text(x + (right and 9 or -9), y < a.top + 20 and y + 15 or y - 7, m.label, right and "start" or "end", 12,
        ' font-weight="bold" fill="#111111" stroke="#ffffff" stroke-width="3" stroke-linejoin="round" '
        .. 'paint-order="stroke"', math.min(160, (right and a.right - x or x - a.left) - 12))
    end
  end
end

function plane.svg(s, box, fig)
  local a = paper.axes(s, box, fig, { legend = 62, room = 26, grid = false, equal = fig.equal, over = function(area)
    paper.clip(s, area, function()
      draw_fields(s, area, fig)
      draw_marks(s, area, fig)
    end)
  end })
  local ticks, n = {}, #fig.levels - 1
  local span = fig.levels[n + 1] - fig.levels[1]
  for k, v in ipairs(fig.levels) do
    ticks[k] = { (k - 1) / n, levels.label(math.abs(v) < 1e-9 * span and 0 or v) } -- rounding of 0 is 0
  end
  paper.bar(s, a, box, paper.colour, n, ticks, fig.label)
end

local shades = { utf8 = { " ", "░", "▒", "▓", "█" }, ascii = { " ", ".", ":", "+", "#" } }

-- Characters for classes of values, high ones dense; models by the first letter of their label.
function plane.text(fig, o)
  local ramp = o.ascii and shades.ascii or shades.utf8
  local rows, columns = math.max(4, o.height), math.max(16, o.width - 10)
  local ys, out = scale.make(fig.ylim[1], fig.ylim[2], false, math.max(2, rows // 4)), {}
  local label = {}
  for _, t in ipairs(ys.ticks) do label[math.floor((1 - ys.at(t.value)) * (rows - 1) + 0.5)] = t.label end
  local function nearest(list, v)
    local best, off = 1, math.huge
    for k, x in ipairs(list) do
      if math.abs(x - v) < off then best, off = k, math.abs(x - v) end
    end
    return best
  end
  local cells = {}
  for r = 0, rows - 1 do
    cells[r] = {}
    local j = nearest(fig.y, fig.ylim[2] - (fig.ylim[2] - fig.ylim[1]) * r / (rows - 1))
    for c = 0, columns - 1 do
      local i = nearest(fig.x, fig.xlim[1] + (fig.xlim[2] - fig.xlim[1]) * c / (columns - 1))
      local v = fig.values[i][j]
      local s = levels.place(fig.levels, v)
      cells[r][c] = v - v ~= 0 and "?" or ramp[math.min(#ramp, math.floor(s * #ramp) + 1)]
    end
  end
  for k, m in ipairs(fig.marks) do
    local c = math.floor((m.x - fig.xlim[1]) / (fig.xlim[2] - fig.xlim[1]) * (columns - 1) + 0.5)
    local r = math.floor((fig.ylim[2] - m.y) / (fig.ylim[2] - fig.ylim[1]) * (rows - 1) + 0.5)
    if cells[r] and cells[r][c] then
      cells[r][c] = fig.trail and (k == #fig.marks and "*" or "o") or m.label:match(utf8.charpattern) or "o"
    end
  end
  if fig.title then out[1] = words.centred(fig.title, o.width, o.ascii) end
  local edge = o.ascii and "|" or "│"
  for r = 0, rows - 1 do
    local text = label[r] or ""
    out[#out + 1] = (" "):rep(8 - #text) .. text .. " " .. edge .. table.concat(cells[r], "", 0, columns - 1)
  end
  local said = { ("x from %s to %s;"):format(levels.label(fig.xlim[1]), levels.label(fig.xlim[2])),
    ("%s from %s (blank)"):format(fig.label or "value", levels.label(fig.levels[1])),
    ("to %s (%s)"):format(levels.label(fig.levels[#fig.levels]), ramp[#ramp]) }
  for _, line in ipairs(words.wrapped(said, " ", o.width - 10, o.ascii)) do out[#out + 1] = (" "):rep(10) .. line end
  for k, line in ipairs(out) do out[k] = line:gsub(" +$", "") end
  return table.concat(out, "\n")
end

function plane.data(fig)
  return { x = fig.x, y = fig.y, values = fig.values, levels = fig.levels, marks = fig.marks, label = fig.label,
    trail = fig.trail, paths = fig.paths }
end

return plane
