-- SPDX-License-Identifier: Apache-2.0
-- Lines and points over two axes, with bands, chords and heights: what plot.line, plot.scatter and the panels of
-- plot.path draw.
local paper = require "plot.paper"

local num = paper.num
local xy = {}

-- Points of one column of pixels: the first, the last and the extremes say the same as all of them.
local function thinned(xs, ys, place)
  local out, column = {}, nil
  local function flush()
    if not column then return end
    local last
    table.sort(column.keep, function(p, q) return p.k < q.k end)
    for _, p in ipairs(column.keep) do
      if p ~= last then out[#out + 1] = p end
      last = p
    end
    column = nil
  end
  for k = 1, #xs do
    local x, y = place(xs[k], ys[k])
    if not x then
      flush()
      out[#out + 1] = false -- a gap
    else
      local at, p = math.floor(2 * x), { k = k, x, y }
      if column and column.at == at then
        local keep = column.keep
        keep[2] = p
        if y < keep[3][2] then keep[3] = p end
        if y > keep[4][2] then keep[4] = p end
      else
        flush()
        column = { at = at, keep = { p, p, p, p } }
      end
    end
  end
  flush()
  return out
end

-- The d of a path through the points; those that stand alone between gaps are given to `alone`.
local function path_of(xs, ys, place, alone)
  local out, pen, last, run = {}, false, nil, 0
  local list = thinned(xs, ys, place)
  for i = 1, #list + 1 do
    local p = list[i]
    if not p then
      if run == 1 and alone then alone(list[i - 1]) end
      pen, run = false, 0
    else
      local at = num(p[1]) .. " " .. num(p[2])
      if at ~= last or not pen then out[#out + 1] = (pen and "L" or "M") .. at end
      pen, last, run = true, at, run + 1
    end
  end
  return table.concat(out, " ")
end

-- Between low and high, in parts where one of them cannot be shown. Thinned like lines: of a column the widest.
local function bands_of(series, place)
  local out, part = {}, nil
  local function flush()
    local ahead, back = {}, {}
    for k, c in ipairs(part or {}) do
      ahead[k] = num(c[1]) .. " " .. num(c[2])
      back[#part + 1 - k] = num(c[1]) .. " " .. num(c[3])
    end
    if #ahead > 1 then out[#out + 1] = "M" .. table.concat(ahead, " L") .. " L" .. table.concat(back, " L") .. "Z" end
    part = nil
  end
  for i = 1, #series.x do
    local x, low = place(series.x[i], series.low[i])
    local _, high = place(series.x[i], series.high[i])
    local c = part and part[#part]
    if not (x and high) then
      flush()
    elseif c and #series.x > 2000 and math.floor(2 * c[1]) == math.floor(2 * x) then
      c[2], c[3] = math.max(c[2], low), math.min(c[3], high)
    else
      part = part or {}
      part[#part + 1] = { x, low, high }
    end
  end
  flush()
  return #out > 0 and table.concat(out, " ") or nil
end

local function inside(v, lim) return v >= lim[1] and v <= lim[2] end

-- How high a curve stands above its chord: the chord, dashed, and an upright with its value.
local function draw_height(s, a, mark, st)
  local x1, y1 = a.place(mark.from[1], mark.from[2])
  local x2, y2 = a.place(mark.to[1], mark.to[2])
  if x1 and x2 then
    s.add('<path d="M%s %sL%s %s" fill="none" stroke="%s" stroke-width="1" stroke-dasharray="4 3" opacity="0.7"/>',
      num(x1), num(y1), num(x2), num(y2), st.colour)
  end
  local x, low = a.place(mark.x, mark.low)
  local _, high = a.place(mark.x, mark.high)
  if x and high and low - high > 6 then
    s.add('<path d="M%s %sV%sm-3 0h6M%s %sm-3 0h6" fill="none" stroke="%s" stroke-width="1.2"/>', num(x), num(low),
      num(high), num(x), num(low), st.colour)
    if low - high > 24 then -- its number by the foot, where the hill is wide
      local right = x < (a.left + a.right) / 2 + 1
      s.text(x + (right and 6 or -6), low - 8, mark.label, right and "start" or "end", 11,
        (' fill="%s" font-weight="bold" stroke="%s" stroke-width="3" paint-order="stroke"'):format(st.colour,
          s.theme.ground))
    end
  end
end

local function legend_room(fig)
  local labels = {}
  for _, sr in ipairs(fig.series) do labels[#labels + 1] = sr.label end
  return #fig.series > 1 and not fig.plain and paper.legend_room(labels, fig.width) or 0
end

-- Marks of a series; of very many, one for each place that the eye can tell from others.
local function draw_points(s, a, fig, sr, st)
  if sr.dash or fig.lines and #sr.x > 60 then return end
  local seen = #sr.x > 5000 and {} or nil
  for k = 1, #sr.x do
    local x, y = a.place(sr.x[k], sr.y[k])
    if x and inside(sr.x[k], fig.xlim) and inside(sr.y[k], fig.ylim) then
      local key = seen and (x // 2) * 65536 + y // 2
      if not (seen and seen[key]) then
        s.add(paper.marker(st.shape, x, y, fig.lines and 3 or 3.2) .. (' fill="%s"%s/>'):format(st.colour,
          fig.lines and "" or ' fill-opacity="0.75"'))
      end
      if seen then seen[key] = true end
    end
  end
end

-- Texts at points of a series: { {number of the point, text}, … }.
local function draw_notes(s, a, sr)
  for _, note in ipairs(sr.notes or {}) do
    local x, y = a.place(sr.x[note[1]], sr.y[note[1]])
    local right = x and x < (a.left + a.right) / 2
    if x then s.text(x + (right and 7 or -7), math.max(y - 6, a.top + 10), note[2], right and "start" or "end", 11) end
  end
end

function xy.svg(s, box, fig)
  local legend = legend_room(fig)
  local a = paper.axes(s, box, fig, { legend = legend })
  local function style(i)
    local st = paper.style(s.theme, fig.series[i].style or i)
    if fig.series[i].dash then st.dash = "6 3" end
    return st
  end
  paper.clip(s, a, function()
    for i, sr in ipairs(fig.series) do
      local band = sr.low and bands_of(sr, a.place)
      if band then s.add('<path d="%s" fill="%s" fill-opacity="0.18"/>', band, style(i).colour) end
    end
    for i, sr in ipairs(fig.lines and fig.series or {}) do
      local st = style(i)
      local d = path_of(sr.x, sr.y, a.place, #sr.x > 60 and function(p)
        s.add('%s fill="%s"/>', paper.marker(1, p[1], p[2], 1.2), st.colour)
      end)
      s.add('<path d="%s" fill="none" %s/>', d, paper.stroke(st))
    end
  end)
  for i, sr in ipairs(fig.series) do draw_points(s, a, fig, sr, style(i)) end
  for i, sr in ipairs(fig.series) do
    for _, mark in ipairs(sr.heights or {}) do draw_height(s, a, mark, style(i)) end
    draw_notes(s, a, sr)
  end
  if legend == 0 then return end
  local entries = {}
  for i, sr in ipairs(fig.series) do
    local st = style(i)
    entries[i] = { sr.label or "", function(x, y)
      if fig.lines then s.add('<path d="M%s %sh24" %s/>', num(x), num(y), paper.stroke(st)) end
      if not sr.dash then s.add('%s fill="%s"/>', paper.marker(st.shape, x + 12, y, 3.2), st.colour) end
    end }
  end
  paper.legend(s, a, entries, legend)
end

xy.text = require "plot.text"

function xy.data(fig)
  local series = {}
  for i, sr in ipairs(fig.series) do
    series[i] = { label = sr.label, x = sr.x, y = sr.y, low = sr.low, high = sr.high, heights = sr.heights,
      notes = sr.notes }
  end
  return { series = series, xlog = fig.xlog, ylog = fig.ylog }
end

return xy
