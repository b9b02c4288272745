-- SPDX-License-Identifier: Apache-2.0
-- The groups of a network as a table to look at: what moves together, how freely, and where.
return function(define, check, core)
  local layout = require "align.layout"
  local net_of = require "nn.net"

  local Groups = { __name = "groups", __metatable = false }

  -- "attn.c_attn.weight 2[1]" for the first of several segments of the second axis; an axis that reads ends in '.
  local function place(name, d, axis, s, factor)
    return name .. " " .. d .. (#axis > 1 and ("[%d]"):format(s) or "") .. (factor.dual and "'" or "")
  end

  local function rows_of(root, plan)
    local rows, by = {}, {}
    local ids = {}
    for c in pairs(plan.classes) do ids[#ids + 1] = c end
    table.sort(ids)
    for i, c in ipairs(ids) do
      local class = plan.classes[c]
      rows[i] = { id = c, name = class.name, size = class.size, kind = class.kind, under = {}, entries = {} }
      for k, g in ipairs(class.under) do rows[i].under[k] = plan.classes[g].name end
      by[c] = rows[i]
    end
    for _, t in ipairs(net_of.structure(root).tensors) do
      for d, axis in ipairs(plan.tensors[t.name].axes) do
        for s, segment in ipairs(axis) do
          local block = segment.size
          for _, factor in ipairs(segment) do
            block = block // factor.size
            if factor.class then
              local entries = by[factor.class].entries
              entries[#entries + 1] = { tensor = t.name, axis = d, offset = segment.offset, block = block,
                repeats = segment.size // (block * factor.size), dual = factor.dual,
                text = place(t.name, d, axis, s, factor) }
            end
          end
        end
      end
    end
    return rows
  end

  local function padded(rows)
    local widths, out = {}, {}
    for _, row in ipairs(rows) do
      for k, cell in ipairs(row) do widths[k] = math.max(widths[k] or 0, utf8.len(cell)) end
    end
    for i, row in ipairs(rows) do
      local cells = {}
      for k, cell in ipairs(row) do
        local space = (" "):rep(widths[k] - utf8.len(cell))
        cells[k] = k == 2 and space .. cell or cell .. space
      end
      out[i] = (table.concat(cells, "  "):gsub("%s+$", ""))
    end
    return table.concat(out, "\n")
  end

  Groups.__tostring = function(g)
    local rows = { { "group", "size", "kind", "under", "tensors and axes" } }
    for _, row in ipairs(g) do
      local places = {}
      for k, e in ipairs(row.entries) do places[k] = e.text end
      rows[#rows + 1] = { row.name, tostring(row.size), row.kind, table.concat(row.under, ", "),
        table.concat(places, ", ") }
    end
    return padded(rows)
  end

  define("align.groups", "align.groups(net, theta, {pin =, free =, x =}) -> groups",
    "What of a network may move without changing what it computes, read off the operations that it consists of: a "
    .. "list of groups, each with name, size, kind, under and entries (tensor, axis, offset, block), which prints as a "
    .. "table. kind: how freely the features of a group may be changed, \"permutation\", \"signed\" (with signs), "
    .. "\"scaled\" (with positive scales) or \"linear\" (any invertible map); an entry with dual reads the features "
    .. "and takes the inverse. A group under another may be moved differently for each of its places, as what is "
    .. "inside a head. Inputs and outputs stay. pin: names or patterns of tensors or groups that shall stay too; free: "
    .. "that may move though they are inputs or outputs; x: a batch, for a network that does not say what it takes. "
    .. "theta is not needed. "
    .. "layout: the same by tensors, as alignments use it: {classes =, tensors =, sites =}.",
    "print(align.groups(nn.mlp { 4, 3, 2 }))\n"
    .. "-- > group  size  kind    under  tensors and axes\n"
    .. "-- > fc1       3  scaled         fc1.weight 1, fc1.bias 1, fc2.weight 2'",
    function(net, theta, o)
      check("align.groups", o, { "pin", "free", "x" })
      if theta ~= nil and core.kind(theta) ~= "model" then
        net_of.fail("align.groups: theta is a %s; expected a model or nil, and options after it", core.kind(theta))
      end
      local plan = layout.of(net, o)
      local rows = rows_of(net, plan)
      rows.layout = plan
      return setmetatable(rows, Groups)
    end)
end
