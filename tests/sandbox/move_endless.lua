-- trust: recipe
-- seconds: 0.05
-- ends: limit
table.move({}, 1, 3 * 10^8 // 1 | 0, 2)
