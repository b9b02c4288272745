-- seconds: 0.05
-- ends: limit
while true do pcall(function() while true do end end) end
