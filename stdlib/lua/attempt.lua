-- SPDX-License-Identifier: Apache-2.0
-- pcall where an answer is made of the failure: a file that cannot be read, a form that does not fit. That the memory
-- is used up says nothing of these, and goes on as the error that it is.
return function(f, ...)
  local all = table.pack(pcall(f, ...))
  local e = all[2]
  if not all[1] and (e == "not enough memory" or type(e) == "userdata" and e.code == "OutOfMemory") then error(e, 0) end
  return table.unpack(all, 1, all.n)
end
