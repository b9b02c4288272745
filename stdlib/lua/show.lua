-- SPDX-License-Identifier: Apache-2.0
-- Text from a file on a line of its own: a terminal is told nothing by it.

-- show(text [, most]): control bytes and what is no UTF-8 as \xNN; cut after about `most` bytes with "…".
return function(text, most)
  local cut = most and #text > most
  if cut then
    while most > 0 and text:byte(most + 1) & 0xC0 == 0x80 do
      most = most - 1
    end
    text = text:sub(1, most)
  end
  local function hex(c)
    return string.format("\\x%02X", c:byte())
  end
  text = text:gsub("[%c\127]", hex)
  if not utf8.len(text) then
    text = text:gsub("[\128-\255]", hex)
  end
  return cut and text .. "…" or text
end
