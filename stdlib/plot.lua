-- SPDX-License-Identifier: Apache-2.0
-- plot.line and plot.scatter. What they make of their arguments is in stdlib/lua/plot, loaded when it
-- is first needed.

local names = { "x", "title", "xlabel", "ylabel", "xlog", "ylog", "xlim", "ylim", "width", "height" }

local options = "A series is { \"label\", y } over the common x, { \"label\", x, y } with its own, or a list of "
  .. "numbers; y and x are lists or tensors of one dimension, and x is 1, 2, … when it is not given. NaN and "
  .. "infinities leave gaps. A figure prints as text, fig:save \"name.svg\" writes it as SVG.\n"
  .. "  title, xlabel, ylabel: texts\n"
  .. "  xlog, ylog: logarithmic axes; values that are not above 0 are left out\n"
  .. "  xlim, ylim: { low, high } instead of what the values span\n"
  .. "  width, height: of the SVG, in pixels"

local data = "local fig = plot.line { x = { 0.1, 0.2, 0.4 }, { \"ties\", { 0.8, 0.9, 0.7 } }, title = \"accuracy\" }\n"

return function(define, check)
  local function add(kind, summary, example, lines)
    local what = "plot." .. kind
    define(what, what .. " { x = list, { label, y }, …, title =, xlabel =, ylabel =, xlog = false, ylog = false, "
      .. "xlim =, ylim =, width = 640, height = 400 } -> figure", summary .. "\n" .. options, example, function(o)
      if type(o) ~= "table" then error(what .. ": expected one table, { x =, { label, y }, … }", 2) end
      check(what, o, names, true)
      local ok, fig = pcall(require "plot.figure", what, o, lines)
      if not ok then error(fig, 2) end
      return fig
    end)
  end
  add("line", "Lines through points, one for each series.",
    'local fig = plot.line { x = { 0.1, 0.2, 0.4 }, { "ties", { 0.81, 0.84, 0.79 } },\n'
    .. '  { "linear", { 0.7, 0.7, 0.7 } }, title = "accuracy", xlabel = "density" }\n'
    .. 'print(#fig.series, fig.series[1].label)\n-- > 2\tties', true)
  add("scatter", "Points without lines, one shape and colour for each series.",
    'local fig = plot.scatter { { "runs", { 0.1, 0.4, 0.2 }, { 3, 1, 2 } } }\nprint(#fig.series[1].x)\n-- > 3', false)
  define("figure:print", "fig:print { width = 80, height = 16, ascii = }",
    "Prints the figure as text: lines as Braille dots and a marker at each point. Sizes are in characters; width is "
    .. "that of the terminal where COLUMNS tells. ascii: without other characters (default: where LANG and its like do "
    .. "not name UTF-8). print(fig) is the same.",
    data .. "fig:print { width = 30, height = 5, ascii = true }",
    function(fig, o) return fig:print(o) end)
  define("figure:text", "fig:text { width = 80, height = 16, ascii = } -> string", "What figure:print prints.",
    data .. 'print(fig:text { ascii = true }:match "%a+")\n-- > accuracy',
    function(fig, o) return fig:text(o) end)
  define("figure:save", "fig:save(path)",
    "Writes the figure as SVG to a path that ends in .svg. The bytes depend on the figure alone.",
    data .. 'local path = os.tmpname()\nfig:save(path .. ".svg")\n'
    .. 'print(io.open(path .. ".svg"):read():sub(1, 4))\nos.remove(path)\nos.remove(path .. ".svg")\n-- > <svg',
    function(fig, path) return fig:save(path) end)
  define("figure:svg", "fig:svg() -> string", "The text that figure:save writes.",
    data .. "print(fig:svg():sub(-7, -2))\n-- > </svg>",
    function(fig) return fig:svg() end)
end
