-- SPDX-License-Identifier: Apache-2.0
-- Pictures. What the functions make of their arguments is in stdlib/lua/plot, loaded when it is first needed.

local names = { "x", "title", "xlabel", "ylabel", "xlog", "ylog", "xlim", "ylim", "width", "height", "theme" }

local options = "A series is { \"label\", y } over the common x, { \"label\", x, y } with its own, or a list of "
  .. "numbers; y and x are lists or tensors of one dimension, and x is 1, 2, … when it is not given; { label =, x =, y "
  .. "=, low =, high = } has a band around it; with dash = true a series is a dashed line without marks, with "
  .. "style = i "
  .. "it has the look of series i, and notes = { {k, \"text\"}, … } writes texts at its points. "
  .. "NaN and infinities leave gaps. A figure prints as text, fig:save "
  .. "\"name.svg\" or \"name.png\" writes it.\n"
  .. "  title, xlabel, ylabel: texts\n"
  .. "  xlog, ylog: logarithmic axes; values that are not above 0 are left out\n"
  .. "  xlim, ylim: { low, high } instead of what the values span\n"
  .. "  width, height: of the SVG, in pixels\n"
  .. "  theme: \"light\" or \"dark\""

local data = "local fig = plot.line { x = { 0.1, 0.2, 0.4 }, { \"ties\", { 0.8, 0.9, 0.7 } }, title = \"accuracy\" }\n"

