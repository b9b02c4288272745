-- trust: recipe
-- seconds: 0.05
-- ends: limit
local s, p = ('a'):rep(1e6), '[' .. ('b'):rep(1e6) .. ']'
while true do pcall(string.find, s, p) end
