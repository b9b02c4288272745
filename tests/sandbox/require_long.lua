-- ends: error
-- says: is not a module's name
require(('x'):rep(100000))
