-- trust: recipe
-- seconds: 0.05
-- ends: limit
for i = 1, 1e5 do _G['k' .. i] = i end
while true do pcall(function() return kk1 end) end
