-- SPDX-License-Identifier: Apache-2.0
-- Words of pictures in characters: how many columns of a terminal they take, cut to fit, put into lines.
local show = require "show"

local words = {}

-- Characters that are two columns wide (East Asian ones, emoji) and those that stand on the one before.
local function columns_of(c)
  if c < 0x300 then return 1 end
  if c < 0x370 or c == 0x200D or c >= 0xFE00 and c <= 0xFE0F then return 0 end
  local wide = c >= 0x1100 and c <= 0x115F or c >= 0x2E80 and c <= 0xA4CF or c >= 0xAC00 and c <= 0xD7A3
    or c >= 0xF900 and c <= 0xFAFF or c >= 0xFE30 and c <= 0xFE6F or c >= 0xFF00 and c <= 0xFF60
    or c >= 0x1F300 and c <= 0x1FAFF or c >= 0x20000
  return wide and 2 or 1
end

function words.length(s)
  if not utf8.len(s) then return #s end
  local n = 0
  for _, c in utf8.codes(s) do n = n + columns_of(c) end
  return n
end

-- s behind blanks, n columns in all.
function words.right_of(s, n) return (" "):rep(n - words.length(s)) .. s end

-- s in one line, without what moves a terminal.
function words.clean(s) return (show((s:gsub("[\t\r\n]+", " ")))) end

-- The same with n columns at most: its beginning and end.
function words.cut(s, n, ascii)
  s = words.clean(s)
  if words.length(s) <= n then return s end
  local gap = ascii and ".." or "…"
  local chars = {}
  for _, c in utf8.codes(s) do chars[#chars + 1] = utf8.char(c) end
  for keep = math.min(n - 1, #chars), 1, -1 do
    local head = keep // 3
    local short = table.concat(chars, "", 1, head) .. gap .. table.concat(chars, "", #chars - (keep - head) + 1)
    if words.length(short) <= n then return short end
  end
  return n >= words.length(gap) and gap or ""
end

-- Entries side by side with `gap` between, in as many lines as they need.
function words.wrapped(entries, gap, n, ascii)
  local out, line = {}, nil
  for _, entry in ipairs(entries) do
    entry = words.cut(entry, n, ascii)
    if line and words.length(line) + #gap + words.length(entry) <= n then
      line = line .. gap .. entry
    else
      out[#out + 1] = line
      line = entry
    end
  end
  out[#out + 1] = line
  return out
end

-- A text in the middle of n columns.
function words.centred(s, n, ascii)
  s = words.cut(s, n, ascii)
  return (" "):rep(math.max(0, (n - words.length(s)) // 2)) .. s
end

return words
