-- memory: 64
-- ends: memory
local t = {}
for i = 1, 1000 do t[i] = ('x'):rep(1e6) end
table.concat(t)
