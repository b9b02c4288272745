-- ends: error
-- says: undefined global 'pirnt'; did you mean 'print'?
-- says: undefined_global.lua:4
pirnt 'x'
