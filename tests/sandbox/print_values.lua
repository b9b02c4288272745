-- ends: ok
-- prints: 1	2.5	nil	true	x
-- prints: {}	function: script	thread
print(1, 2.5, nil, true, 'x')
print({}, function() end, coroutine.create(print))
