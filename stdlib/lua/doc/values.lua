-- SPDX-License-Identifier: Apache-2.0
-- Values that a script prints, as pieces of a page: figures as SVG, tables as tables, all else as the text
-- that print writes. Neighbouring texts are one piece.

local escape = require "doc.escape"
local svg = require "plot.svg"

local values = {}

local MOST_ROWS, MOST_TEXT = 500, 1 << 18

-- The metatable of figures; a script's own table is none, whatever it says of itself.
local Figure = getmetatable(plot.line { { 0, 1 } })

local function is_plain(v)
  return type(v) == "table" and getmetatable(v) == nil and next(v) ~= nil
end

-- An entry: lists of a few are written out.
local function entry(v)
  if not is_plain(v) then return tostring(v) end
  local out = {}
  for i, x in ipairs(v) do
    if i > 8 or type(x) == "table" then return "table" end
    out[i] = tostring(x)
  end
  return #out > 0 and table.concat(out, ", ") or "table"
end

local function keys_of(t, seen)
  local keys = {}
  for key in pairs(t) do
    if type(key) == "string" and not seen[key] then
      seen[key] = true
      keys[#keys + 1] = key
    end
  end
  table.sort(keys)
  return keys
end

local function is_list(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n == #t
end

-- Columns and rows of entries: of a list of lists (a first row of texts is the head), of a list of records,
-- of a list, of a record.
local function grid_of(t)
  if not is_list(t) then
    local rows = {}
    for i = 1, #t do rows[#rows + 1] = { i, t[i] } end
    for _, key in ipairs(keys_of(t, {})) do rows[#rows + 1] = { key, t[key] } end
    return nil, rows
  end
  local lists, records = true, true
  for _, row in ipairs(t) do
    lists = lists and is_plain(row) and is_list(row)
    records = records and is_plain(row) and #row == 0
  end
  if lists then
    local head = true
    for _, v in ipairs(t[1]) do head = head and type(v) == "string" end
    return head and t[1] or nil, head and table.move(t, 2, #t, 1, {}) or t
  end
  if not records then
    local rows = {}
    for i, v in ipairs(t) do rows[i] = { i, v } end
    return nil, rows
  end
  local seen, head, rows = {}, {}, {}
  for _, row in ipairs(t) do
    for _, key in ipairs(keys_of(row, seen)) do head[#head + 1] = key end
  end
  for i, row in ipairs(t) do
    rows[i] = {}
    for k, key in ipairs(head) do
      local v = row[key]
      rows[i][k] = v == nil and "" or v
    end
  end
  return head, rows
end

-- Columns in which everything is a number stand to the right.
local function alignments(rows, width)
  local right = {}
  for i = 1, width do
    local any, all = false, true
    for _, row in ipairs(rows) do
      if row[i] ~= nil and row[i] ~= "" then
        any, all = true, all and tonumber(row[i]) ~= nil
      end
    end
    right[i] = any and all and ' class="right"' or ""
  end
  return right
end

local function html_row(row, tag, right)
  local out = {}
  for i, class in ipairs(right) do
    out[i] = ("<%s%s>%s</%s>"):format(tag, class, row[i] ~= nil and escape(entry(row[i])) or "", tag)
  end
  return "<tr>" .. table.concat(out) .. "</tr>"
end

local function html_table(t)
  local head, rows = grid_of(t)
  local width, out = head and #head or 0, { "<table>" }
  for _, row in ipairs(rows) do width = math.max(width, #row) end
  local right = alignments(rows, width)
  if head then out[2] = "<thead>" .. html_row(head, "th", right) .. "</thead>" end
  out[#out + 1] = "<tbody>"
  for i = 1, math.min(#rows, MOST_ROWS) do out[#out + 1] = html_row(rows[i], "td", right) end
  out[#out + 1] = "</tbody></table>"
  if #rows > MOST_ROWS then out[#out + 1] = ("<p>… and %d more rows</p>"):format(#rows - MOST_ROWS) end
  return table.concat(out, "\n")
end

-- values.sink(): an object that takes what a cell prints.
function values.sink()
  local sink, pieces, text, size = {}, {}, {}, 0

  local function finish()
    if #text == 0 then return end
    local all = table.concat(text):gsub("\n$", "")
    if size > MOST_TEXT then all = all .. ("\n… and %d bytes more"):format(size - MOST_TEXT) end
    pieces[#pieces + 1] = '<pre class="out">' .. escape(all) .. "</pre>"
    text, size = {}, 0
  end

  function sink.write(s)
    if size < MOST_TEXT then text[#text + 1] = s:sub(1, MOST_TEXT - size) end
    size = size + #s
  end

  function sink.figure(fig)
    finish()
    pieces[#pieces + 1] = "<figure>" .. svg(fig) .. "</figure>"
  end

  -- The values of one print.
  function sink.values(list)
    local words = {}
    local function line()
      if #words > 0 then sink.write(table.concat(words, "\t") .. "\n") end
      words = {}
    end
    for i = 1, list.n do
      local v = list[i]
      if type(v) == "table" and getmetatable(v) == Figure then
        line()
        sink.figure(v)
      elseif is_plain(v) then
        line()
        finish()
        pieces[#pieces + 1] = html_table(v)
      else
        words[#words + 1] = tostring(v)
      end
    end
    if list.n == 0 then sink.write "\n" end
    line()
  end

  function sink.failure(message)
    finish()
    pieces[#pieces + 1] = '<pre class="error">' .. escape(message) .. "</pre>"
  end

  function sink.html()
    finish()
    return table.concat(pieces, "\n")
  end

  return sink
end

values.Figure = Figure

return values
