-- memory: 600
-- ends: error
-- says: xxxxxxxx
error(('x'):rep(20 << 20))
