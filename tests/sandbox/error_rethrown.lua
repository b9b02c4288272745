-- ends: error
-- says: error_rethrown.lua:3: one
local ok, e = pcall(function() error 'one' end)
error(e, 0)
