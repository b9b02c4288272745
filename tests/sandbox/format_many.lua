-- trust: recipe
-- memory: 600
-- ends: error
-- says: longer than 256 MiB
local s = ('x'):rep(1 << 24)
string.format(('%s'):rep(20), table.unpack((function() local t = {} for i = 1, 20 do t[i] = s end return t end)()))
