-- SPDX-License-Identifier: Apache-2.0
-- text_file(path [, maybe]): the text of the file; nil if it cannot be opened and `maybe` is true, else an error that
-- says why. A link may lead to what has no end.
local most = 256 << 20 -- bytes: the largest tokenizers have some 40 MB

return function(path, maybe)
  local file, why = io.open(path, "rb")
  if not file and maybe then return nil end
  if not file then error("cannot open " .. why, 0) end
  local pieces, total = {}, 0
  local piece
  repeat
    piece, why = file:read(1 << 16)
    pieces[#pieces + 1] = piece
    total = total + (piece and #piece or 0)
  until not piece or total > most
  file:close()
  if why then error(("cannot read %s: %s"):format(path, why), 0) end
  if total > most then error(("%s: more than %d MiB, which is no text"):format(path, most >> 20), 0) end
  return table.concat(pieces)
end
