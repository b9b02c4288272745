-- memory: 32
-- ends: memory
local t = {}
while true do t[#t + 1] = coroutine.create(print) end
