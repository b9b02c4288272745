-- trust: recipe
-- seconds: 0.05
-- ends: limit
while true do pcall(coroutine.wrap(function() while true do end end)) end
