-- trust: recipe
-- seconds: 0.05
-- ends: limit
local function f(...) return f(1, ...) end
f()
