-- memory: 64
-- ends: ok
local function f() return pcall(f) end
f()
