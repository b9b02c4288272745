-- ends: ok
assert(not pcall(require, 'module_broken'))
local ok, e = pcall(require, 'module_broken')
assert(not ok and not tostring(e):find 'loop')
