-- ends: error
-- says: attempt to load a binary chunk
assert(load('\27LuaT', 'x', 'bt'))
