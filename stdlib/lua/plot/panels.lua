-- SPDX-License-Identifier: Apache-2.0
-- Several figures side by side on one sheet. A legend belongs to the last; the others are `plain`.
local paper = require "plot.paper"
local words = require "plot.words"

local panels = {}

function panels.svg(s, box, fig)
  local top = paper.room_above(fig, box, 6) - 6
  paper.title(s, { left = box.x, right = box.x + box.w, top = box.y + top + 6 }, box, fig)
  local x, total = box.x, 0
  for _, part in ipairs(fig.parts) do total = total + part.share end
  for _, part in ipairs(fig.parts) do
    local w = box.w * part.share / total
    part.fig.width = w
    require("plot." .. part.fig.drawn).svg(s, { x = x, y = box.y + top, w = w, h = box.h - top }, part.fig)
    x = x + w
  end
end

function panels.text(fig, o)
  local out = { fig.title and words.cut(fig.title, o.width, o.ascii) }
  for _, part in ipairs(fig.parts) do
    out[#out + 1] = require("plot." .. part.fig.drawn).text(part.fig, { width = o.width, height = o.height - 4,
      ascii = o.ascii })
  end
  return table.concat(out, "\n")
end

function panels.data(fig)
  local list = {}
  for k, part in ipairs(fig.parts) do list[k] = part.fig:data() end
  return { panels = list }
end

return panels
