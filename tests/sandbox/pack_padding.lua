-- ends: error
-- says: string.pack: the result would be longer
string.pack('c1000000000', 'x')
