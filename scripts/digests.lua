-- SPDX-License-Identifier: Apache-2.0
-- digests ACTION [MODEL…]: the store of digests of files that were hashed: list, refresh, clear
--
-- Hashing is the slow part of knowing an input, so digests are kept by file (device and inode, believed only while
-- size, time and header are the same). list shows what is remembered; refresh MODEL… hashes models anew; clear
-- forgets everything. TARN_DIGESTS=off in the environment switches the store off.
--
-- Options:
--   --json   one object a line
local json, command = require "json", require "command"
local args = command.parse()
local action = args[1]

local function list(entries)
  for _, e in ipairs(entries) do
    if args.json then
      print(json.encode(json.object { { "device", e.device }, { "inode", e.inode }, { "size", e.size },
        { "changed", e.changed }, { "tensors", e.tensors }, { "whole", e.whole } }))
    else
      print(string.format("inode %d of device %d: %d tensors, %d bytes, changed %s%s", e.inode, e.device, e.tensors,
        e.size, os.date("!%Y-%m-%d %H:%M:%S", e.changed), e.whole and "" or "; damaged, not used"))
    end
  end
end

if action == "list" or action == "clear" then
  if args[2] then command.misused("%s takes no model", action) end
  local entries, folder, on = recipe.digests { clear = action == "clear" }
  if action == "list" then list(entries) end
  if not args.json and not args.quiet then
    print(string.format("%d files %s in %s%s", #entries, action == "list" and "remembered" or "forgotten",
      folder or "no place (no home directory)", on and "" or "; the store is switched off (TARN_DIGESTS)"))
  end
elseif action == "refresh" then
  if not args[2] then command.misused("refresh which MODEL?") end
  for i = 2, #args do
    local m = model.open(args[i])
    recipe.digests { forget = m }
    print(m:digest() .. "  " .. args[i])
  end
else
  command.misused("'%s' is neither list, refresh nor clear", action)
end
