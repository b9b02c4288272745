-- trust: recipe
-- seconds: 0.05
-- ends: limit
while true do pcall(load, function() while true do end end) end
