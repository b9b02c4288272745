-- ends: error
-- says: this metatable is protected
setmetatable(setmetatable({}, { __metatable = 1 }), {})
