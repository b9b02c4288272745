-- SPDX-License-Identifier: Apache-2.0
-- Numbers with their units, as the commands and plans print them.
local amount = {}

-- amount.bytes(n): "512 B", "1.5 kB", "3.2 GB"; units of a thousand.
function amount.bytes(n)
  local units, k = { "B", "kB", "MB", "GB", "TB", "PB" }, 1
  while n >= 1000 and k < #units do
    n, k = n / 1000, k + 1
  end
  return k == 1 and string.format("%d B", n) or string.format("%.1f %s", n, units[k])
end

-- amount.plural(n, word): "1 pass", "2 passes", "3 tensors".
function amount.plural(n, word)
  return string.format("%d %s%s", n, word, n == 1 and "" or (word:sub(-1) == "s" and "es" or "s"))
end

return amount
