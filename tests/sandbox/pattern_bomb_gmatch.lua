-- trust: recipe
-- seconds: 0.05
-- ends: limit
local s, p = ('a'):rep(34), ('a?'):rep(34) .. ('a'):rep(34) .. 'b'
while true do pcall(function() for _ in string.gmatch(s, p) do end end) end
