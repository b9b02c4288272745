-- SPDX-License-Identifier: Apache-2.0
-- Text as part of HTML: nothing in it is markup any more, in content and between double quotes.
-- Control bytes and what is no UTF-8 are shown as \xNN.

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

local function hex(c)
  return string.format("\\x%02X", c:byte())
end

return function(text)
  text = text:gsub("[%c\127]", function(c) return (c == "\n" or c == "\t") and c or hex(c) end)
  if not utf8.len(text) then text = text:gsub("[\128-\255]", hex) end
  return (text:gsub("[&<>\"']", entities))
end
