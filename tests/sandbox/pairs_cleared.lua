-- ends: ok
local t, n = { a = 1, b = 2, c = 3, d = 4 }, 0
for k in pairs(t) do
  n = n + 1
  for other in next, t do if other ~= k then t[other] = nil end end
end
assert(n == 1)
for k, v in pairs(setmetatable({}, { __pairs = function() return function(_, i) return not i and 1 or nil, 2 end end })) do assert(k == 1 and v == 2) end
