-- seconds: 0.05
-- ends: limit
local s, p = ('a'):rep(34), ('a?'):rep(34) .. ('a'):rep(34) .. 'b'
while true do pcall(function() string.find(s, p) end) end
