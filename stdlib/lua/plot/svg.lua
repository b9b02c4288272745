-- SPDX-License-Identifier: Apache-2.0
-- A figure as SVG 1.1, written by hand: no fonts but the viewer's sans-serif, no scripts, no ids, so
-- that figures can be put into one page. Colours are those of Okabe and Ito, told apart with any kind
-- of colour vision; shapes of markers and dashes tell series apart without colour.

local scale = require "plot.scale"

local colours = { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8A7A00" }
local dashes = { nil, "6 3", "2 2", "8 3 2 3" }

local function num(v)
  return (string.format("%.2f", v):gsub("%.?0+$", "", 1):gsub("^%-0$", "0"))
end

local function escaped(s)
  return (s:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

-- About how wide text is, in pixels.
local function width_of(s, size)
  return (utf8.len(s) or #s) * size * 0.58
end

-- A marker around (x, y), of about the same area in every shape.
local function marker(shape, x, y, r)
  local function points(list)
    local out = {}
    for i = 1, #list, 2 do out[#out + 1] = num(x + r * list[i]) .. "," .. num(y + r * list[i + 1]) end
    return '<polygon points="' .. table.concat(out, " ") .. '"'
  end
  if shape == 1 then return ('<circle cx="%s" cy="%s" r="%s"'):format(num(x), num(y), num(r)) end
  if shape == 2 then return points { -0.9, -0.9, 0.9, -0.9, 0.9, 0.9, -0.9, 0.9 } end
  if shape == 3 then return points { 0, -1.25, 1.1, 0.8, -1.1, 0.8 } end
  if shape == 4 then return points { 0, -1.3, 1.1, 0, 0, 1.3, -1.1, 0 } end
  return points { 0, 1.25, 1.1, -0.8, -1.1, -0.8 }
end

local function style(i)
  return { colour = colours[(i - 1) % #colours + 1], shape = (i - 1) % 5 + 1,
    dash = dashes[(i - 1) // #colours % #dashes + 1] }
end

local function stroke(st)
  return ('stroke="%s" stroke-width="1.8" stroke-linejoin="round"%s'):format(st.colour,
    st.dash and (' stroke-dasharray="%s"'):format(st.dash) or "")
end

local function path_of(series, place)
  local out, pen, last = {}, false, nil
  for i = 1, #series.x do
    local x, y = place(series.x[i], series.y[i])
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

-- The whole; fig as plot/figure.lua makes it.
return function(fig)
  local out = {}
  local function add(fmt, ...) out[#out + 1] = fmt:format(...) end
  local function text(x, y, s, anchor, size, more)
    add('<text x="%s" y="%s" text-anchor="%s" font-size="%d"%s>%s</text>', num(x), num(y), anchor, size, more or "",
      escaped(s))
  end
  local w, h = fig.width, fig.height
  local xs = scale.make(fig.xlim[1], fig.xlim[2], fig.xlog, math.max(2, w // 90))
  local ys = scale.make(fig.ylim[1], fig.ylim[2], fig.ylog, math.max(2, h // 60))
  local widest, legend = 0, 0
  for _, t in ipairs(ys.ticks) do widest = math.max(widest, width_of(t.label, 11)) end
  for _, s in ipairs(fig.series) do
    if s.label then legend = math.max(legend, width_of(s.label, 12) + 40) end
  end
  legend = #fig.series > 1 and math.min(legend, w * 0.4) or 0
  local left, right = 14 + widest + (fig.ylabel and 20 or 0), w - 14 - legend
  local top, bottom = fig.title and 36 or 14, h - 30 - (fig.xlabel and 20 or 0)
  local function px(v) return left + (right - left) * xs.at(v) end
  local function py(v) return bottom - (bottom - top) * ys.at(v) end
  local function place(x, y)
    if x ~= x or y ~= y or (fig.xlog and x <= 0) or (fig.ylog and y <= 0) then return nil end
    local a, b = px(x), py(y)
    if a - a ~= 0 or b - b ~= 0 then return nil end
    return math.max(-1e5, math.min(1e5, a)), math.max(-1e5, math.min(1e5, b))
  end

  add('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" '
    .. 'fill="#222222">', w, h, w, h)
  add('<rect width="%d" height="%d" fill="#ffffff"/>', w, h)
  if fig.title then text((left + right) / 2, 22, fig.title, "middle", 14, ' font-weight="bold"') end
  for _, t in ipairs(xs.ticks) do
    add('<path d="M%s %sV%s" stroke="#e4e4e4"/>', num(px(t.value)), num(top), num(bottom))
    text(px(t.value), bottom + 17, t.label, "middle", 11)
  end
  for _, t in ipairs(ys.ticks) do
    add('<path d="M%s %sH%s" stroke="#e4e4e4"/>', num(left), num(py(t.value)), num(right))
    text(left - 7, py(t.value) + 4, t.label, "end", 11)
  end
  add('<path d="M%s %sV%sH%s" fill="none" stroke="#666666"/>', num(left), num(top), num(bottom), num(right))
  if fig.xlabel then text((left + right) / 2, h - 12, fig.xlabel, "middle", 12) end
  if fig.ylabel then
    local y = (top + bottom) / 2
    text(16, y, fig.ylabel, "middle", 12, (' transform="rotate(-90 16 %s)"'):format(num(y)))
  end

  local function inside(v, lim) return v >= lim[1] and v <= lim[2] end
  if fig.lines then -- what lies outside the axes is cut off by an inner viewport
    local box = ("%s %s %s %s"):format(num(left), num(top), num(right - left), num(bottom - top))
    add('<svg x="%s" y="%s" width="%s" height="%s" viewBox="%s">', num(left), num(top), num(right - left),
      num(bottom - top), box)
    for i, s in ipairs(fig.series) do add('<path d="%s" fill="none" %s/>', path_of(s, place), stroke(style(i))) end
    add "</svg>"
  end
  for i, s in ipairs(fig.series) do
    local st = style(i)
    for k = 1, (not fig.lines or #s.x <= 60) and #s.x or 0 do
      local x, y = place(s.x[k], s.y[k])
      if x and inside(s.x[k], fig.xlim) and inside(s.y[k], fig.ylim) then
        out[#out + 1] = marker(st.shape, x, y, fig.lines and 3 or 3.2) .. (' fill="%s"%s/>'):format(st.colour,
          fig.lines and "" or ' fill-opacity="0.75"')
      end
    end
  end
  for i, s in ipairs(legend > 0 and fig.series or {}) do
    local st, y = style(i), top + 10 + 20 * (i - 1)
    if fig.lines then
      add('<path d="M%s %sh24" %s/>', num(right + 10), num(y), stroke(st))
    end
    add('%s fill="%s"/>', marker(st.shape, right + 22, y, 3.2), st.colour)
    text(right + 40, y + 4, s.label or "", "start", 12)
  end
  add "</svg>"
  return table.concat(out, "\n") .. "\n"
end
