-- SPDX-License-Identifier: Apache-2.0
-- The nearest of some words, for "did you mean". Edit distance with swaps of neighbours; a word
-- further away than a third of the length (at least one edit) is no suggestion.

local function distance(a, b)
  local before, last = {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local d = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      row[j] = d
    end
    before, last = last, row
  end
  return last[#b]
end

-- nearest(word, {word = anything, …}[, most edits]) -> word or nil; equal distances: the first in byte order.
return function(word, words, most)
  local best, least = nil, math.min(most or math.huge, math.max(1, #word // 3)) + 1
  if #word > 64 then return nil end
  for candidate in pairs(words) do
    local d = type(candidate) == "string" and distance(word, candidate) or math.huge -- a table may hold a list too
    if d < least or (d == least and best and candidate < best) then
      best, least = candidate, d
    end
  end
  return best
end
