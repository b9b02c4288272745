-- trust: recipe
-- seconds: 30
-- ends: error
-- says: a recipe may print at most 64 MiB
local s = ('x'):rep(1 << 20)
while true do pcall(print, s) end
