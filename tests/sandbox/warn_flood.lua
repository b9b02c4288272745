-- ends: ok
-- warns: 1000
warn '@on'
for i = 1, 5000 do warn('w', i) end
