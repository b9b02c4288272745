-- trust: script
-- ends: exit 0
xpcall(os.exit, print, true)
