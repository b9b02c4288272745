-- ends: error
-- says: debug is not available to scripts
debug.getregistry()
