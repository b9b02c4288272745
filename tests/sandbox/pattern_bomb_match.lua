-- trust: recipe
-- seconds: 0.05
-- ends: limit
local s, p = ('a'):rep(34), ('a?'):rep(34) .. ('a'):rep(34) .. 'b'
while true do pcall(function() string.match(s, p) end) end
