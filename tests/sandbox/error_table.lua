-- ends: error
-- says: table
error {}
