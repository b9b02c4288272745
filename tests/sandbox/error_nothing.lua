-- ends: error
-- says: nil
error()
