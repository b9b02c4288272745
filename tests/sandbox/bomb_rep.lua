-- memory: 32
-- ends: memory
local s = ('x'):rep(1 << 27)
