-- SPDX-License-Identifier: Apache-2.0
-- plot.line and plot.scatter: axes with round numbers, where points land, text and SVG, what is refused.
local check = require "check"
local scale = require "plot.scale"
local folder <close> = require "folder"()

-- ---- round numbers ----

local function labels(low, high, log, count)
  local out = {}
  for i, t in ipairs(scale.make(low, high, log, count).ticks) do out[i] = t.label end
  return table.concat(out, " ")
end
for _, case in ipairs {
  { 0, 1, false, 5, "0.0 0.2 0.4 0.6 0.8 1.0" }, { 0, 1, false, 4, "0.00 0.25 0.50 0.75 1.00" }, { -1.04, 1.04, false, 4, "-1 0 1" },
  { 3, 1234, false, 6, "250 500 750 1000" }, { 2e6, 8e6, false, 3, "2e6 4e6 6e6 8e6" }, { 0, 4e-6, false, 4, "0 1e-6 2e-6 3e-6 4e-6" },
  { 0.04, 0.9, true, 5, "0.05 0.1 0.2 0.5" }, { 1, 1e9, true, 4, "1e0 1e2 1e4 1e6 1e8" }, { 0.98, 1.02, true, 4, "0.98 0.99 1.00 1.01 1.02" },
  { 1e-8, 1e-2, true, 9, "1e-8 1e-7 1e-6 1e-5 1e-4 1e-3 1e-2" }, { 5, 5.2, false, 4, "5.00 5.05 5.10 5.15 5.20" },
  -- one form for all labels of an axis; no -0; what differs behind six digits counts from a round number
  { 0, 2.1e6, false, 5, "0 0.5e6 1.0e6 1.5e6 2.0e6" }, { -1e-4, 1e-4, false, 4, "-1.0e-4 -0.5e-4 0 0.5e-4 1.0e-4" },
  { 1, 1 + 3e-12, false, 3, "0 1e-12 2e-12 3e-12" }, { 1e6, 1e6 + 2, false, 4, "0.0 0.5 1.0 1.5 2.0" },
  { 100000.01, 100000.02, false, 2, "0.010 0.015 0.020" },
} do
  check.equal(labels(table.unpack(case, 1, 4)), case[5], case[5])
