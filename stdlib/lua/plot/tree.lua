-- SPDX-License-Identifier: Apache-2.0
-- Trees whose nodes have heights: merge trees (leaves at their own values) and dendrograms (leaves at 0, with labels).
local levels = require "plot.levels"
local paper = require "plot.paper"
local scale = require "plot.scale"
local words = require "plot.words"

local num = paper.num
local tree = {}

-- Numbers the leaves from left to right; every node gets the middle of its kids as its place.
local function lay_out(node, state)
  if not node.kids then
    state.leaves = state.leaves + 1
    state.list[state.leaves] = node
    return { node = node, x = state.leaves, value = node.value }
  end
  local out, sum = { node = node, value = node.value, kids = {} }, 0
  for k, kid in ipairs(node.kids) do
    out.kids[k] = lay_out(kid, state)
    sum = sum + out.kids[k].x
  end
  out.x = sum / #node.kids
  return out
end

function tree.svg(s, box, fig)
  local state, roots = { leaves = 0, list = {} }, {}
  for k, root in ipairs(fig.roots) do roots[k] = lay_out(root, state) end
  local longest = 0
  for _, leaf in ipairs(state.list) do
    if leaf.label then longest = math.max(longest, paper.width_of(leaf.label, 11)) end
  end
  local a = { left = box.x + 64, right = box.x + box.w - 20, top = box.y + paper.room_above(fig, box, 14) }
  local turned = (longest + 8) * state.leaves > a.right - a.left -- labels too wide to stand beside each other
  a.bottom = box.y + box.h - (turned and math.min(longest, 120) + 24 or longest > 0 and 40 or 20)
  local ys = scale.make(fig.ylim[1], fig.ylim[2], false, math.max(2, box.h // 60))
  local function px(x) return a.left + (a.right - a.left) * (x - 0.5) / state.leaves end
  local function py(v) return scale.shown(v) and a.bottom - (a.bottom - a.top) * ys.at(v) or a.top end
  for _, t in ipairs(ys.ticks) do
    s.add('<path d="M%s %sH%s" stroke="%s"/>', num(a.left), num(py(t.value)), num(a.right), s.theme.grid)
    s.number(a.left - 7, py(t.value) + 4, t.label, "end", 11)
  end
  s.add('<path d="M%s %sV%s" fill="none" stroke="%s"/>', num(a.left), num(a.top), num(a.bottom), s.theme.axis)
  local line = s.theme.colours[1]
  local function draw(node)
    local x, y = px(node.x), py(node.value)
    if not node.kids then
      s.add('%s fill="%s"/>', paper.marker(1, x, y, 3), s.theme.colours[2])
      if node.node.label and turned then
        s.text(x + 4, a.bottom + 10, node.node.label, "end", 11, (' transform="rotate(-90 %s %s)"'):format(num(x + 4),
          num(a.bottom + 10)), 121)
      elseif node.node.label then
        s.text(x, a.bottom + 18, node.node.label, "middle", 11, nil, box.w - 40)
      end
      return
    end
    local first, last = node.kids[1], node.kids[#node.kids]
    for _, kid in ipairs(node.kids) do
      s.add('<path d="M%s %sV%s" stroke="%s" stroke-width="1.6"/>', num(px(kid.x)), num(py(kid.value)), num(y), line)
      draw(kid)
    end
    s.add('<path d="M%s %sH%s" stroke="%s" stroke-width="1.6" stroke-linecap="square"/>', num(px(first.x)), num(y),
      num(px(last.x)), line)
  end
  for _, root in ipairs(roots) do
    s.add('<path d="M%s %sV%s" stroke="%s" stroke-width="1.6"/>', num(px(root.x)), num(py(root.value)), num(a.top),
      line)
    draw(root)
  end
  paper.title(s, a, box, fig)
  paper.ylabel(s, a, box, scale.named(fig.ylabel, ys, "height"), box.x + 16)
  if fig.note then s.text(a.right, box.y + box.h - 5, fig.note, "end", 10, (' fill="%s"'):format(s.theme.soft)) end
end

-- An outline, one node a line.
function tree.text(fig, o)
  local out = { fig.title and words.cut(fig.title, o.width, o.ascii) }
  local bar, tee, corner = "│  ", "├─ ", "└─ "
  if o.ascii then bar, tee, corner = "|  ", "|- ", "`- " end
  local function write(node, head, tail)
    local where = node.label or node.place and "at " .. table.concat(node.place, ", ") or ""
    local text = head .. levels.label(node.value) .. (node.kids and "" or "  " .. where)
    out[#out + 1] = words.cut(text:gsub(" +$", ""), o.width, o.ascii)
    for k, kid in ipairs(node.kids or {}) do
      local final = k == #node.kids
      write(kid, tail .. (final and corner or tee), tail .. (final and "   " or bar))
    end
  end
  for _, root in ipairs(fig.roots) do write(root, "", "") end
  if fig.note then out[#out + 1] = words.cut(fig.note, o.width, o.ascii) end
  return table.concat(out, "\n")
end

function tree.data(fig) return { trees = fig.roots } end

return tree
