-- SPDX-License-Identifier: Apache-2.0
-- plot.path, plot.plane, plot.matrix, plot.tree: contours against closed forms, where marks land, structure of the SVG,
-- text forms, data beside, PNG, themes, what is refused.
local check = dofile "tests/stdlib/bind/check.lua"
local contour = require "plot.contour"
local levels = require "plot.levels"
local paper = require "plot.paper"
local decode = require "json.decode".decode

local function near(got, want, tolerance, what) check.near(got, want, tolerance, what) end

local function count(text, pattern) return select(2, text:gsub(pattern, "")) end

-- Tags close, none is left open, and no number went wrong.
local function sound(svg)
  local open = {}
  for close, name, self in svg:gmatch "<(/?)(%a+)[^>]-(/?)>" do
    if close == "/" then check.equal(table.remove(open), name) elseif self == "" then open[#open + 1] = name end
  end
  check.equal(#open, 0)
  assert(not svg:find "nan" and not svg:find "[^%a]inf[^%a]", "a number went wrong")
  return svg
end

-- ---- contours ----

local function grid(n, m, f)
  local rows = {}
  for i = 1, n do
    rows[i] = {}
    for j = 1, m do rows[i][j] = f(i, j) end
  end
  return rows
end

local function area_of(lines)
  local sum = 0
  for _, line in ipairs(lines) do
    local a = 0
    for k = 1, #line do
      local p, q = line[k], line[k % #line + 1]
      a = a + p[1] * q[2] - q[1] * p[2]
    end
    sum = sum + math.abs(a) / 2
  end
  return sum
end

do -- of a slope: one straight line where the level is, open at the border; the area above it
  local z = grid(5, 4, function(i) return i end)
  local lines = contour.lines(z, 2.25)
  check.equal({ #lines, #lines[1], lines[1].closed }, { 1, 4, false })
  for _, p in ipairs(lines[1]) do near(p[1], 2.25, 1e-12) end
  local areas = contour.areas(z, 2.25)
  check.equal({ #areas, areas[1].closed }, { 1, true })
  near(area_of(areas), (5 - 2.25) * 3, 1e-12, "area above")
  near(area_of(contour.areas(z, 0)), 4 * 3, 1e-12, "all of it")
  check.equal({ #contour.areas(z, 6), #contour.lines(z, 6) }, { 0, 0 })
end
do -- a bowl: a circle, closed; two hills: two of them
  local z = grid(41, 41, function(i, j) return (i - 21) ^ 2 + (j - 21) ^ 2 end)
  local lines = contour.lines(z, 100)
  check.equal({ #lines, lines[1].closed }, { 1, true })
  near(area_of(lines), math.pi * 100, 2, "circle")
  for _, p in ipairs(lines[1]) do near(math.sqrt((p[1] - 21) ^ 2 + (p[2] - 21) ^ 2), 10, 0.05) end
  local two = grid(30, 12, function(i, j) return math.exp(-((i - 8) ^ 2 + (j - 6) ^ 2) / 8) + math.exp(-((i - 22) ^ 2 + (j - 6) ^ 2) / 8) end)
  check.equal(#contour.lines(two, 0.5), 2)
end
do -- a saddle cell: its mean decides; no number is high
  check.equal(#contour.lines({ { 1, 0 }, { 0, 1 } }, 0.4), 2)
  local high = contour.lines({ { 1, 0 }, { 0, 1 } }, 0.4) -- mean 0.5: the low corners are cut off
  for _, line in ipairs(high) do
    local p = line[1]
    assert(math.abs((p[1] - 1.5) * (p[2] - 1.5)) < 1)
    local x, y = (line[1][1] + line[2][1]) / 2, (line[1][2] + line[2][2]) / 2
    assert((x - 1.5) * (y - 1.5) < 0, "the line is by a low corner")
  end
  for _, line in ipairs(contour.lines({ { 1, 0 }, { 0, 1 } }, 0.6)) do
    local x, y = (line[1][1] + line[2][1]) / 2, (line[1][2] + line[2][2]) / 2
    assert((x - 1.5) * (y - 1.5) > 0, "the line is by a high corner")
  end
  near(area_of(contour.areas({ { 0, 0, 0 }, { 0, 0 / 0, 0 }, { 0, 0, 0 } }, 5)), 2, 1e-12, "around what is no number")
end

-- ---- classes and colours ----

do
  local list = levels.make(0, 10, 5)
  for k = 1, 6 do near(list[k], 2 * (k - 1), 1e-12) end
  near(levels.place(list, 5), 0.5, 1e-12)
  check.equal({ levels.place(list, -1), levels.place(list, 99), levels.place(list, 0 / 0) }, { 0, 1, 1 })
  local steep = levels.make(0.1, 100, 10, true)
  near(steep[1], 0.1, 1e-12)
  near(steep[11], 100, 1e-9)
  for k = 3, 11 do assert(steep[k] - steep[k - 1] > steep[k - 1] - steep[k - 2]) end
  check.equal({ paper.colour(0), paper.colour(1), paper.colour(0 / 0) }, { "#1b2255", "#fbf2ab", "#fbf2ab" })
  local last = -1 -- lighter step by step, so that grey tells the order
  for k = 0, 20 do
    local r, g, b = paper.colour(k / 20):match "#(%x%x)(%x%x)(%x%x)"
    local light = 0.2126 * tonumber(r, 16) + 0.7152 * tonumber(g, 16) + 0.0722 * tonumber(b, 16)
    assert(light > last)
    last = light
  end
end

-- ---- paths ----

do
  local function curve(h) return function(x) return { loss = 1 + h * (1 - x * x), error = 0.1 + 0.05 * (1 - x * x) } end end
  local p = probe.path(curve(2), -1, 1, { points = 9, label = "a & b" })
  local q = probe.path(curve(0.5), -1, 1, { points = 9 })
  local fig = plot.path(p, q, { title = "barriers", labels = { "before <1>", "after" } })
  check.equal({ fig.kind, #fig.parts, fig.parts[1].fig.ylabel, fig.parts[2].fig.ylabel }, { "panels", 2, "loss", "error" })
  local svg = sound(fig:svg())
  check.equal(svg, fig:svg())
  check.equal(count(svg, "before &lt;1&gt;"), 1) -- one legend for both
  check.equal(count(svg, 'stroke%-dasharray="4 3"'), 4) -- a chord a curve and panel
  assert(svg:find(">2<", 1, true) and svg:find(">0.05<", 1, true), "heights are written")
  check.equal(count(sound(plot.path(p, q, { chord = false }):svg()), 'stroke%-dasharray="4 3"'), 0)
  assert(sound(plot.path(p):svg()):find "#0072B2")
  assert(not plot.path(p):svg():find "a &amp; b", "one series needs no legend")
  assert(plot.path(p, q):svg():find("a &amp; b", 1, true) and plot.path(p, q):svg():find("path 2", 1, true))
  check.equal(#plot.path(p:barrier()).parts, 2)
  check.equal(#p:plot { fields = { "loss" } }.parts, 1)
  local text = fig:text { width = 60, height = 12, ascii = true }
  assert(text:find "before <1>" and count(text, "\n") > 20)
  local dark = sound(plot.path(p, { theme = "dark" }):svg())
  assert(dark:find(paper.themes.dark.ground, 1, true) and not dark:find "#ffffff")
  check.raises("argument 1 is a number, not a path", plot.path, 3)
  check.raises("expected paths", plot.path, {})
  check.raises("no path has sharpness", plot.path, p, { fields = { "sharpness" } })
  check.raises("theme = \"blue\"", plot.path, p, { theme = "blue" })
end

-- ---- planes ----

local function bowl(m) return (m["w"] ^ 2):sum() end
local function point(x, y) return model.new { { "w", tensor({ x, y }, { dtype = "f64" }) } } end
do
  local p = probe.plane(bowl, { point(0, 0), point(1, 0), point(0, 1) }, { points = 9, mark = { { "<m>", point(0.5, 0.5) } } })
  local fig = p:plot { title = "bowl" }
  local svg = sound(fig:svg())
  check.equal(count(svg, "<circle"), 4)
  assert(svg:find(">&lt;m&gt;<", 1, true))
  check.equal(count(svg, 'fill%-rule="evenodd"'), #fig.levels - 2)
  -- marks land: the pixels of a, b and c are a right angle with equal legs, since scales are equal
  local at = {}
  for x, y in svg:gmatch '<circle cx="([%d.]+)" cy="([%d.]+)" r="5"' do at[#at + 1] = { tonumber(x), tonumber(y) } end
  check.equal(#at, 4)
  near(at[1][2], at[2][2], 0.011)
  near(at[1][1], at[3][1], 0.011)
  near(at[2][1] - at[1][1], at[1][2] - at[3][2], 0.03)
  near(at[4][1], (at[1][1] + at[2][1]) / 2, 0.011)
  local text = fig:text { width = 50, height = 10, ascii = true }
  assert(text:find "a" and text:find "<" and text:find "blank")
  for _, width in ipairs { 30, 40, 50 } do
    for line in fig:text { width = width, ascii = true }:gmatch "[^\n]+" do assert(#line <= width, line) end
  end
  check.equal(#p:plot { levels = { 0, 0.5, 1 } }.levels, 3)
  -- borders between classes have few digits, and ascend
  local rounded = levels.rounded(levels.make(0.0915, 1.0834, 14, true))
  check.equal({ rounded[1], rounded[15] }, { 0.0915, 1.0834 })
  for k = 2, 14 do
    assert(rounded[k] > rounded[k - 1] and #("%.12g"):format(rounded[k]) <= 4, rounded[k])
  end
  assert(not sound(p:plot { lines = false }:svg()):find 'stroke="#ffffff" stroke%-width="0.6"')
  sound(p:plot { most = 0.5, theme = "dark", paths = { { { 0, 0 }, { 1, 1 } } } }:svg())
  check.raises("levels is a list that ascends", p.plot, p, { levels = { 1, 0 } })
  check.raises("the plane has no error", p.plot, p, { field = "error" })
  check.raises("expected a plane", plot.plane, 3)
  check.raises("unknown option 'levls'", plot.plane, p, { levls = 3 })
end
do -- a cell without a number, a flat plane, a trajectory
  local p = probe.plane(function(m) return m["w"][1] > 0.5 and 0 / 0 or bowl(m) end, { point(0, 0), point(1, 0), point(0, 1) }, { points = 5 })
  sound(p:plot():svg())
  -- its cells are grey
  assert(p:plot():svg():find(('fill="%s"'):format(paper.themes.light.grid), 1, true))
  assert(p:plot():text { width = 40, ascii = true }:find("?", 1, true))
  local flat = sound(probe.plane(function() return 1 end, { point(0, 0), point(1, 0), point(0, 1) }, { points = 3 }):plot():svg())
  check.equal(count(flat, 'font%-size="10">1<'), 1)
  -- a mark's name stays in the picture
  local q = probe.plane(bowl, { point(0, 0), point(1, 0), point(0, 1) }, { points = 3,
    mark = { { ("long name "):rep(9), point(1.1, 0.5) }, { "top", point(0.5, 1.19) } } })
  local svg = sound(q:plot():svg())
  assert(svg:find("…", 1, true) and svg:find('text%-anchor="end"[^>]*>long'))
  local y, at = svg:match '<text x="[%d.]+" y="([%d.]+)"[^>]*>top<', svg:match '<svg x="[%d.]+" y="([%d.]+)"'
  assert(tonumber(y) > tonumber(at) + 10)
  local list = {}
  for t = 0, 20 do list[t + 1] = point(math.cos(t / 8), math.sin(t / 8)) end
  local q = probe.plane(bowl, list, { pca = true, points = 5 })
  local svg = sound(q:plot():svg())
  check.equal(count(svg, "<circle"), 21)
  assert(svg:find("1st component", 1, true) and q:plot():text { ascii = true }:find "%*")
end

-- ---- matrices ----

do
  local fig = plot.matrix { { { 1, 2, 2 }, { 3, 4, 0 / 0 } }, rows = { "a", "b" }, columns = { 0.1, 0.2, 0.3 }, label = "loss", title = "m" }
  local svg = sound(fig:svg():gsub(">nan<", "><"))
  for _, v in ipairs { ">1<", ">4<", ">a<", ">0.1<", ">loss<" } do assert(svg:find(v, 1, true), v) end
  assert(svg:find(paper.colour(0), 1, true) and svg:find(paper.colour(1), 1, true))
  check.equal(fig:text { width = 40, ascii = true }, "m\n  0.1 0.2 0.3\na   1   2   2\nb   3   4 nan")
  assert(not plot.matrix({ { { 1, 2 }, { 3, 4 } }, written = false }):svg():find(' fill="#ffffff">3<', 1, true))
  local wide = {}
  for j = 1, 200 do wide[j] = j end
  local text = plot.matrix({ { wide, wide } }):text { width = 60, ascii = true }
  assert(text:find "1| " and text:find "#" and text:find "values from 1")
  -- neighbours of one colour are one rectangle
  local flat = sound(plot.matrix({ { { 1, 1, 1, 1 }, { 1, 1, 1, 2 } }, written = false }):svg())
  check.equal(count(flat, '<rect'), 1 + 3 + 1 + 40 + 1)
  check.equal(plot.matrix({ tensor { { 1, 2 }, { 3, 4 } } }).square, true)
  check.raises("row 2 has 1 values, row 1 has 2", plot.matrix, { { { 1, 2 }, { 3 } } })
  check.raises("rows has 1 labels for 2", plot.matrix, { { { 1, 2 }, { 3, 4 } }, rows = { "a" } })
  check.raises("row 1, column 2 is a string", plot.matrix, { { { 1, "x" } } })
  check.raises("expected { {v, …}, … }", plot.matrix, { 3 })
  check.raises("no value is finite", plot.matrix, { { { 0 / 0 } } })
end

do -- as many places everywhere, no -0, names in full, what is no number is grey, signs have colours
  local names = { "a-network-of-long-name", "another-one-that-is-long", "c", "d" }
  local zero = { { 0, 0.5, -0.0004, 2 }, { 0.5, 0, 0.25, 0 / 0 }, { 1, 1, 0, 1 }, { 1, 1, 1, -0.0 } }
  local fig = plot.matrix { zero, rows = names, columns = names }
  local svg = fig:svg()
  for _, v in ipairs { ">0.50<", ">0.25<", ">2.00<", ">0<", ">0.00<", ">nan<" } do assert(svg:find(v, 1, true), v) end
  assert(not svg:find(">-0", 1, true))
  check.equal(count(svg, ">another%-one%-that%-is%-long<"), 2)
  assert(svg:find 'rotate%(%-90' and svg:find(('fill="%s"'):format(paper.themes.light.grid), 1, true))
  check.equal(fig.two_sided, true)
  near(fig.levels[1], -2, 1e-12)
  assert(svg:find(paper.colour(0.5, true), 1, true) and not svg:find(paper.colour(0), 1, true))
  check.equal(plot.matrix({ { { -1, 1 } }, two_sided = false }).two_sided, false)
  for line in fig:text { width = 40, ascii = true }:gmatch "[^\n]+" do assert(#line <= 40, line) end
  local wide = {}
  for j = 1, 90 do wide[j] = j end
  svg = plot.matrix({ { wide }, written = false }):svg() -- counts are written where they are round
  check.equal({ count(svg, ' font%-size="11">10<'), count(svg, ' font%-size="11">11<') }, { 1, 0 })
  -- the bar has round numbers, and says one value once
  svg = sound(plot.matrix({ { { 0, 0.83 }, { 0.2, 0.4 } }, written = false }):svg())
  for _, v in ipairs { ">0.2<", ">0.4<", ">0.6<", ">0.83<" } do assert(svg:find(v, 1, true), v) end
  check.equal(count(plot.matrix({ { { 7, 7 }, { 7, 7 } }, rows = { "a", "b" }, columns = { "a", "b" }, written = false }):svg(), ">7<"), 1)
end
do -- values that rounding or overflow makes one: ticks stay numbers; what is no number is refused
  local close = { x = { 0, 1 }, y = { 0, 1 }, loss = { { 1e17, 1e17 }, { 1e17, 1e17 + 16 } } }
  sound(plot.plane(close):svg())
  for _, v in ipairs(levels.rounded { 1, 1, 1, 2 }) do assert(v == v) end
  local far = { { -1.7e308, 1.7e308 }, { 1, 1e299 } }
  sound(plot.plane({ x = { 0, 1 }, y = { 0, 1 }, loss = far }):svg())
  local fig = plot.matrix { far }
  check.equal({ fig.levels[1], fig.levels[#fig.levels] }, { -1e300, 1e300 })
  assert(sound(fig:svg()):find ">1.7e308<" and fig:text { ascii = true }:find "1.7e308")
  for _, row in ipairs { { 1.7e308, 1.7e308 }, { -1.7e308, 1.7e308 } } do
    sound(plot.matrix({ { row, row } }):svg())
    sound(plot.plane({ x = { 0, 1 }, y = { 0, 1 }, loss = { row, row } }):svg())
  end
  sound(plot.matrix({ far, two_sided = false }):svg())
  local plane = { x = { 0, 1 }, y = { 0, 1 }, loss = { { 0, 1 }, { 2, 3 } } }
  for _, most in ipairs { 0 / 0, math.huge, "x" } do
    check.raises("plot.plane: most is a finite number", plot.plane, plane, { most = most })
  end
  for _, list in ipairs { { 1, 0 / 0, 3 }, { -math.huge, 1, 3 }, { 1, 2, math.huge } } do
    check.raises("is not finite", plot.plane, plane, { levels = list })
  end
  check.raises("lim = { low, high }", plot.matrix, { { { 1, 2 } }, lim = { -1.7e308, 1.7e308 } })
end

-- ---- trees ----

do
  local r = probe.topology { 1, 3, 0, 2, 1, 4 }
  local fig = plot.tree(r, { title = "merge tree" })
  local svg = sound(fig:svg())
  check.equal(count(svg, "<circle"), 3)
  check.equal(fig:text { ascii = true }, "merge tree\n3\n|- 2\n|  |- 0  at 3\n|  `- 1  at 5\n`- 1  at 1")
  check.equal(count(sound(plot.tree(r, { least = 1.5 }):svg()), "<circle"), 2)
  local b = probe.barriers(function(x) return -x * x end, { 0, 2, 6, 7 }, { points = 3, names = { "p", "q", "r", "s" } })
  svg = sound(plot.tree(b):svg())
  for _, name in ipairs { ">p<", ">q<", ">r<", ">s<", ">barrier loss<" } do assert(svg:find(name, 1, true), name) end
  sound(b:plot():svg())
  local flat = plot.tree(probe.barriers(function(x) return x * x end, { 0, 1, 2 }, { points = 3 }))
  check.equal(flat.ylim, { 0.0, 1.0 }) -- heights are not below zero
  local list, names = {}, {}
  for i = 1, 12 do list[i], names[i] = i * 1.0, "checkpoint-of-run-" .. i end
  svg = sound(plot.tree(probe.barriers(function(x) return math.sin(3 * x) end, list, { points = 5, names = names })):svg())
  check.equal(count(svg, 'rotate%(%-90'), 13) -- long names are turned
  check.raises("expected a topology", plot.tree, 3)
end
do -- heights that no axis holds (a path diverged) are at its top
  for _, top in ipairs { math.huge, 0 / 0, -(0 / 0), 1e305 } do
    local fig = plot.tree { value = top, kids = { { value = 1, label = "p" }, { value = 3, kids = { { value = 0, label = "q" },
      { value = 2, label = "r" } } } } }
    check.equal({ fig.ylim[1] < 0, fig.ylim[2] > 3, fig.ylim[2] < 4 }, { true, true, true })
    local svg = sound(fig:svg())
    assert(svg:find('<path d="M64 14V', 1, true) and svg:find('V14" stroke', 1, true))
    check.equal(count(svg, "<circle"), 3)
    check.equal(fig:text { ascii = true }, levels.label(top) .. "\n|- 1  p\n`- 3\n   |- 0  q\n   `- 2  r")
  end
  local b = probe.barriers(function(x) return x > 2 and x < 6 and math.huge or -x * x end, { 0, 2, 6, 7 }, { points = 3 })
  sound(plot.tree(b):svg())
  check.raises("plot.tree: no height can be shown", plot.tree, { value = math.huge })
  check.raises("the value of a node is a nil, not a number", plot.tree, { value = 1, kids = { {} } })
end

-- ---- bands; files; PNG ----

do
  local fig = plot.line { { label = "mean", x = { 1, 2, 3 }, y = { 1, 2, 3 }, low = { 0, 1, 2 }, high = { 2, 3, 5 } } }
  check.equal(count(sound(fig:svg()), 'fill%-opacity="0.18"'), 1)
  assert(fig.ylim[2] > 5)
  check.raises("low and high have as many values as x", plot.line, { { label = "m", y = { 1, 2 }, low = { 1 } } })
  local folder <close> = dofile "tests/stdlib/bind/folder.lua"()
  fig:save(folder "f.svg")
  local back = decode(folder.text "f.data.json")
  check.equal({ back.kind, back.series[1].label, back.series[1].high[3] == 5 }, { "line", "mean", true })
  fig:save(folder "g.svg", { data = false })
  check.equal(io.open(folder "g.data.json"), nil)
  local ok, err = pcall(fig.save, fig, folder "h.png", { scale = 1 })
  if ok then
    local png = folder.text "h.png"
    check.equal(png:sub(1, 8), "\137PNG\r\n\26\n")
    check.equal({ string.unpack(">I4I4", png, 17) }, { 640, 400, 25 })
    fig:save(folder "h.png", { data = false })
    check.equal((string.unpack(">I4", folder.text "h.png", 17)), 1280)
    check.raises("less than 1 or more than 20000 pixels", fig.save, fig, folder "i.png", { scale = 1000 })
  else
    assert(tostring(err):find("librsvg2-2", 1, true), err)
  end
end
