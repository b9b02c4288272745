-- SPDX-License-Identifier: Apache-2.0
-- What a sequence of losses along a path says: its height above the chord, the gap to convexity, where it rises.
local shape = {}

-- The largest height of values[i] above the chord from the first to the last, and where (least t of equals).
function shape.above_chord(t, values)
  local n, best, at = #t, -math.huge, nil
  local from, span = t[1], t[n] - t[1]
  for i = 1, n do
    local s = (t[i] - from) / span
    local h = values[i] - ((1 - s) * values[1] + s * values[n])
    if h ~= h then h = math.huge end -- what is no number has diverged
    if h > best then best, at = h, i end
  end
  return math.max(best, 0.0), at
end

function shape.greatest(values)
  local best, at = -math.huge, 1
  for i, v in ipairs(values) do
    if v ~= v then v = math.huge end
    if v > best then best, at = v, i end
  end
  return best, at
end

-- The largest height above the lower convex hull of the points, which is the largest violation of any chord
-- (i, k) at any j between: over j the least chord is an edge of the hull.
function shape.convexity_gap(t, values)
  local hull = {}
  for j = 1, #t do
    while #hull >= 2 do
      local a, b = hull[#hull - 1], hull[#hull]
      local cross = (t[b] - t[a]) * (values[j] - values[a]) - (t[j] - t[a]) * (values[b] - values[a])
      if cross > 0 then break end
      hull[#hull] = nil
    end
    hull[#hull + 1] = j
  end
  local gap, at, edge = 0.0, nil, 1
  for j = 1, #t do
    while hull[edge + 1] and hull[edge + 1] < j do edge = edge + 1 end
    local i, k = hull[edge], hull[edge + 1] or hull[edge]
    if j > i and j < k then
      local chord = ((t[k] - t[j]) * values[i] + (t[j] - t[i]) * values[k]) / (t[k] - t[i])
      if values[j] - chord > gap then gap, at = values[j] - chord, t[j] end
    end
  end
  return gap, at
end

-- Where values rise: {from, top, to, height}, each from the first rise until values are below its start again; and
-- the largest rise max_{i<j} of v[j] - v[i], negative where they only fall.
function shape.rises(t, values)
  local list, largest, least = {}, -math.huge, math.huge
  local open
  for i, v in ipairs(values) do
    if i > 1 then largest = math.max(largest, v - least) end
    least = math.min(least, v)
    if open and v <= open.start then
      open.to, open = t[i], nil
    end
    if not open and i < #t and values[i + 1] > v then
      open = { from = t[i], start = v, height = 0, top = t[i] }
      list[#list + 1] = open
    end
    if open and v - open.start > open.height then open.height, open.top = v - open.start, t[i] end
  end
  for _, bump in ipairs(list) do
    bump.start, bump.to = nil, bump.to or t[#t]
    bump.width = bump.to - bump.from
  end
  return list, largest
end

function shape.area(t, values)
  local sum, n = 0, #t
  for i = 1, n - 1 do sum = sum + (t[i + 1] - t[i]) * (values[i] + values[i + 1]) / 2 end
  return (sum - (t[n] - t[1]) * (values[1] + values[n]) / 2) / (t[n] - t[1])
end

return shape
