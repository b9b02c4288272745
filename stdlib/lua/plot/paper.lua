-- SPDX-License-Identifier: Apache-2.0
-- What all pictures share: a sheet of SVG 1.1 written by hand (no fonts but the viewer's sans-serif, no scripts, no
-- ids, so that figures can be put into one page), themes, colours, markers, axes, colour bars. Series have the colours
-- of Okabe and Ito, told apart with any kind of colour vision; markers and dashes tell them apart without colour.
local scale = require "plot.scale"
local show = require "show"

local paper = {}

paper.themes = {
  light = { ground = "#ffffff", ink = "#222222", axis = "#666666", grid = "#e4e4e4", soft = "#888888",
    colours = { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8A7A00" } },
  dark = { ground = "#15171c", ink = "#e4e4e4", axis = "#9a9a9a", grid = "#2e323a", soft = "#8d8d8d",
    colours = { "#56B4E9", "#FF8A3D", "#2FC99B", "#E39CC6", "#F2B93B", "#9AD0F5", "#c8c8c8", "#D8CB5A" } },
}
local dashes = { nil, "6 3", "2 2", "8 3 2 3" }

-- ---- text and numbers ----

function paper.num(v)
  return (string.format("%.2f", v):gsub("%.?0+$", "", 1):gsub("^%-0$", "0"))
end
local num = paper.num

-- Text that XML can hold: what is no UTF-8 and control bytes as \xNN, lines put together.
function paper.escaped(s)
  s = show((s:gsub("[\t\r\n]+", " "))):gsub("\u{FFFE}", "\u{FFFD}"):gsub("\u{FFFF}", "\u{FFFD}")
  return (s:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

-- How wide characters are in shares of the font's size, rather too much than too little.
local widths = {}
for c in ("ijlI.,:;'|!()[]{}/ -"):gmatch "." do widths[c:byte()] = 0.38 end
for c in ("mwMW@%"):gmatch "." do widths[c:byte()] = 0.92 end
local function width_of_char(c)
  return widths[c] or c < 0x30 and 0.6 or c < 0x5B and 0.66 or c < 0x300 and 0.6 or c < 0x370 and 0
    or c < 0x1100 and 0.65 or c < 0x2E80 and 0.8 or 1
end

-- About how wide text is, in pixels.
function paper.width_of(s, size)
  local sum = 0
  for _, c in utf8.codes(show(s)) do sum = sum + width_of_char(c) end
  return sum * size
end

-- The text, or its beginning and end with "…" between, so that it is at most `room` pixels wide.
function paper.fit(text, size, room)
  if paper.width_of(text, size) <= room then return text end
  local chars = {}
  for _, c in utf8.codes(show(text)) do chars[#chars + 1] = utf8.char(c) end
  local n = math.floor(#chars * room / paper.width_of(text, size))
  while n > 0 do
    local head = n // 3
    local short = table.concat(chars, "", 1, head) .. "…" .. table.concat(chars, "", #chars - (n - head) + 1)
    if paper.width_of(short, size) <= room then return short end
    n = n - 1
  end
  return "…"
end

-- A title (bold, so wider) as one line or two, each of at most `room` pixels.
local function lines_of(text, size, room)
  room = room / 1.1
  if paper.width_of(text, size) <= room then return { text } end
  local first, rest
  for head, tail in text:gmatch "()%s+()" do
    if paper.width_of(text:sub(1, head - 1), size) <= room then first, rest = text:sub(1, head - 1), text:sub(tail) end
  end
  if not first then return { paper.fit(text, size, room) } end
  return { first, paper.fit(rest, size, room) }
end

-- A number on an axis: "-2.5e-6" as the people of papers write it, with a minus and a raised exponent.
function paper.number(label)
  local sign, digits, power = label:match "^(%-?)([%d.]+)e(%-?%d+)$"
  if not digits then return (label:gsub("^%-", "−")), label end
  local base = sign:gsub("%-", "−") .. (digits == "1" and "" or digits .. "×") .. "10"
  power = power:gsub("%-", "−")
  return ('%s<tspan dy="-4" font-size="8">%s</tspan>'):format(base, power), base .. power
end

-- ---- marks of series ----

-- A marker around (x, y), of about the same area in every shape; the tag is left open for more attributes.
function paper.marker(shape, x, y, r)
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

-- The look of series i: colour, shape, dash.
function paper.style(theme, i)
  local colours = theme.colours
  return { colour = colours[(i - 1) % #colours + 1], shape = (i - 1) % 5 + 1,
    dash = dashes[(i - 1) // #colours % #dashes + 1] }
end

function paper.stroke(st)
  return ('stroke="%s" stroke-width="1.8" stroke-linejoin="round"%s'):format(st.colour,
    st.dash and (' stroke-dasharray="%s"'):format(st.dash) or "")
end

-- ---- colours of values ----

-- From low to high, each step lighter than the one before: in grey too the order is seen.
local anchors = { { 0x1b, 0x22, 0x55 }, { 0x27, 0x54, 0x8a }, { 0x2f, 0x87, 0x8f }, { 0x5b, 0xb4, 0x7a },
  { 0xb5, 0xd3, 0x5e }, { 0xfb, 0xf2, 0xab } }

-- From negative through a light nothing to positive, as far from it on both sides.
local signed = { { 0x1a, 0x46, 0x86 }, { 0x6f, 0xa4, 0xcf }, { 0xf3, 0xf2, 0xee }, { 0xe8, 0x94, 0x66 },
  { 0x9a, 0x2c, 0x12 } }

-- The colour of s from 0 to 1; two_sided: of values of both signs, 0.5 being zero.
function paper.colour(s, two_sided)
  local list = two_sided and signed or anchors
  s = s ~= s and 1 or math.max(0, math.min(1, s))
  local at = s * (#list - 1)
  local k = math.min(math.floor(at), #list - 2)
  local out, a, b = {}, list[k + 1], list[k + 2]
  for c = 1, 3 do out[c] = math.floor(a[c] + (at - k) * (b[c] - a[c]) + 0.5) end
  return ("#%02x%02x%02x"):format(out[1], out[2], out[3])
end

-- Ink that can be read on a colour.
function paper.ink_on(colour)
  local r, g, b = colour:match "#(%x%x)(%x%x)(%x%x)"
  local light = 0.2126 * tonumber(r, 16) + 0.7152 * tonumber(g, 16) + 0.0722 * tonumber(b, 16)
  return light < 140 and "#ffffff" or "#1a1a1a"
end

-- ---- sheets ----

-- A sheet of w by h pixels: add(format, …), text(x, y, s, anchor, size, more, room), number(x, y, s, anchor, size),
-- finish() -> the SVG. Text wider than `room` is shortened, and says the whole where the pointer rests on it.
function paper.sheet(w, h, theme)
  local out, s = {}, { theme = theme }
  function s.add(fmt, ...) out[#out + 1] = select("#", ...) > 0 and fmt:format(...) or fmt end
  local function element(x, y, inside, anchor, size, more)
    s.add('<text x="%s" y="%s" text-anchor="%s" font-size="%d"%s>%s</text>', num(x), num(y), anchor, size, more or "",
      inside)
  end
  function s.text(x, y, text, anchor, size, more, room)
    local short = room and paper.fit(text, size, room) or text
    element(x, y, paper.escaped(short) .. (short ~= text and "<title>" .. paper.escaped(text) .. "</title>" or ""),
      anchor, size, more)
  end
  function s.number(x, y, label, anchor, size) element(x, y, (paper.number(label)), anchor, size) end
  function s.finish()
    out[#out + 1] = "</svg>"
    return table.concat(out, "\n") .. "\n"
  end
  s.add('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" '
    .. 'fill="%s">', w, h, w, h, theme.ink)
  s.add('<rect width="%d" height="%d" fill="%s"/>', w, h, theme.ground)
  return s
end

-- A part of the sheet that cuts off what goes beyond it: an inner viewport.
function paper.clip(s, b, draw)
  local x, y, w, h = num(b.left), num(b.top), num(b.right - b.left), num(b.bottom - b.top)
  s.add('<svg x="%s" y="%s" width="%s" height="%s" viewBox="%s %s %s %s">', x, y, w, h, x, y, w, h)
  draw()
  s.add "</svg>"
end

-- ---- titles and legends ----

-- How much room is above the axes: for the title's lines, or `without`.
function paper.room_above(fig, box, without)
  return fig.title and 19 + 17 * #lines_of(fig.title, 14, box.w - 24) or without
end

-- The title over the area {left, right, top}, within the box.
function paper.title(s, a, box, fig)
  if not fig.title then return end
  local lines = lines_of(fig.title, 14, box.w - 24)
  for k, line in ipairs(lines) do
    local half = 1.1 * paper.width_of(line, 14) / 2
    local x = math.max(box.x + 10 + half, math.min(box.x + box.w - 10 - half, (a.left + a.right) / 2))
    s.text(x, a.top - 14 - 17 * (#lines - k), line, "middle", 14, ' font-weight="bold"')
  end
end

-- What axes are called: below the area, and beside it at x.
function paper.xlabel(s, a, box, label)
  if not label then return end
  local half = math.min(paper.width_of(label, 12), box.w - 20) / 2
  local x = math.max(box.x + 10 + half, math.min(box.x + box.w - 10 - half, (a.left + a.right) / 2))
  s.text(x, a.bottom + 38, label, "middle", 12, nil, box.w - 20)
end
function paper.ylabel(s, a, box, label, x)
  if not label then return end
  local y = (a.top + a.bottom) / 2
  s.text(x, y, label, "middle", 12, (' transform="rotate(-90 %s %s)"'):format(num(x), num(y)), a.bottom - a.top + 20)
end

-- The room that a legend of these labels takes at the right of an area, in a box of this width.
function paper.legend_room(labels, width)
  local wide = 0
  for _, label in ipairs(labels) do wide = math.max(wide, paper.width_of(label, 12) + 44) end
  return math.min(wide, width * 0.4)
end

-- entries: { {label, function(x, y) that draws the sign at its left end}, … }; room as legend_room gave it.
function paper.legend(s, a, entries, room)
  local high = a.bottom - a.top
  local step = math.max(13, math.min(20, (high - 10) / #entries))
  local most = math.min(#entries, math.max(1, (high - 10) // step | 0))
  if most < #entries then most = math.max(1, most - 1) end
  for i = 1, most do
    local y = a.top + 10 + step * (i - 1)
    entries[i][2](a.right + 10, y)
    s.text(a.right + 40, y + 4, entries[i][1], "start", step < 16 and 10 or 12, nil, room - 38)
  end
  if most < #entries then
    s.text(a.right + 40, a.top + 14 + step * most, ("… %d more"):format(#entries - most), "start", 10)
  end
end

-- ---- axes ----

-- Axes in the box {x, y, w, h} for fig's limits, labels and logarithms; room at the right for `legend` pixels. Returns
-- the area {left, right, top, bottom} with px, py and place(x, y) -> pixels, or nil for what cannot be shown.
-- o: legend, room (above), grid = false, equal (one scale for both axes), over (drawn before the frame).
function paper.axes(s, box, fig, o)
  o = o or {}
  local theme, w, h = s.theme, box.w, box.h
  local ys = scale.make(fig.ylim[1], fig.ylim[2], fig.ylog, math.max(2, h // 60))
  local widest = 0
  for _, t in ipairs(ys.ticks) do widest = math.max(widest, paper.width_of(select(2, paper.number(t.label)), 11)) end
  local ylabel = scale.named(fig.ylabel, ys, "y")
  local a = { left = box.x + 14 + widest + (ylabel and 20 or 0), right = box.x + w - 14 - (o.legend or 0),
    top = box.y + paper.room_above(fig, box, o.room or 14) }
  local function horizontal()
    return scale.make(fig.xlim[1], fig.xlim[2], fig.xlog, math.max(2, (a.right - a.left + 60) // 90), fig.whole)
  end
  local xlabel = scale.named(fig.xlabel, horizontal(), "x")
  a.bottom = box.y + h - 30 - (xlabel and 20 or 0)
  if o.equal then -- what is longer gives way
    local spanx, spany = fig.xlim[2] - fig.xlim[1], fig.ylim[2] - fig.ylim[1]
    local per = math.min((a.right - a.left) / spanx, (a.bottom - a.top) / spany)
    local wide, high = per * spanx, per * spany
    local dx, dy = (a.right - a.left - wide) / 2, (a.bottom - a.top - high) / 2
    a.left, a.right, a.top, a.bottom = a.left + dx, a.right - dx, a.top + dy, a.bottom - dy
  end
  local xs = horizontal()
  function a.px(v) return a.left + (a.right - a.left) * xs.at(v) end
  function a.py(v) return a.bottom - (a.bottom - a.top) * ys.at(v) end
  function a.place(x, y)
    if not scale.shown(x, fig.xlog) or not scale.shown(y, fig.ylog) then return nil end
    local p, q = a.px(x), a.py(y)
    return math.max(-1e5, math.min(1e5, p)), math.max(-1e5, math.min(1e5, q))
  end
  paper.title(s, a, box, fig)
  local function rule(x, y, way, v, colour)
    s.add('<path d="M%s %s%s%s" stroke="%s"/>', num(x), num(y), way, num(v), colour)
  end
  local free = -math.huge -- to the right of the last label
  for _, t in ipairs(xs.ticks) do
    local x = a.px(t.value)
    if o.grid ~= false then rule(x, a.top, "V", a.bottom, theme.grid) else rule(x, a.bottom, "v", 4, theme.axis) end
    local half = paper.width_of(select(2, paper.number(t.label)), 11) / 2
    if x - half > free then
      local at = math.max(math.min(x, box.x + w - half - 2), box.x + half + 2)
      s.number(at, a.bottom + 17, t.label, "middle", 11)
      free = at + half + 4
    end
  end
  for _, t in ipairs(ys.ticks) do
    local y = a.py(t.value)
    if o.grid ~= false then rule(a.left, y, "H", a.right, theme.grid) else rule(a.left, y, "h", -4, theme.axis) end
    s.number(a.left - 7, y + 4, t.label, "end", 11)
  end
  if o.over then o.over(a) end
  if o.grid ~= false then
    s.add('<path d="M%s %sV%sH%s" fill="none" stroke="%s"/>', num(a.left), num(a.top), num(a.bottom), num(a.right),
      theme.axis)
  else
    s.add('<rect x="%s" y="%s" width="%s" height="%s" fill="none" stroke="%s"/>', num(a.left), num(a.top),
      num(a.right - a.left), num(a.bottom - a.top), theme.axis)
  end
  for _, t in ipairs(xs.minor) do rule(a.px(t.value), a.bottom, "v", -4, theme.axis) end
  for _, t in ipairs(ys.minor) do rule(a.left, a.py(t.value), "h", 4, theme.axis) end
  paper.xlabel(s, a, box, xlabel)
  paper.ylabel(s, a, box, ylabel, a.left - widest - 18)
  return a
end

-- A bar of colours at the right of `a`: `colour` gives that of a place from 0 to 1, in `n` steps; ticks =
-- { {place, text}, … } from low to high; those that would touch the one below or say the same are left out.
function paper.bar(s, a, box, colour, n, ticks, label)
  local x, span = a.right + 16, a.bottom - a.top
  for k = 1, n do
    s.add('<rect x="%s" y="%s" width="12" height="%s" fill="%s"/>', num(x), num(a.bottom - span * k / n),
      num(span / n + (k > 1 and 0.5 or 0)), colour((k - 0.5) / n))
  end
  local last, free, said = ticks[#ticks], -math.huge, nil
  for k, t in ipairs(ticks) do
    if t[2] ~= said and t[1] * span >= free and (k == #ticks or (last[1] - t[1]) * span >= 12) then
      s.add('<path d="M%s %sh3" stroke="%s"/>', num(x + 12), num(a.bottom - span * t[1]), s.theme.axis)
      s.number(x + 18, a.bottom - span * t[1] + 4, t[2], "start", 10)
      free, said = t[1] * span + 12, t[2]
    end
  end
  s.add('<rect x="%s" y="%s" width="12" height="%s" fill="none" stroke="%s"/>', num(x), num(a.top), num(span),
    s.theme.axis)
  if label then
    local half = math.min(paper.width_of(label, 11), 150) / 2
    s.text(math.min(x + 6, box.x + box.w - 6 - half), a.top - 8, label, "middle", 11, nil, 150)
  end
end

return paper
