-- SPDX-License-Identifier: Apache-2.0
-- Lines and points over two axes, with bands, chords and heights: what plot.line, plot.scatter and the panels of
-- plot.path draw.
local paper = require "plot.paper"

local num = paper.num
local xy = {}

local function path_of(xs, ys, place)
  local out, pen, last = {}, false, nil
  for i = 1, #xs do
    local x, y = place(xs[i], ys[i])
    if not x then
      pen = false
    else
      local at = num(x) .. " " .. num(y)
      if at ~= last or not pen then out[#out + 1] = (pen and "L" or "M") .. at end
      pen, last = true, at
    end
  end
  return table.concat(out, " ")
end

-- Between low and high; gaps where one of them cannot be shown are bridged.
local function band_of(series, place)
  local ahead, back = {}, {}
  for i = 1, #series.x do
    local x, y = place(series.x[i], series.low[i])
    local _, z = place(series.x[i], series.high[i])
    if x and z then
      ahead[#ahead + 1] = num(x) .. " " .. num(y)
      table.insert(back, 1, num(x) .. " " .. num(z))
    end
  end
  return #ahead > 1 and "M" .. table.concat(ahead, " L") .. " L" .. table.concat(back, " L") .. "Z" or nil
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
    if low - high > 24 then
      local right = x < (a.left + a.right) / 2 + 1
      s.text(x + (right and 6 or -6), (low + high) / 2 + 4, mark.label, right and "start" or "end", 11,
        (' fill="%s" font-weight="bold" stroke="%s" stroke-width="3" paint-order="stroke"'):format(st.colour,
          s.theme.ground))
    end
  end
end

local function legend_room(fig)
  local wide = 0
  for _, sr in ipairs(fig.series) do
    if sr.label then wide = math.max(wide, paper.width_of(sr.label, 12) + 40) end
  end
  return #fig.series > 1 and not fig.plain and math.min(wide, fig.width * 0.4) or 0
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
      local band = sr.low and band_of(sr, a.place)
      if band then s.add('<path d="%s" fill="%s" fill-opacity="0.18"/>', band, style(i).colour) end
    end
    if fig.lines then
      for i, sr in ipairs(fig.series) do
        s.add('<path d="%s" fill="none" %s/>', path_of(sr.x, sr.y, a.place), paper.stroke(style(i)))
      end
    end
  end)
  for i, sr in ipairs(fig.series) do
    local st = style(i)
    for k = 1, not sr.dash and (not fig.lines or #sr.x <= 60) and #sr.x or 0 do
      local x, y = a.place(sr.x[k], sr.y[k])
      if x and inside(sr.x[k], fig.xlim) and inside(sr.y[k], fig.ylim) then
        s.add(paper.marker(st.shape, x, y, fig.lines and 3 or 3.2) .. (' fill="%s"%s/>'):format(st.colour,
          fig.lines and "" or ' fill-opacity="0.75"'))
      end
    end
  end
  for i, sr in ipairs(fig.series) do
    for _, mark in ipairs(sr.heights or {}) do draw_height(s, a, mark, style(i)) end
  end
  for i, sr in ipairs(legend > 0 and fig.series or {}) do
    local st, y = style(i), a.top + 10 + 20 * (i - 1)
    if fig.lines then s.add('<path d="M%s %sh24" %s/>', num(a.right + 10), num(y), paper.stroke(st)) end
    if not sr.dash then s.add('%s fill="%s"/>', paper.marker(st.shape, a.right + 22, y, 3.2), st.colour) end
    s.text(a.right + 40, y + 4, sr.label or "", "start", 12)
  end
end

xy.text = require "plot.text"

function xy.data(fig)
  local series = {}
  for i, sr in ipairs(fig.series) do
    series[i] = { label = sr.label, x = sr.x, y = sr.y, low = sr.low, high = sr.high, heights = sr.heights }
  end
  return { series = series, xlog = fig.xlog, ylog = fig.ylog }
end

return xy
