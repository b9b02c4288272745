-- trust: recipe
-- seconds: 0.05
-- ends: limit
local s = ('('):rep(1e6)
while true do pcall(string.find, s, '%b()') end
