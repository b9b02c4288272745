-- SPDX-License-Identifier: Apache-2.0
-- Markdown to HTML: the small part of it that comments need. Blocks: # headings, paragraphs, lists
-- ("- " or "1. ", one level, lines set in continue an item), ``` code, > quotes, | tables | with a row of
-- dashes, --- rules. In a line: `code`, *emphasis*, **strong**, [text](address), <https://…>, and \ before
-- a mark that is meant as it stands. Everything else is text; HTML is text too. Addresses are http, https,
-- mailto or relative ones, else the brackets stay as they are.

local escape = require "doc.escape"

-- ---- in a line ----

local function safe(address)
  if address == "" or address:find "[%c%s\"'<>\\]" then return false end
  local scheme = address:match "^([^/?#:]*):"
  return not scheme or scheme == "http" or scheme == "https" or scheme == "mailto"
end

local inline

local function link(address, html)
  return ('<a href="%s" rel="noreferrer">%s</a>'):format(escape(address), html)
end

-- Each takes text and the place of its mark; returns HTML and the place behind, or nothing.
local marks = {}

marks["\\"] = function(text, at)
  local c = text:match("^%p", at + 1)
  if c then return escape(c), at + 2 end
end

marks["`"] = function(text, at)
  local quote = text:match("^`+", at)
  local first = at + #quote
  local from = first
  while true do -- the same number of quotes, no more
    local a, b = text:find("`+", from)
    if not a then return escape(quote), first end
    if b - a + 1 == #quote then
      return "<code>" .. escape((text:sub(first, a - 1):gsub("^ (.+) $", "%1"))) .. "</code>", b + 1
    end
    from = b + 1
  end
end

marks["*"] = function(text, at)
  local stars = text:match("^%*+", at)
  local n = math.min(#stars, 2)
  local mark, tag = ("*"):rep(n), n == 2 and "strong" or "em"
  local first = at + n
  if text:find("^[%s*]", first) or first > #text then return escape(stars), at + #stars end
  local from = first
  while true do
    local a = text:find(mark, from, true)
    if not a then return mark, first end
    local other = n == 1 and text:sub(a, a + 1) == "**" -- a ** inside *…*
    if not other and not text:find("^%s", a - 1) then
      return ("<%s>%s</%s>"):format(tag, inline(text:sub(first, a - 1)), tag), a + n
    end
    from = a + (other and 2 or 1)
  end
end

marks["["] = function(text, at)
  local label, address, behind = text:match("^%[([^%[%]]+)%]%(([^()]*)%)()", at)
  if label and safe(address) then return link(address, inline(label)), behind end
end

marks["<"] = function(text, at)
  local address, behind = text:match("^<(https?://[^<>]*)>()", at)
  if address and safe(address) then return link(address, escape(address)), behind end
end

function inline(text)
  local out, from = {}, 1
  while true do
    local at = text:find("[\\`*%[<]", from)
    if not at then break end
    out[#out + 1] = escape(text:sub(from, at - 1))
    local html, behind = marks[text:sub(at, at)](text, at)
    out[#out + 1] = html or escape(text:sub(at, at))
    from = behind or at + 1
  end
  out[#out + 1] = escape(text:sub(from))
  return table.concat(out)
end

-- ---- blocks: each takes lines and the number of its first; returns HTML and the number behind ----

local function heading(lines, i)
  local level, text = lines[i]:match "^(#+)%s+(.-)%s*#*$"
  if level and #level <= 6 then return ("<h%d>%s</h%d>"):format(#level, inline(text), #level), i + 1 end
end

local function code(lines, i)
  local mark = lines[i]:match "^```+"
  if not mark then return nil end
  local out, k = {}, i + 1
  while k <= #lines and lines[k]:match "^```+" ~= mark do
    out[#out + 1] = lines[k]
    k = k + 1
  end
  return "<pre>" .. escape(table.concat(out, "\n")) .. "</pre>", k + 1
end

local function rule(lines, i)
  if lines[i]:find "^%-%-%-+%s*$" then return "<hr>", i + 1 end
end

local function quote(lines, i)
  local out = {}
  while lines[i + #out] and lines[i + #out]:find "^>" do out[#out + 1] = lines[i + #out]:match "^> ?(.*)$" end
  if #out > 0 then return "<blockquote><p>" .. inline(table.concat(out, "\n")) .. "</p></blockquote>", i + #out end
end

local function cells(line)
  local row = line:match "^%s*|(.*)|%s*$"
  if not row then return nil end
  local out = {}
  for cell in (row .. "|"):gsub("\\|", "\0"):gmatch "([^|]*)|" do
    out[#out + 1] = cell:gsub("\0", "|"):match "^%s*(.-)%s*$"
  end
  return out
end

-- |:--|--:|:-:| gives "", "right", "center"
local function alignments(line)
  local row = cells(line)
  for i, cell in ipairs(row or {}) do
    local left, right = cell:match "^(:?)%-+(:?)$"
    if not left then return nil end
    row[i] = right == "" and "" or left == ":" and ' class="center"' or ' class="right"'
  end
  return row
end

local function table_row(row, tag, align)
  local out = {}
  for i in ipairs(align) do out[i] = ("<%s%s>%s</%s>"):format(tag, align[i], inline(row[i] or ""), tag) end
  return "<tr>" .. table.concat(out) .. "</tr>"
end

local function grid(lines, i)
  local head, align = cells(lines[i]), lines[i + 1] and alignments(lines[i + 1])
  if not head or not align then return nil end
  local out = { "<table><thead>" .. table_row(head, "th", align) .. "</thead><tbody>" }
  i = i + 2
  while lines[i] and cells(lines[i]) do
    out[#out + 1] = table_row(cells(lines[i]), "td", align)
    i = i + 1
  end
  return table.concat(out, "\n") .. "</tbody></table>", i
end

local function list(lines, i)
  local function item(line) return line:match "^[-*]%s+(.*)$", line:match "^%d+[.)]%s+(.*)$" end
  local bullet, number = item(lines[i])
  local tag = bullet and "ul" or number and "ol"
  if not tag then return nil end
  local items = {}
  while lines[i] do
    local b, n = item(lines[i])
    local text = tag == "ul" and b or tag == "ol" and n
    local more = lines[i]:match "^%s+(%S.*)$"
    if text then
      items[#items + 1] = text
    elseif more then
      items[#items] = items[#items] .. "\n" .. more
    else
      break
    end
    i = i + 1
  end
  for k, text in ipairs(items) do items[k] = "<li>" .. inline(text) .. "</li>" end
  return ("<%s>\n%s\n</%s>"):format(tag, table.concat(items, "\n"), tag), i
end

local kinds = { heading, code, rule, quote, grid, list }

local function block(lines, i)
  for _, kind in ipairs(kinds) do
    local html, behind = kind(lines, i)
    if html then return html, behind end
  end
end

-- A list of lines -> HTML, the text of the first heading or nil.
return function(lines)
  local out, paragraph, title = {}, {}, nil
  local function finish()
    if #paragraph > 0 then out[#out + 1] = "<p>" .. inline(table.concat(paragraph, "\n")) .. "</p>" end
    paragraph = {}
  end
  local i = 1
  while i <= #lines do
    local html, behind = block(lines, i)
    if html then
      finish()
      title = title or (heading(lines, i) and lines[i]:match "^#+%s+(.-)%s*#*$")
      out[#out + 1], i = html, behind
    else
      if lines[i]:find "%S" then paragraph[#paragraph + 1] = lines[i] else finish() end
      i = i + 1
    end
  end
  finish()
  return table.concat(out, "\n"), title
end
