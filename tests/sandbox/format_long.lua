-- ends: error
-- says: string.format: invalid conversion
string.format('%999d', 1)
