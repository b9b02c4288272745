-- ends: error
-- says: bad argument #1 to 'rep'
string.rep()
