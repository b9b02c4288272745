-- ends: error
-- says: nnnnnnnn
error(setmetatable({}, { __name = ('n'):rep(1 << 20) }))
