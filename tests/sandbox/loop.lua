-- seconds: 0.05
-- ends: limit
while true do end
