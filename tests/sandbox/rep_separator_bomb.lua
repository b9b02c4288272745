-- ends: error
-- says: longer than 256 MiB
local s = (''):rep(1 << 40, 'x')
