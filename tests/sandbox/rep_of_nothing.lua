-- ends: ok
assert((''):rep(2^31 | 0) == '')
assert((''):rep(1 << 62, '') == '')
