-- ends: error
-- says: is not a module's name
require '/etc/passwd'
