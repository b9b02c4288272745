-- stop: 0.1
-- ends: interrupted
local s = ('a'):rep(2000)
while true do pcall(string.find, s, '.-.-.-.-.-b') end
