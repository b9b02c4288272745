-- ends: error
-- says: __gc
setmetatable({}, { __gc = false })
