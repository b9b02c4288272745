-- trust: recipe
-- seconds: 0.05
-- ends: limit
xpcall(error, function() while true do end end, 'x')
