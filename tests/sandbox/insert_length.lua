-- trust: recipe
-- seconds: 0.05
-- ends: limit
table.insert(setmetatable({}, { __len = function() return 1 << 40 end }), 1, 1)
