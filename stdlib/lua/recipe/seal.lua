-- SPDX-License-Identifier: Apache-2.0
-- What a run saved, by digests, added to its tarn-provenance.json: for `tarn verify`. It is done when the
-- output stands, so that writing is not slowed down and the numbers are those of what is on the disk.
local json, lock = require "json", require "recipe.lock"

-- seal(native, path of the output); what is one file has no place for it.
return function(native, path)
  local name = path .. "/tarn-provenance.json"
  local file = io.open(name, "rb")
  if not file then return end
  local text = file:read "a"
  file:close()
  local output = json.object { { "digest", model.open(path):digest() },
    { "files", json.object(lock.side_files(native, path)) } }
  local part = name .. ".part"
  local out, why = io.open(part, "wb")
  if not out then error("cannot write " .. why, 0) end
  local good = out:write((text:gsub("\n}\n$", "")), ',\n  "output": ', json.encode(output), "\n}\n")
  good = out:close() and good
  if not good or not os.rename(part, name) then
    os.remove(part)
    error("cannot write " .. name, 0)
  end
end
