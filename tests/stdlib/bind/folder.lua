-- SPDX-License-Identifier: Apache-2.0
-- A temporary folder for one test: `local folder <close> = require "folder" ()`, folder "name" is a path in it.
return function()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkdir '" .. path .. "'"))
  return setmetatable({ path = path }, {
    __call = function(_, name) return path .. "/" .. name end,
    __close = function() os.execute("rm -rf '" .. path .. "'") end,
  })
end
