-- SPDX-License-Identifier: Apache-2.0
-- A text as the bytes of a u8 tensor and back, for files of tensors that say something in words. In pieces: a call
-- takes and gives so many values and no more.
local bytes = {}

function bytes.of(text)
  local list = {}
  for i = 1, #text, 4096 do table.move({ text:byte(i, i + 4095) }, 1, 4096, i, list) end
  return tensor(list, { dtype = "u8" })
end

function bytes.text(t)
  local list, words = t:totable(), {}
  for i = 1, #list, 4096 do
    words[#words + 1] = string.char(table.unpack(list, i, math.min(i + 4095, #list)))
  end
  return table.concat(words)
end

return bytes
