-- SPDX-License-Identifier: Apache-2.0
-- Spectra: the smoothed density of eigenvalues over a logarithmic axis, and a stem for each eigenvalue that was found
-- by itself, at the height of the curve.
local paper = require "plot.paper"
local figure = require "plot.figure"

local num = paper.num
local spectrum = {}

-- ---- what is drawn ----

-- The curve's height at x, between its points.
local function height_at(xs, ys, x)
  local step = xs[2] - xs[1]
  local k = math.max(1, math.min(#xs - 1, (x - xs[1]) // step + 1 | 0))
  local s = math.max(0, math.min(1, (x - xs[k]) / step))
  return (1 - s) * ys[k] + s * ys[k + 1]
end

-- Of eigenvalues (descending) those that stand apart by 4 sigma on both sides.
local function apart(list, sigma)
  local out = {}
  for i, v in ipairs(list) do
    local above, below = list[i - 1], list[i + 1]
    if not (above and above - v < 4 * sigma) and not (below and v - below < 4 * sigma) then out[#out + 1] = v end
  end
  return out
end

local function is_spectrum(r)
  return type(r) == "table" and type(rawget(r, "nodes")) == "table" and type(r.density) == "function"
end

function spectrum.make(what, list, o)
  local fig = figure.start(what, { title = o.title or (#list == 1 and "spectrum of the " .. list[1].of or nil),
    xlabel = o.xlabel or "eigenvalue", ylabel = o.ylabel or "density", theme = o.theme, width = o.width,
    height = o.height }, "spectrum", "spectrum", 640, 400)
  fig.lines, fig.series, fig.ylog = true, {}, true
  fig.xlim = figure.limits(o, "xlim", false, what)
  local low, high, top, floor = math.huge, -math.huge, 0, math.huge
  for i, r in ipairs(list) do
    local given = fig.xlim or { nil, nil }
    local x, y, sigma = r:density { points = 2500, sigma = o.sigma, low = given[1], high = given[2] }
    local s = { label = o.labels and o.labels[i] or r.label or (#list > 1 and r.of or nil), x = x, y = y, sigma = sigma,
      stems = {} }
    for _, v in ipairs(o.stems == false and {} or apart(r.outliers, sigma)) do
      if v >= x[1] and v <= x[#x] then s.stems[#s.stems + 1] = { v, height_at(x, y, v) } end
    end
    low, high = math.min(low, x[1]), math.max(high, x[#x])
    for _, v in ipairs(y) do top = math.max(top, v) end
    floor = math.min(floor, 1 / (math.sqrt(2 * math.pi) * sigma * r.n))
    fig.series[i] = s
  end
  -- One eigenvalue of n has a peak of `floor`: below a hundredth of that there is nothing.
  fig.xlim = fig.xlim or { low - 0.02 * (high - low), high + 0.02 * (high - low) }
  fig.ylim = figure.limits(o, "ylim", true, what) or { 10.0 ^ math.floor(math.log(floor / 100, 10)),
    10.0 ^ math.ceil(math.log(2 * top, 10)) }
  return fig
end

-- ---- faces ----

-- The parts of the curve that are above the floor, as lists of "x y", which begin and end on it.
local function parts_of(s, fig, a)
  local base, out, part = fig.ylim[1], {}, nil
  for k = 1, #s.x do
    if s.y[k] > base then
      local x, y = a.place(s.x[k], s.y[k])
      if not part then
        part = { num(x) .. " " .. num(a.bottom) }
        out[#out + 1] = part
      end
      part[#part + 1] = num(x) .. " " .. num(y)
      part.last = x
    elseif part then
      part[#part + 1], part = num(part.last) .. " " .. num(a.bottom), nil
    end
  end
  if part then part[#part + 1] = num(part.last) .. " " .. num(a.bottom) end
  return out
end

function spectrum.svg(s, box, fig)
  local labels, entries = {}, {}
  for _, sr in ipairs(#fig.series > 1 and fig.series or {}) do labels[#labels + 1] = sr.label end
  local legend = paper.legend_room(labels, fig.width)
  local a = paper.axes(s, box, fig, { legend = legend })
  paper.clip(s, a, function()
    local zero = a.px(0)
    if zero > a.left and zero < a.right then
      s.add('<path d="M%s %sV%s" stroke="%s" stroke-dasharray="3 3"/>', num(zero), num(a.top), num(a.bottom),
        s.theme.soft)
    end
    for i, sr in ipairs(fig.series) do
      local st = paper.style(s.theme, i)
      for _, part in ipairs(parts_of(sr, fig, a)) do
        s.add('<path d="M%s" fill="%s" fill-opacity="0.15" %s/>', table.concat(part, " L"), st.colour, paper.stroke(st))
      end
    end
  end)
  for i, sr in ipairs(fig.series) do
    local st = paper.style(s.theme, i)
    for _, stem in ipairs(sr.stems) do
      local x, y = a.place(stem[1], stem[2])
      if x and x >= a.left and x <= a.right and y < a.bottom then
        y = math.max(y, a.top)
        s.add('<path d="M%s %sV%s" stroke="%s" stroke-width="1.2"/>', num(x), num(a.bottom), num(y), st.colour)
        s.add('%s fill="%s"/>', paper.marker(st.shape, x, y, 3), st.colour)
      end
    end
    entries[i] = { sr.label or "", function(x, y)
      s.add('<path d="M%s %sh24" %s/>', num(x), num(y), paper.stroke(st))
    end }
  end
  if legend > 0 then paper.legend(s, a, entries, legend) end
end

function spectrum.text(fig, o)
  local shown = setmetatable({ series = {} }, { __index = fig })
  for i, s in ipairs(fig.series) do
    local y = {}
    for k, v in ipairs(s.y) do y[k] = v >= fig.ylim[1] and v or 0 / 0 end
    shown.series[i] = { label = s.label, x = s.x, y = y }
  end
  return require "plot.text"(shown, o)
end

function spectrum.data(fig)
  local series = {}
  for i, s in ipairs(fig.series) do
    series[i] = { label = s.label, x = s.x, y = s.y, sigma = s.sigma, stems = s.stems }
  end
  return { series = series, ylog = true }
end

-- ---- the function ----

local options = { "labels", "sigma", "stems", "title", "xlabel", "ylabel", "xlim", "ylim", "width", "height", "theme" }

-- made(file, function, …): as in stdlib/plot.lua.
function spectrum.document(define, check, made)
  define("plot.spectrum",
    "plot.spectrum(spectrum, …, {labels =, sigma =, stems = true, title =, xlabel =, ylabel =, xlim =, ylim =, "
    .. "width = "
    .. "640, height = 400, theme = \"light\"}) -> figure",
    "What probe.spectrum returns: the density of eigenvalues, smoothed, over a logarithmic axis, so that one "
    .. "eigenvalue "
    .. "of many is still seen; a stem for each eigenvalue that was found by itself and stands apart; the dashed "
    .. "line is "
    .. "zero. Several spectra are drawn over each other.\n"
    .. "  sigma: of the Gaussian around each node; 0.002 of the range where not said. What is narrower than it is "
    .. "not "
    .. "seen, so look at two\n"
    .. "  labels: a text for each spectrum\n"
    .. "  stems: false leaves them out",
    "local r = probe.spectrum(tensor.eye(4) * tensor { 5, 1, 1, 0 }, { steps = 4 })\n"
    .. "print(#plot.spectrum(r, { title = \"a small one\" }).series[1].stems)\n-- > 3",
    function(...)
      local list, o = table.pack(...), {}
      local n = list.n
      if n > 0 and type(list[n]) == "table" and not is_spectrum(list[n]) then o, n, list[n] = list[n], n - 1, nil end
      check("plot.spectrum", o, options)
      if n == 0 then error("plot.spectrum: expected what probe.spectrum returns", 2) end
      for i = 1, n do
        local r = list[i]
        if not is_spectrum(r) then
          error(("plot.spectrum: argument %d is a %s, not what probe.spectrum returns"):format(i, type(r)), 2)
        end
      end
      return (made("plot.spectrum", "make", "plot.spectrum", list, o))
    end)
end

return spectrum
