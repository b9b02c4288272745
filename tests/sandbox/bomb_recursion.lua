-- trust: recipe
-- memory: 256
-- ends: error
-- says: stack overflow
local function f() return 1 + f() end
f()
