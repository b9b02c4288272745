-- ends: error
-- says: attempt to load a binary chunk
assert(string.dump == nil)
assert(load('\27Lua'))
