-- trust: recipe
-- seconds: 0.05
-- ends: limit
load(function() return ' ' end)
