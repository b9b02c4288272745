-- SPDX-License-Identifier: Apache-2.0
-- Histograms: how many values lie in each bin; several lists over the same bins, drawn over each other. Unless said,
-- bins are as wide as Freedman and Diaconis (1981) say, rounded so that borders are round numbers.
local figure = require "plot.figure"
local paper = require "plot.paper"
local scale = require "plot.scale"

local num, fail = paper.num, figure.fail
local histogram = {}

-- ---- bins ----

-- k steps from 0: of steps below 1, which are whole parts of 1, the number nearest to it (3 / 10 is, 3 * 0.1 is not).
local function border(k, step) return step < 1 and k / math.floor(1 / step + 0.5) or k * step end

-- Borders of about as many bins as `count` says, or as the rule does, around all values; they ascend.
local function borders_of(lists, count)
  local all = {}
  for _, list in ipairs(lists) do table.move(list, 1, #list, #all + 1, all) end
  table.sort(all)
  local low, high, n = all[1], all[#all], #all
  local size = math.max(math.abs(low), math.abs(high))
  if high - low <= math.max(1e-14 * size, 1e-300) then -- one value
    local half = size <= 1e-290 and 0.5 or size * 0.05
    return { low - half, low + half }
  end
  if not count then
    local width = 2 * (all[math.ceil(0.75 * n)] - all[math.ceil(0.25 * n)]) / n ^ (1 / 3)
    count = width > 0 and math.max(5, math.min(100, (high - low) / width)) or 20
  end
  local step = scale.step(high - low, math.min(count, (high - low) / (4e-16 * size))) -- more than a rounding
  local first, out = math.floor(low / step + 1e-9), {}
  if border(first, step) > low then first = first - 1 end
  repeat out[#out + 1] = border(first + #out, step) until out[#out] > high or #out > 2 * count + 3
  return out
end

local function counts_of(list, borders)
  local out, n = {}, #borders - 1
  for k = 1, n do out[k] = 0 end
  for _, v in ipairs(list) do
    if v >= borders[1] and v <= borders[n + 1] then
      local a, b = 1, n + 1 -- borders[a] <= v, and v < borders[b] but at the end
      while b - a > 1 do
        local m = (a + b) // 2
        if v >= borders[m] then a = m else b = m end
      end
      out[a] = out[a] + 1
    end
  end
  return out
end

local function given_borders(bins, what)
  local list = figure.numbers(bins, what, "bins")
  for k = 2, #list do
    if list[k] - list[k - 1] <= 0 or list[k] ~= list[k] then fail(what, "bins: a list of borders ascends") end
  end
  if #list < 2 then fail(what, "bins: at least two borders") end
  return list
end

function histogram.make(what, o)
  local fig = figure.start(what, { title = o.title, xlabel = o.xlabel, ylabel = o.ylabel
    or (o.density and "density" or "count"), theme = o.theme, width = o.width, height = o.height }, "histogram",
    "histogram", 640, 400)
  fig.series, fig.lines, fig.ylog, fig.density = {}, true, o.ylog, o.density
  local lists = {}
  for i, entry in ipairs(o) do
    local named = type(entry) == "table" and type(entry[1]) == "string"
    local values, kept = figure.numbers(named and entry[2] or entry, what, named and entry[1] or "list " .. i), {}
    for _, v in ipairs(values) do
      if scale.shown(v) then kept[#kept + 1] = v end
    end
    fig.series[i] = { label = named and entry[1] or nil, n = #kept, left_out = #values - #kept }
    lists[i] = kept
    if #kept == 0 then fail(what, "%s has no finite value", named and entry[1] or "list " .. i) end
  end
  if #lists == 0 then fail(what, "nothing to plot: give lists of numbers, or { \"label\", list }") end
  if type(o.bins) == "table" then
    fig.borders = given_borders(o.bins, what)
  else
    if o.bins ~= nil and (math.type(o.bins) ~= "integer" or o.bins < 1 or o.bins > 10000) then
      fail(what, "bins is a number from 1 to 10000, or a list of borders")
    end
    fig.borders = borders_of(lists, o.bins)
  end
  local top, least, x = 0, math.huge, {}
  for k = 1, #fig.borders - 1 do x[k] = (fig.borders[k] + fig.borders[k + 1]) / 2 end
  for i, s in ipairs(fig.series) do
    s.counts, s.x, s.y = counts_of(lists[i], fig.borders), x, {}
    for k, count in ipairs(s.counts) do
      s.y[k] = o.density and count / (s.n * (fig.borders[k + 1] - fig.borders[k])) or count
      top = math.max(top, s.y[k])
      if s.y[k] > 0 then least = math.min(least, s.y[k]) end
    end
  end
  if top == 0 then fail(what, "no value is within the bins") end
  fig.xlim = { scale.range(fig.borders[1], fig.borders[#fig.borders]) }
  if fig.borders[1] >= 0 then fig.xlim[1] = fig.borders[1] - 0.04 * (fig.borders[#fig.borders] - fig.borders[1]) end
  fig.ylim = o.ylog and { least / 2, top * 1.5 } or { 0.0, 1.04 * top }
  return fig
end

-- ---- faces ----

-- The outline of the bars: up, along and down.
local function outline(fig, s, a)
  local out = { ("M%s %s"):format(num(a.px(fig.borders[1])), num(a.bottom)) }
  for k, v in ipairs(s.y) do
    local y = v > fig.ylim[1] and a.py(v) or a.bottom
    out[#out + 1] = ("V%sH%s"):format(num(y), num(a.px(fig.borders[k + 1])))
  end
  return table.concat(out) .. ("V%s"):format(num(a.bottom))
end

function histogram.svg(s, box, fig)
  local labels, entries = {}, {}
  for _, sr in ipairs(#fig.series > 1 and fig.series or {}) do labels[#labels + 1] = sr.label end
  local legend = paper.legend_room(labels, fig.width)
  local a = paper.axes(s, box, fig, { legend = legend })
  for i, sr in ipairs(fig.series) do
    local st = paper.style(s.theme, i)
    s.add('<path d="%s" fill="%s" fill-opacity="%s" %s/>', outline(fig, sr, a), st.colour,
      #fig.series > 1 and "0.25" or "0.55", (paper.stroke(st):gsub('"1.8"', '"1.2"')))
    entries[i] = { sr.label or "", function(x, y)
      s.add('<rect x="%s" y="%s" width="24" height="10" fill="%s" fill-opacity="0.4" stroke="%s"/>', num(x), num(y - 5),
        st.colour, st.colour)
    end }
  end
  if legend > 0 then paper.legend(s, a, entries, legend) end
end

-- A line through the middles of the bars.
histogram.text = require "plot.text"

function histogram.data(fig)
  local series = {}
  for i, s in ipairs(fig.series) do
    series[i] = { label = s.label, counts = s.counts, y = s.y, n = s.n, left_out = s.left_out }
  end
  return { series = series, borders = fig.borders, ylog = fig.ylog }
end

return histogram
