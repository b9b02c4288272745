-- ends: error
-- says: an error value (a kind) whose __tostring failed
error(setmetatable({}, { __name = 'a kind', __tostring = function() error 'no' end }))
