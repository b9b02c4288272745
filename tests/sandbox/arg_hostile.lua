-- ends: ok
assert(arg[1] == 'one' and arg[2] == '\27[2J\xff' and arg[0] and #arg == 2 and select('#', ...) == 2)
arg = setmetatable({}, { __index = error, __len = error, __gc_ = error })
