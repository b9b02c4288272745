-- trust: recipe
-- seconds: 0.05
-- ends: limit
table.sort(setmetatable({}, { __len = function() return 1 << 30 end, __index = function() return 1 end, __newindex = function() end }))
