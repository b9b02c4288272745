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
  { 0.04, 0.9, true, 5, "0.05 0.1 0.2 0.5" }, { 1, 1e9, true, 4, "1 100 10000 1e6 1e8" }, { 0.98, 1.02, true, 4, "0.98 0.99 1.00 1.01 1.02" },
  { 1e-8, 1e-2, true, 9, "1e-8 1e-7 1e-6 1e-5 1e-4 0.001 0.01" }, { 5, 5.2, false, 4, "5.00 5.05 5.10 5.15 5.20" },
} do
  check.equal(labels(table.unpack(case, 1, 4)), case[5], case[5])
end
check.near(scale.make(10, 1000, true, 3).at(100), 0.5, 1e-12)
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
end
