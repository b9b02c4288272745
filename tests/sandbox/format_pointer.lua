-- ends: error
-- says: invalid conversion '%p'
string.format('%p', {})
