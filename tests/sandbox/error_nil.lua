-- ends: error
-- says: nil
error(nil)
