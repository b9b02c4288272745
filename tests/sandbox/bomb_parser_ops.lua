-- ends: error
-- says: overflow
assert(load('return ' .. ('- '):rep(1e5) .. '1'))
