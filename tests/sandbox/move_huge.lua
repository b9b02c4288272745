-- trust: recipe
-- seconds: 0.05
-- ends: limit
table.move({}, 1, math.maxinteger - 1, 2)