end
check.near(scale.make(10, 1000, true, 3).at(100), 0.5, 1e-12)
do
  local s = scale.make(1e6, 1e6 + 2, false, 4)
  check.equal({ s.from, s.ticks[2].value, scale.named("step", s, "x"), scale.named(nil, s, "x") },
    { 1e6, 1e6 + 0.5, "step - 1000000", "x - 1000000" })
  local whole = {}
  for i, t in ipairs(scale.make(0.9, 3.1, false, 6, true).ticks) do whole[i] = t.label end
  check.equal(table.concat(whole, " "), "1 2 3")
  check.equal(#scale.make(1, 100, true, 4).minor, 16) -- 3 to 9, and 2 and 5 too where only powers have labels
  check.near((scale.range(0.3, 0.1 + 0.2)), 0.27, 1e-9) -- equal but for rounding
end
check.near(scale.make(-2, 2, false, 3).at(1), 0.75, 1e-12)

-- ---- SVG: points where they belong, cut at the limits, text escaped ----

do
  local fig = plot.line { x = { 0, 1, 2 }, { "a<b>", { 0, 1, 4 } }, { "c", { 4, 0 / 0, 0 } }, xlim = { 0, 2 }, ylim = { 0, 4 },
    title = "T & \"t\"", xlabel = "x", ylabel = "y" }
  local svg = fig:svg()
  check.equal(svg, fig:svg())
  assert(svg:find('<svg xmlns="http://www.w3.org/2000/svg" width="640" height="400"', 1, true) and svg:sub(-7) == "</svg>\n")
  assert(svg:find("T &amp; &quot;t&quot;", 1, true) and svg:find(">a&lt;b&gt;<", 1, true))
  local left, top, right, bottom = svg:match '<svg x="([%d.]+)" y="([%d.]+)" width="([%d.]+)" height="([%d.]+)"'
  left, top, right, bottom = tonumber(left), tonumber(top), left + right, top + bottom
  local function n(v) return (("%.2f"):format(v):gsub("%.?0+$", "")) end
  assert(svg:find(('<path d="M%s %sL%s %sL%s %s" fill="none"'):format(n(left), n(bottom), n((left + right) / 2),
    n(bottom - (bottom - top) / 4), n(right), n(top)):gsub("L", " L"), 1, true), svg)
  assert(svg:find(('<path d="M%s %s M%s %s" fill="none" stroke="#D55E00"'):format(n(left), n(top), n(right), n(bottom)), 1, true), svg)
  check.equal(select(2, svg:gsub("<circle", "")), 4) -- three points and the legend's
  check.equal(select(2, svg:gsub("<polygon", "")), 3)
  -- tags close, none is left open
  local open = {}
  for close, name, self in svg:gmatch "<(/?)(%a+)[^>]-(/?)>" do
    if close == "/" then
      check.equal(table.remove(open), name)
    elseif self == "" then
      open[#open + 1] = name
    end
  end
  check.equal(#open, 0)
end
do -- outside the limits nothing is marked
  local svg = plot.scatter({ { "p", { 0, 1, 2, 3 }, { 0, 9, 1, 1 } }, ylim = { 0, 1 }, xlim = { 0, 2.5 } }):svg()
  check.equal(select(2, svg:gsub("<circle", "")), 2)
  svg = plot.scatter({ { "p", { 1, 10, 100 }, { 1, 0, 10 } }, xlog = true, ylog = true }):svg()
  check.equal(select(2, svg:gsub("<circle", "")), 2)
end
do -- tensors, one flat value, more series than colours
  local fig = plot.line { tensor { 1, 1, 1 }, x = tensor { 1, 2, 3 } }
  check.equal({ fig.ylim[1] < 1, fig.ylim[2] > 1, fig.series[1].x[3] }, { true, true, 3.0 })
  local many = {}
  for i = 1, 10 do many[i] = { "s" .. i, { i, i + 1 } } end
  local svg = plot.line(many):svg()
  assert(svg:find('stroke="#0072B2" stroke-width="1.8" stroke-linejoin="round" stroke-dasharray', 1, true))
end

do -- hard data: nothing is cut, XML stays XML, what cannot be shown leaves a gap
  local long = "models/of-an-organisation/a-fine-tune-of-a-fine-tune-7b-instruct-v0.3-final.safetensors"
  local title = "a title that is longer than its picture is wide, as those of papers are wont to be, on the loss"
  local fig = plot.line { { long, { 1, 2, 3 } }, { "bad \xff \1\27[31m\0", { 3, 2, 1 } }, { "new\nline", { 2, 2, 2 } },
    title = title, xlabel = title .. title, ylabel = title }
  local svg = fig:svg()
  assert(utf8.len(svg) and not svg:find "[%z\1-\8\11-\31]", "no XML")
  assert(svg:find("models/o", 1, true) and svg:find("…", 1, true) and svg:find("<title>" .. long .. "</title>", 1, true))
  assert(svg:find("bad \\xFF \\x01\\x1B[31m\\x00", 1, true) and svg:find(">new line<", 1, true))
  check.equal(select(2, svg:gsub('font%-weight="bold"', "")), 2) -- the title has two lines
  for _, width in ipairs { 40, 80 } do
    for _, ascii in ipairs { true, false } do
      for line in fig:text { width = width, ascii = ascii }:gmatch "[^\n]+" do
        assert(utf8.len(line) and utf8.len(line) <= width and not line:find "%c", line)
        assert(not ascii or not line:find "[\x80-\xFF]", line)
      end
    end
  end
  local many = {}
  for i = 1, 40 do many[i] = { "series " .. i, { i, i } } end
  svg = plot.line(many):svg()
  assert(svg:find("… %d+ more") and not svg:find(">series 40<", 1, true))
  for y in svg:gmatch '<text x="[%d.]+" y="([%d.]+)"' do assert(tonumber(y) < 400, y) end
  svg = plot.line({ { 1, -1e308, 1e308, 1, 0 / 0 } }):svg()
  assert(not svg:find "nan" and not svg:find "inf")
  plot.line({ { 1e308, -1e308, 1 } }):text()
  -- a band has gaps where its line has
  svg = plot.line({ { label = "b", x = { 1, 2, 3, 4, 5 }, y = { 1, 1, 1, 1, 1 }, low = { 0, 0, 0 / 0, 0, 0 },
    high = { 2, 2, 2, 2, 2 } } }):svg()
  check.equal(select(2, svg:match '<path d="([^"]+)" fill="#0072B2" fill%-opacity="0.18"':gsub("M", "")), 2)
  -- exponents are raised, a minus is one
  svg = plot.line({ { -1, 1e-8, 1e5 }, x = { -1, 0, 1 }, ylog = true }):svg()
  assert(svg:find('10<tspan dy="-4" font-size="8">−6</tspan>', 1, true) and svg:find(">−1.0<", 1, true)
    or svg:find(">−1<", 1, true))
end
do -- a dashed line has no marks, a note stands at its point
  local fig = plot.line { { label = "a", y = { 1, 2 }, notes = { { 2, "<end>" } } }, { label = "b", y = { 3, 3 }, dash = true } }
  local svg = fig:svg()
  check.equal({ select(2, svg:gsub("<polygon", "")), svg:find(">&lt;end&gt;<", 1, true) ~= nil }, { 0, true })
  assert(fig:text { ascii = true }:find("- b", 1, true))
end
do -- many points: as many as pixels can tell apart; extremes are kept
  local x, y, low = {}, {}, {}
  for i = 1, 50000 do x[i], y[i], low[i] = i, i % 7, i % 7 - 1 end
  y[30000] = 100
  local fig = plot.line { { label = "m", x = x, y = y, low = low }, xlim = { 1, 50000 }, ylim = { 0, 100 } }
  local svg = fig:svg()
  assert(#svg < 200000, #svg)
  local top = svg:match '<svg x="[%d.]+" y="([%d.]+)"'
  assert(svg:find("[ML]%d[%d.]* " .. top .. " L"), "the highest point is lost")
  assert(fig:text { width = 60, ascii = true }:find "%.")
  assert(#plot.scatter({ { "s", x, y } }):svg() < 3e6)
end
do -- logarithms of every size have an end, and ticks that are numbers
  check.equal(plot.line({ { "a", { 1, 2 }, { 1e-15, 1e298 } }, ylog = true }).ylim[2] < math.huge, true)
  check.equal({ scale.range(1e-310, 1e299, true) }, { 1e-323, 1e308 })
  check.near((scale.range(1e-3, 1e3, true)), 1e-3 / 1e6 ^ 0.03, 1e-15)
  for _, lim in ipairs { { 1e-310, 1e299 }, { 5e-324, 1.7e308 }, { 1e308, 1.5e308 }, { 5e-324, 1e-323 }, { 1e-312, 3e-312 } } do
    for _, log in ipairs { true, false } do
      local fig = plot.line { { 1, 2, x = lim }, { "b", lim, lim }, xlim = lim, ylim = lim, xlog = log, ylog = log }
      local text = fig:svg() .. fig:text { ascii = true }
      assert(not text:find "nan" and not text:find "%f[%a]inf%f[%A]", text)
      for _, t in ipairs(scale.make(lim[1], lim[2], log, 5).ticks) do assert(t.value > 0 and t.value < math.huge or not log) end
    end
  end
  plot.line({ { "a", { 1, 2 }, { 1e-310, 1e299 } }, ylog = true }):svg()
  check.raises("xlim = { low, high }", plot.line, { { 1, 2 }, xlim = { 1, math.huge }, xlog = true })
  check.raises("ylim = { low, high }", plot.line, { { 1, 2 }, ylim = { -1.7e308, 1.7e308 } })
end
do -- what notes and style are
  local fig = plot.line { { label = "a", y = { 1, 2 }, notes = { { 2, "end" } }, style = 12 } }
  check.equal(fig:data().series[1].notes[1], { 2, "end" })
  assert(fig:text { ascii = true }:find "%* a")
  for _, style in ipairs { "x", 1.5, 0, true } do
    check.raises("series a: style is a whole number from 1", plot.line, { { label = "a", y = { 1, 2 }, style = style } })
  end
  for _, note in ipairs { { 7, "x" }, { 0, "x" }, { 1.5, "x" }, { 1 }, { 1, {} }, { "x", 1 }, 3 } do
    check.raises("series a, note 2 is {number of a point, 1 to 3, and a text}", plot.line,
      { { label = "a", y = { 1, 2, 3 }, notes = { { 1, "first" }, note } } })
  end
  check.raises("series a: notes is a string", plot.line, { { label = "a", y = { 1 }, notes = "x" } })
end

-- ---- histograms ----

do
  local fig = plot.histogram { { "a", { 1, 2, 2, 3, 3, 3, 0 / 0 } }, { "b", tensor { 2, 2 } }, bins = { 0.5, 1.5, 2.5, 3.5 } }
  check.equal(fig.series[1].counts, { 1, 2, 3 })
  check.equal({ fig.series[2].counts, fig.series[1].left_out, fig.ylabel }, { { 0, 2, 0 }, 1, "count" })
  local svg = fig:svg()
  check.equal(select(2, svg:gsub('fill%-opacity="0.25"', "")), 2)
  assert(svg:find(">a<", 1, true))
  check.equal(plot.histogram({ { 1, 2, 2, 4 }, bins = { 0, 2, 4 }, density = true }).series[1].y, { 0.125, 0.375 })
  local t = {}
  for i = 1, 1000 do t[i] = i / 1000 end
  local wide = plot.histogram { t }
  for k, count in ipairs(wide.series[1].counts) do -- borders are round numbers
    assert(count >= 0 and math.abs(wide.borders[k] * 20 - math.floor(wide.borders[k] * 20 + 0.5)) < 1e-9)
  end
  local sum = 0
  for _, count in ipairs(wide.series[1].counts) do sum = sum + count end
  check.equal(sum, 1000)
  check.equal(#plot.histogram({ { 3, 3, 3 } }).borders, 2)
  assert(plot.histogram({ t, ylog = true }):svg():find "<path" and wide:text { ascii = true }:find "o")
  check.equal(#wide:data().borders, #wide.borders)
  check.raises("plot.histogram: nothing to plot", plot.histogram, {})
  check.raises("bins: a list of borders ascends", plot.histogram, { t, bins = { 1, 0 } })
  check.raises("bins is a number from 1 to 10000", plot.histogram, { t, bins = 0 })
  check.raises("list 1 has no finite value", plot.histogram, { { 0 / 0 } })
  check.raises("no value is within the bins", plot.histogram, { t, bins = { 5, 6 } })
end
do -- borders begin at the least value or below, whatever a step times a whole number is rounded to
  local fig = plot.histogram { { 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2 }, bins = 9 }
  check.equal({ fig.series[1].counts, fig.borders[1] }, { { 2, 2, 1, 1, 1, 1, 1, 1, 0, 1 }, 0.3 })
  for _, case in ipairs { { 0.3, 0.1, 40, 9 }, { -0.7, 0.07, 11, 30 }, { 1e15, 1, 13, 10000 }, { 0.1 + 0.2, 0.01, 50, 49 },
    { 0.1 - 1e-12, 0.1, 5, 4 }, { -1e-310, 1e-311, 20, 5 }, { 2.5e-299, 1e-300, 20, 5 }, { 1e-7, 3e-8, 30, 17 } } do
    local list, sum = {}, 0
    for k = 0, case[3] do list[k + 1] = case[1] + case[2] * k end
    fig = plot.histogram { list, bins = case[4], density = true }
    for k, count in ipairs(fig.series[1].counts) do
      sum = sum + count
      assert(fig.borders[k] < fig.borders[k + 1] and fig.series[1].y[k] - fig.series[1].y[k] == 0)
    end
    check.equal(sum, #list, "values from " .. case[1])
  end
end

-- ---- text ----

do
  local fig = plot.line { x = { 0, 1, 2, 3 }, { "up", { 0, 1, 2, 3 } }, xlim = { 0, 3 }, ylim = { 0, 3 }, title = "steps" }
  check.equal(fig:text { width = 24, height = 7, ascii = true }, table.concat({
    "         steps",
    " |                    .o",
    " |                ....",
    "2+             .o.",
    " |         ....",
    " |      .o.",
    " |  ....",
    "0+o.",
    " +----------------------",
    "  0             2",
    "  o up" }, "\n"))
  local braille = fig:text { width = 24, height = 7, ascii = false }
  assert(braille:find("●", 1, true) and braille:find "[⠀-⣿]" and braille:find("└──", 1, true), braille)
  for line in braille:gmatch "[^\n]+" do assert(utf8.len(line) <= 24, line) end
  check.equal(tostring(fig), fig:text())
end

-- ---- files and mistakes ----

do
  local fig = plot.scatter { { 1, 2, 3 } }
  fig:save(folder "f.svg")
  check.equal(folder.text "f.svg", fig:svg())
  check.raises("figures are saved as .svg or .png", fig.save, fig, folder "f.gif")
  check.raises("test_plot.lua:", function() fig:save(folder "f.gif") end)
  check.raises("figure:save: unknown option 'scal' (data, scale)", fig.save, fig, folder "f.svg", { scal = 2 })
  check.raises("cannot open " .. folder "none/f.svg", fig.save, fig, folder "none/f.svg")
  for message, o in pairs {
    ["plot.line: unknown option 'tilte'; did you mean 'title'?"] = { { 1, 2 }, tilte = "x" },
    ["plot.line: nothing to plot"] = {}, ["series a has 2 values for 3 of x"] = { x = { 1, 2, 3 }, { "a", { 1, 2 } } },
    ["series a, entry 2 is a string, not a number"] = { { "a", { 1, "x" } } }, ["series 1 is a number"] = { 3 },
    ["series a has no values"] = { { "a" } }, ["no y can be shown (of a logarithm"] = { { "a", { -1, 0 } }, ylog = true },
    ["no y can be shown"] = { { "a", { 0 / 0 } } }, ["xlim = { low, high }"] = { { 1, 2 }, xlim = { 2, 1 } },
    ["title is a number, not a text"] = { { 1, 2 }, title = 3 }, ["width is a number of pixels"] = { { 1, 2 }, width = 3 },
  } do
    check.raises(message, plot.line, o)
  end
  check.raises("plot.line: expected one table", plot.line, 3)
  check.raises("plot.scatter: series 1 is a boolean, expected", plot.scatter, { true })
end
