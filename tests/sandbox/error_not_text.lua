-- ends: error
-- says: whose __tostring failed
error(setmetatable({}, { __tostring = function() return {} end }))
