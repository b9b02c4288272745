-- SPDX-License-Identifier: Apache-2.0
-- Colours for values: the range that is shown, its classes, and the place of a value in it from 0 to 1.
local levels = {}

-- Least and greatest of what is finite, as far as their distance is too.
function levels.extent(rows, log)
  local low, high = math.huge, -math.huge
  for _, row in ipairs(rows) do
    for _, v in ipairs(row) do
      if v - v == 0 and (not log or v > 0) then
        local within = math.max(-1e300, math.min(1e300, v))
        low, high = math.min(low, within), math.max(high, within)
      end
    end
  end
  if low > high then return nil end
  return low, high
end

function levels.label(v)
  if v ~= v then return "nan" end -- whatever its sign
  if math.abs(v) >= 999.5 and math.abs(v) < 99999.5 then return ("%.0f"):format(v) end
  local text = ("%.3g"):format(v == 0 and 0 or v)
  return (text:gsub("e([+-])0*(%d)", "e%1%2"):gsub("e%+", "e"))
end

-- A function that writes the values of a table, all with as many places: three digits for the largest. Where this
-- cannot be, each by itself.
function levels.writer(rows)
  local most, whole = 0, true
  for _, row in ipairs(rows) do
    for _, v in ipairs(row) do
      if v - v == 0 then most, whole = math.max(most, math.abs(v)), whole and v == math.floor(v) end
    end
  end
  if most >= 1e5 or most < 1e-3 and most > 0 then return levels.label end
  local places = (whole or most == 0) and 0 or math.max(0, 2 - math.floor(math.log(most, 10) + 1e-9))
  return function(v)
    if v - v ~= 0 then return levels.label(v) end
    if v == 0 then return "0" end
    local text = ("%%.%df"):format(places):format(v)
    return (text:gsub("^%-(0[.0]*)$", "%1")) -- no -0.00
  end
end

-- `n` levels from low to high. log: steps grow with the height above low, so that the floor of a bowl is seen beside
-- walls that are hundreds of times as high.
function levels.make(low, high, n, log)
  if low == high then high = low + (low == 0 and 1 or math.abs(low) * 0.1) end
  local list, span = {}, high - low
  local steep = log and math.log(1 + span / math.max(math.abs(low), span * 1e-3)) or 0
  for k = 0, n do
    local s = k / n
    if steep > 1e-6 then s = (math.exp(steep * s) - 1) / (math.exp(steep) - 1) end
    list[k + 1] = low + span * s
  end
  return list
end

-- Levels with few digits: all but the ends are rounded where their distances begin.
function levels.rounded(list)
  local out = { list[1] }
  for k = 2, #list - 1 do
    local unit = 10.0 ^ math.floor(math.log(math.min(list[k] - list[k - 1], list[k + 1] - list[k]), 10))
    out[k] = math.floor(list[k] / unit + 0.5) * unit
  end
  out[#list] = list[#list]
  for k = 2, #out do
    if out[k] <= out[k - 1] or out[k] ~= out[k] then return list end -- closer than numbers of their size are
  end
  return out
end

-- Where v lies among levels, 0 … 1, evenly by class and linearly within one.
function levels.place(list, v)
  local n = #list - 1
  if v ~= v or v >= list[n + 1] then return 1 end
  if v <= list[1] then return 0 end
  local k = 1
  while v >= list[k + 1] do k = k + 1 end
  return (k - 1 + (v - list[k]) / (list[k + 1] - list[k])) / n
end

return levels
