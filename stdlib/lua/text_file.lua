-- SPDX-License-Identifier: Apache-2.0
-- The text of the file at a path; an error that says why there is none.
return function(path)
  local file, why = io.open(path, "rb")
  if not file then error("cannot open " .. why, 0) end
  local text
  text, why = file:read "a"
  file:close()
  if not text then error(("cannot read %s: %s"):format(path, why), 0) end
  return text
end
