-- SPDX-License-Identifier: Apache-2.0
-- Records that are a matrix with names: layers by layers, models by models, coefficients by coefficients. A record has
-- matrix (a tensor), rows and columns (texts or numbers).
local record = require "probe.record"

local MOST = 12 -- columns of the text

local grid = {}

local function name(v) return type(v) == "number" and record.short(v) or tostring(v) end

function grid.text(r)
  local head, lines, most = { "" }, {}, math.min(#r.columns, MOST)
  for j = 1, most do head[j + 1] = name(r.columns[j]) end
  if #r.columns > most then head[most + 2] = "…" end
  for i, row in ipairs(r.matrix:totable()) do
    lines[i] = { name(r.rows[i]) }
    for j = 1, most do lines[i][j + 1] = ("%.3f"):format(row[j]) end
    if #r.columns > most then lines[i][most + 2] = "…" end
  end
  return record.columns(head, lines)
end

function grid.rows(r)
  local out = {}
  for i, row in ipairs(r.matrix:totable()) do
    for j, v in ipairs(row) do out[#out + 1] = { r.rows[i], r.columns[j], v } end
  end
  return { "row", "column", "value" }, out
end

-- o: title, xlabel, ylabel and lim (of the colours) of the picture; more: function(r) -> text behind the title.
function grid.kind(kind, o)
  return record.kind(kind, {
    text = function(r)
      return ("%s%s%s\n%s"):format(kind, r.n and ("; %d examples"):format(r.n) or "", o.more and o.more(r) or "",
        grid.text(r))
    end,
    rows = grid.rows,
    plot = function(r, options)
      return grid.plot(r, options, { title = o.title, xlabel = o.xlabel, ylabel = o.ylabel, lim = o.lim })
    end,
  })
end

function grid.plot(r, options, defaults)
  local p = { r.matrix, rows = r.rows, columns = r.columns }
  if options ~= nil and type(options) ~= "table" then
    error("plot.matrix: expected a table of options, got " .. type(options), 0)
  end
  for key, v in pairs(defaults or {}) do p[key] = v end
  for key, v in pairs(options or {}) do p[key] = v end
  return plot.matrix(p)
end

return grid
