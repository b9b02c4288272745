-- SPDX-License-Identifier: Apache-2.0
-- Values with a finaliser do not pile up: the heap of a script that makes one tensor after the other, and keeps one, stays
-- as small as it was, in memory and while it is recorded.
local function most_of(rounds, work)
  local most = 0
  collectgarbage()
  local before = collectgarbage "count"
  for _ = 1, rounds do
    work()
    most = math.max(most, collectgarbage "count" - before)
  end
  return most / 1024
end

local y = tensor { 1 }
local eager = most_of(150, function()
  for _ = 1, 1000 do y = y * 0.999 end
end)
assert(eager < 3, ("operations left %.1f MB"):format(eager))

local recorded = most_of(60, function()
  compile(function(x)
    local z = x
    for _ = 1, 1000 do z = z * 0.5 end
    return x
  end)(y)
end)
assert(recorded < 2.5, ("recordings left %.1f MB"):format(recorded))
