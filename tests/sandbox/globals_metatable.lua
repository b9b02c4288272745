-- ends: error
-- says: protected
assert(getmetatable(_G) == false)
setmetatable(_G, nil)
