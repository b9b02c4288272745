-- ends: error
-- says: string.rep: the result would be longer than 256 MiB
local s = ('x'):rep(1 << 40)
