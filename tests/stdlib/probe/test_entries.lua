-- SPDX-License-Identifier: Apache-2.0
-- Each probe's entry says what it asks, how its result is read, what it costs and where it misleads.
local wants = { ["a question"] = "%?", ["how to read it"] = "[Rr]ead", ["what it costs"] = "[Cc]ost",
  ["where it misleads"] = "[Mm]islead" }
local count, missing = 0, {}
for _, d in ipairs(tarn.docs()) do
  if d.name:find "^probe%." then
    count = count + 1
    for what, pattern in pairs(wants) do
      if not d.text:find(pattern) then missing[#missing + 1] = d.name .. ": " .. what end
    end
  end
end
table.sort(missing)
assert(count > 60, count)
assert(#missing == 0, table.concat(missing, "\n"))
