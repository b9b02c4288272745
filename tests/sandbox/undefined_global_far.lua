-- ends: error
-- says: undefined global 'zzzzzzzz'
return zzzzzzzz
