-- ends: error
-- says: C stack overflow
assert(load('return ' .. ('('):rep(1e5) .. ('x'):rep(10)))
