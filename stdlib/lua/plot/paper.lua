-- SPDX-License-Identifier: Apache-2.0
-- What all pictures share: a sheet of SVG 1.1 written by hand (no fonts but the viewer's sans-serif, no scripts, no
-- ids, so that figures can be put into one page), themes, colours, markers, axes, colour bars. Series have the colours
-- of Okabe and Ito, told apart with any kind of colour vision; markers and dashes tell them apart without colour.
local scale = require "plot.scale"

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

function paper.escaped(s)
  return (s:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

-- About how wide text is, in pixels.
function paper.width_of(s, size)
  return (utf8.len(s) or #s) * size * 0.58
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

-- The colour of s from 0 to 1.
function paper.colour(s)
  s = s ~= s and 1 or math.max(0, math.min(1, s))
  local at = s * (#anchors - 1)
  local k = math.min(math.floor(at), #anchors - 2)
  local out, a, b = {}, anchors[k + 1], anchors[k + 2]
  for c = 1, 3 do out[c] = math.floor(a[c] + (at - k) * (b[c] - a[c]) + 0.5) end
  return ("#%02x%02x%02x"):format(out[1], out[2], out[3])
end

-- Ink that can be read on that colour.
function paper.ink_on(s) return (s == s and s < 0.55) and "#ffffff" or "#1a1a1a" end

-- ---- sheets ----

-- A sheet of w by h pixels: add(format, …), text(x, y, s, anchor, size, more), finish() -> the SVG.
function paper.sheet(w, h, theme)
  local out, s = {}, { theme = theme }
  function s.add(fmt, ...) out[#out + 1] = select("#", ...) > 0 and fmt:format(...) or fmt end
  function s.text(x, y, text, anchor, size, more)
    s.add('<text x="%s" y="%s" text-anchor="%s" font-size="%d"%s>%s</text>', num(x), num(y), anchor, size, more or "",
      paper.escaped(text))
  end
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

-- ---- axes ----

-- Axes in the box {x, y, w, h} for fig's limits, labels and logarithms; room at the right for `legend` pixels. Returns
-- the area {left, right, top, bottom} with px, py and place(x, y) -> pixels, or nil for what cannot be shown.
-- o: legend, room (above), grid = false, equal (one scale for both axes), over (drawn before the frame).
function paper.axes(s, box, fig, o)
  o = o or {}
  local theme, w, h = s.theme, box.w, box.h
  local ys = scale.make(fig.ylim[1], fig.ylim[2], fig.ylog, math.max(2, h // 60))
  local widest = 0
  for _, t in ipairs(ys.ticks) do widest = math.max(widest, paper.width_of(t.label, 11)) end
  local a = { left = box.x + 14 + widest + (fig.ylabel and 20 or 0), right = box.x + w - 14 - (o.legend or 0),
    top = box.y + (fig.title and 36 or o.room or 14), bottom = box.y + h - 30 - (fig.xlabel and 20 or 0) }
  if o.equal then -- what is longer gives way
    local spanx, spany = fig.xlim[2] - fig.xlim[1], fig.ylim[2] - fig.ylim[1]
    local per = math.min((a.right - a.left) / spanx, (a.bottom - a.top) / spany)
    local wide, high = per * spanx, per * spany
    local dx, dy = (a.right - a.left - wide) / 2, (a.bottom - a.top - high) / 2
    a.left, a.right, a.top, a.bottom = a.left + dx, a.right - dx, a.top + dy, a.bottom - dy
  end
  local xs = scale.make(fig.xlim[1], fig.xlim[2], fig.xlog, math.max(2, (a.right - a.left + 60) // 90))
  function a.px(v) return a.left + (a.right - a.left) * xs.at(v) end
  function a.py(v) return a.bottom - (a.bottom - a.top) * ys.at(v) end
  function a.place(x, y)
    if x ~= x or y ~= y or (fig.xlog and x <= 0) or (fig.ylog and y <= 0) then return nil end
    local p, q = a.px(x), a.py(y)
    if p - p ~= 0 or q - q ~= 0 then return nil end
    return math.max(-1e5, math.min(1e5, p)), math.max(-1e5, math.min(1e5, q))
  end
  if fig.title then s.text((a.left + a.right) / 2, a.top - 14, fig.title, "middle", 14, ' font-weight="bold"') end
  for _, t in ipairs(xs.ticks) do
    if o.grid ~= false then
      s.add('<path d="M%s %sV%s" stroke="%s"/>', num(a.px(t.value)), num(a.top), num(a.bottom), theme.grid)
    else
      s.add('<path d="M%s %sv4" stroke="%s"/>', num(a.px(t.value)), num(a.bottom), theme.axis)
    end
    s.text(a.px(t.value), a.bottom + 17, t.label, "middle", 11)
  end
  for _, t in ipairs(ys.ticks) do
    if o.grid ~= false then
      s.add('<path d="M%s %sH%s" stroke="%s"/>', num(a.left), num(a.py(t.value)), num(a.right), theme.grid)
    else
      s.add('<path d="M%s %sh-4" stroke="%s"/>', num(a.left), num(a.py(t.value)), theme.axis)
    end
    s.text(a.left - 7, a.py(t.value) + 4, t.label, "end", 11)
  end
  if o.over then o.over(a) end
  if o.grid ~= false then
    s.add('<path d="M%s %sV%sH%s" fill="none" stroke="%s"/>', num(a.left), num(a.top), num(a.bottom), num(a.right),
      theme.axis)
  else
    s.add('<rect x="%s" y="%s" width="%s" height="%s" fill="none" stroke="%s"/>', num(a.left), num(a.top),
      num(a.right - a.left), num(a.bottom - a.top), theme.axis)
  end
  if fig.xlabel then s.text((a.left + a.right) / 2, a.bottom + 38, fig.xlabel, "middle", 12) end
  if fig.ylabel then
    local x, y = a.left - widest - 18, (a.top + a.bottom) / 2
    s.text(x, y, fig.ylabel, "middle", 12, (' transform="rotate(-90 %s %s)"'):format(num(x), num(y)))
  end
  return a
end

-- A bar of colours at the right of `a`: parts = { {colour, label at its lower end}, … } from low to high.
function paper.bar(s, a, parts, label)
  local x, n = a.right + 16, #parts
  local high = (a.bottom - a.top) / n
  local every = math.max(1, math.ceil(14 / high))
  for k, part in ipairs(parts) do
    s.add('<rect x="%s" y="%s" width="12" height="%s" fill="%s"/>', num(x), num(a.bottom - k * high), num(high + 0.5),
      part[1])
  end
  for k, part in ipairs(parts) do
    if part[2] and (k - 1) % every == 0 then s.text(x + 17, a.bottom - (k - 1) * high + 4, part[2], "start", 10) end
  end
  if parts.top then s.text(x + 17, a.top + 4, parts.top, "start", 10) end
  s.add('<rect x="%s" y="%s" width="12" height="%s" fill="none" stroke="%s"/>', num(x), num(a.top),
    num(a.bottom - a.top), s.theme.axis)
  if label then s.text(x + 6, a.top - 8, label, "middle", 11) end
end

return paper
