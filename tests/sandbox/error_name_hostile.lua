-- ends: error
-- says: table
error(setmetatable({}, { __name = setmetatable({}, { __tostring = error }) }))
