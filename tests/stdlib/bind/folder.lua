-- SPDX-License-Identifier: Apache-2.0
-- A temporary folder for one test: local folder <close> = require "folder" (); folder "name" is a path in it,
-- folder.tarn(words) runs the program that runs this: its exit code, and what it said on both streams.
return function()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkdir '" .. path .. "'"))
  local function text(name)
    local file = assert(io.open(path .. "/" .. name, "rb"))
    local s = file:read "a"
    file:close()
    return s
  end
  local function tarn(words)
    local _, _, code = os.execute(("\"$(readlink /proc/$PPID/exe)\" %s >'%s/out' 2>'%s/err'"):format(words, path, path))
    return code, text "out", text "err"
  end
  return setmetatable({ path = path, text = text, tarn = tarn }, {
    __call = function(_, name) return path .. "/" .. name end,
    __close = function() os.execute("rm -rf '" .. path .. "'") end,
  })
end