return function(define, checked, png, kind_of)
  local expect = require "expect"(kind_of)
  local check = expect.checker(checked, { labels = "a list of texts", fields = "a list of texts", width = "a number",
    height = "a number", least = "a number", sigma = "a number above 0" })
  -- make(…), where what is wrong with the arguments is told at the place of the script.
  local function made(file, name, ...)
    require "plot.figure".png = png
    local ok, fig = pcall(require(file)[name], ...)
    if not ok then error(fig, type(fig) == "string" and not fig:find "^[^\n]-:%d+: " and 3 or 0) end
    return fig
  end

  local function add(kind, summary, example, lines)
    local what = "plot." .. kind
    local signature = what .. " { x = list, { label, y }, …, title =, xlabel =, ylabel =, xlog = false, ylog = false, "
      .. "xlim =, ylim =, width = 640, height = 400, theme = \"light\" } -> figure"
    define(what, signature, summary .. "\n" .. options, example, function(o)
      if type(o) ~= "table" then error(what .. ": expected one table, { x =, { label, y }, … }", 2) end
      check(what, o, names, true)
      return (made("plot.figure", "xy", what, o, lines))
    end)
  end
  add("line", "Lines through points, one for each series.",
    'local fig = plot.line { x = { 0.1, 0.2, 0.4 }, { "ties", { 0.81, 0.84, 0.79 } },\n'
    .. '  { "linear", { 0.7, 0.7, 0.7 } }, title = "accuracy", xlabel = "density" }\n'
    .. 'print(#fig.series, fig.series[1].label)\n-- > 2\tties', true)
  add("scatter", "Points without lines, one shape and colour for each series.",
    'local fig = plot.scatter { { "runs", { 0.1, 0.4, 0.2 }, { 3, 1, 2 } } }\nprint(#fig.series[1].x)\n-- > 3', false)

  local histograms = { "bins", "density", "title", "xlabel", "ylabel", "ylog", "width", "height", "theme" }
  define("plot.histogram", "plot.histogram { list, {\"label\", list}, …, bins =, density = false, ylog = false, "
    .. "title =, xlabel =, ylabel =, width = 640, height = 400, theme = \"light\" } -> figure",
    "How many values lie in each bin; several lists have the same bins and are drawn over each other. Lists are "
    .. "tables of numbers or tensors of one dimension; NaN and infinities are left out, and counted (left_out). In the "
    .. "terminal it is a line through the middles of the bars.\n"
    .. "  bins: about how many (borders are round numbers), or the list of their borders; by default as wide as 2 IQR "
    .. "/ n^(1/3) (Freedman, Diaconis 1981)\n"
    .. "  density: heights whose areas are 1, to compare lists of unlike length\n"
    .. "  ylog: a logarithmic axis of counts",
    "local fig = plot.histogram { { 1, 2, 2, 3, 3, 3 }, bins = { 0.5, 1.5, 2.5, 3.5 } }\n"
    .. "print(table.concat(fig.series[1].counts, \" \"))\n-- > 1 2 3",
    function(o)
      if type(o) ~= "table" then error("plot.histogram: expected one table, { values, … }", 2) end
      check("plot.histogram", o, histograms, true)
      return (made("plot.histogram", "make", "plot.histogram", o))
    end)

  local paths = { "title", "labels", "fields", "xlabel", "ylog", "chord", "width", "height", "theme" }
  define("plot.path", "plot.path(path, …, {title =, labels =, fields =, xlabel = \"t\", ylog = false, chord = true, "
    .. "width =, height = 340, theme = \"light\"}) -> figure",
    "What probe.path, probe.barrier and probe.interpolation return, one curve each: loss and error side by side "
    .. "against t. Of up to three paths the chord is dashed and an upright with its number marks the barrier, the "
    .. "greatest height above the chord.\n"
    .. "  labels: one text for each path (or give probe.path a label)\n"
    .. "  fields: the panels, such as { \"loss\" }\n"
    .. "  chord: false leaves chords and uprights out",
    "local p = probe.path(function(x) return 1 - x * x end, -1, 1, { points = 5 })\n"
    .. "print(#plot.path(p, p, { labels = { \"one\", \"two\" } }).parts)\n-- > 1",
    function(...)
      local list = table.pack(...)
      local o = {}
      if type(list[list.n]) == "table" and getmetatable(list[list.n]) == nil and list[list.n].t == nil then
        o = table.remove(list)
      end
      check("plot.path", o, paths)
      return (made("plot.make", "path", "plot.path", list, o))
    end)

  local planes = { "field", "levels", "log", "most", "lines", "equal", "paths", "title", "xlabel", "ylabel", "width",
    "height", "theme" }
  define("plot.plane", "plot.plane(plane, {field = \"loss\", levels = 14, log =, most =, lines = true, equal =, paths "
    .. "=, title =, xlabel =, ylabel =, width = 560, height =, theme = \"light\"}) -> figure",
    "What probe.plane returns: classes of values filled between their level lines, dark is low; the models as discs, "
    .. "a trajectory as a chain.\n"
    .. "  levels: how many classes, or the list of their borders\n"
    .. "  log: borders whose steps grow with the height above the least value; by default where values span much\n"
    .. "  most: what is above it is one class; cells that are not finite are grey\n"
    .. "  lines: false leaves the level lines out\n"
    .. "  equal: one scale for both axes\n"
    .. "  paths: { { {x, y}, … }, … }, drawn dashed",
    "local function f(m) return (m[\"w\"] ^ 2):sum() end\n"
    .. "local function at(x, y) return model.new { { \"w\", tensor { x, y } } } end\n"
    .. "local p = probe.plane(f, { at(0, 0), at(1, 0), at(0, 1) }, { points = 5 })\n"
    .. "print(#plot.plane(p, { levels = 6 }).levels)\n-- > 7",
    function(p, o)
      check("plot.plane", o, planes)
      return (made("plot.make", "plane", "plot.plane", p, o or {}))
    end)

  local matrices = { "rows", "columns", "label", "lim", "log", "two_sided", "written", "square", "title", "xlabel",
    "ylabel", "width", "height", "theme" }
  define("plot.matrix", "plot.matrix { {{v, …}, …} or tensor, rows =, columns =, label =, lim =, log = false, "
    .. "two_sided =, written = true, square =, title =, xlabel =, ylabel =, width = 560, height = 420, "
    .. "theme = \"light\" } -> figure",
    "A heat map, the first row on top; values are written into cells that have room, NaN is grey.\n"
    .. "  rows, columns: labels, texts or numbers\n"
    .. "  label: what the values are\n"
    .. "  lim: { low, high } of the colours; log: steps of colour grow with the height above the least value\n"
    .. "  two_sided: white is zero, negative and positive values have colours of their own; by default where there are "
    .. "both\n"
    .. "  written: false leaves the numbers out\n"
    .. "  square: cells as high as wide; by default where there are as many rows as columns",
    "local fig = plot.matrix { { { 1, 2 }, { 3, 4 } }, rows = { \"a\", \"b\" }, columns = { \"c\", \"d\" } }\n"
    .. "fig:print { width = 30, ascii = true }\n-- >   c d\n-- > a 1 2\n-- > b 3 4",
    function(o)
      if type(o) ~= "table" then error("plot.matrix: expected one table, { values, rows =, columns = }", 2) end
      check("plot.matrix", o, matrices, true)
      return (made("plot.make", "matrix", "plot.matrix", o))
    end)

  local trees = { "least", "title", "ylabel", "width", "height", "theme" }
  define("plot.tree", "plot.tree(topology, barriers or {value =, kids =, label =}, {least =, title =, ylabel =, width "
    .. "= 560, height = 400, theme = \"light\"}) -> figure",
    "A merge tree (probe.topology): minima hang at their values, and join at their saddles; or the hierarchy of "
    .. "probe.barriers, whose joins stand at the height of the barrier.\n"
    .. "  least: branches of less persistence are left out; by default so many that 40 are shown",
    "local fig = plot.tree(probe.topology { 1, 3, 0, 2, 1, 4 })\nfig:print { ascii = true }\n"
    .. "-- > 3\n-- > |- 2\n-- > |  |- 0  at 3\n-- > |  `- 1  at 5\n-- > `- 1  at 1",
    function(r, o)
      check("plot.tree", o, trees)
      return (made("plot.make", "tree", "plot.tree", r, o or {}))
    end)

  require "plot.spectrum".document(define, check, made)

  define("figure:print", "fig:print { width = 80, height = 16, ascii = }",
    "Prints the figure as text: lines as Braille dots and a marker at each point. Sizes are in characters; width is "
    .. "that of the terminal where COLUMNS tells. ascii: without other characters (default: where LANG and its like do "
    .. "not name UTF-8). print(fig) is the same.",
    data .. "fig:print { width = 30, height = 5, ascii = true }",
    function(fig, o) return fig:print(o) end)
  define("figure:text", "fig:text { width = 80, height = 16, ascii = } -> string", "What figure:print prints.",
    data .. 'print(fig:text { ascii = true }:match "%a+")\n-- > accuracy',
    function(fig, o) return fig:text(o) end)
  define("figure:save", "fig:save(path, {data = true, scale = 2}) -> fig",
    "Writes the figure to a path that ends in .svg or .png, and what it shows as JSON to name.data.json beside it. The "
    .. "bytes of an SVG depend on the figure alone. PNG is drawn by librsvg, which is opened when it is needed "
    .. "(Debian: librsvg2-2).\n"
    .. "  data: false writes no file of data\n"
    .. "  scale: of PNG, pixels of the image for one of the figure",
    data .. 'local path = os.tmpname()\nfig:save(path .. ".svg", { data = false })\n'
    .. 'print(io.open(path .. ".svg"):read():sub(1, 4))\nos.remove(path)\nos.remove(path .. ".svg")\n-- > <svg',
    function(fig, path, o)
      check("figure:save", o, { "data", "scale" })
      return fig:save(path, o)
    end)
  define("figure:data", "fig:data() -> table", "What the figure shows, as plain values: series, or x, y and values.",
    data .. "print(fig:data().series[1].label)\n-- > ties",
    function(fig) return fig:data() end)
  define("figure:svg", "fig:svg() -> string", "The text that figure:save writes.",
    data .. "print(fig:svg():sub(-7, -2))\n-- > </svg>",
    function(fig) return fig:svg() end)
end
