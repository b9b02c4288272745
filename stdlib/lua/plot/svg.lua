-- SPDX-License-Identifier: Apache-2.0
-- A figure as SVG: a sheet in the figure's theme, and what its kind draws on it.
local paper = require "plot.paper"

return function(fig)
  local s = paper.sheet(fig.width, fig.height, paper.themes[fig.theme or "light"])
  require("plot." .. fig.drawn).svg(s, { x = 0, y = 0, w = fig.width, h = fig.height }, fig)
  return s.finish()
end
