-- SPDX-License-Identifier: Apache-2.0
-- Text from a file on a line of its own: a terminal is told nothing by it.

-- What a terminal obeys or lays out otherwise than it is written, beside control bytes: control characters of two
-- bytes, the mark of Arabic letters, marks and embeddings of direction with the separators of lines, isolates.
local obeyed = { "\194[\128-\159]", "\216\156", "\226\128[\142\143\168-\174]", "\226\129[\166-\169]" }

-- show(text [, most]): such characters and what is no UTF-8 as \xNN; cut after about `most` bytes with "…".
return function(text, most)
  local cut = most and #text > most
  if cut then
    while most > 0 and text:byte(most + 1) & 0xC0 == 0x80 do
      most = most - 1
    end
    text = text:sub(1, most)
  end
  local function hex(s)
    return (s:gsub(".", function(c) return string.format("\\x%02X", c:byte()) end))
  end
  text = text:gsub("[%c\127]", hex)
  if not utf8.len(text) then
    text = text:gsub("[\128-\255]", hex)
  end
  for _, characters in ipairs(obeyed) do
    text = text:gsub(characters, hex)
  end
  return cut and text .. "…" or text
end
