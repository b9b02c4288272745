-- ends: error
-- says: inside
coroutine.wrap(function() error 'inside' end)()
