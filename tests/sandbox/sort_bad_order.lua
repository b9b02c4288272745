-- trust: recipe
-- seconds: 0.05
-- ends: limit
local t = {}
for i = 1, 2000 do t[i] = i % 7 end
while true do pcall(table.sort, t, function() return true end) end
