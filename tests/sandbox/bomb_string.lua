-- memory: 32
-- ends: memory
local s = 'x'
while true do s = s .. s end
