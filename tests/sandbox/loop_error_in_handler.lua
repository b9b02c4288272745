-- trust: recipe
-- seconds: 0.05
-- ends: limit
while true do xpcall(error, error, 'x') end
