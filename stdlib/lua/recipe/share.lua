-- SPDX-License-Identifier: Apache-2.0
-- What several plans have in common. A plan's JSON is canonical: two operations are the same when their texts
-- and those of all that they stand on are. The largest ones that are in every plan can go to temporary files,
-- and the plans be rewritten to read those. Nothing is rounded on the way: halves are kept as f32, in which
-- they are computed.

local share = {}

-- Behind the text that begins at `at`.
local function skip_text(plan, at)
  repeat
    at = plan:find('["\\]', at + 1)
    local escaped = plan:sub(at, at) == "\\"
    if escaped then at = at + 1 end
  until not escaped
  return at
end

-- The nodes of a plan as texts, and what stands before and behind them.
local function split(plan)
  local open = select(2, plan:find '"nodes":%[')
  local nodes, depth, from, at = {}, 0, nil, open
  while true do
    at = plan:find('[%[%]{}"]', at + 1)
    local c = plan:sub(at, at)
    if c == '"' then
      at = skip_text(plan, at)
    elseif c == "{" or c == "[" then
      depth = depth + 1
      from = depth == 1 and at or from
    elseif depth == 0 then
      return nodes, plan:sub(1, open), plan:sub(at)
    else
      depth = depth - 1
      if depth == 0 then nodes[#nodes + 1] = plan:sub(from, at) end
    end
  end
end

-- A plan taken apart: for each node its text around the operands, their positions, and a number that equal
-- nodes of all plans have in common.
local function take_apart(plan, numbers)
  local nodes, head, tail = split(plan)
  local d = { head = head, tail = tail }
  for i, text in ipairs(nodes) do
    local before, list, behind = text:match '^({"node":"[%w_]+","in":%[)([%d,]*)(%].*)$'
    local node = { before = before, behind = behind, text = text, operands = {} }
    local ids = {}
    for at in (list or ""):gmatch "%d+" do
      node.operands[#node.operands + 1] = math.tointeger(at) + 1
      ids[#ids + 1] = d[math.tointeger(at) + 1].id
      node.heavy = node.heavy or d[math.tointeger(at) + 1].heavy
    end
    local key = before and before .. table.concat(ids, ",") .. behind or text
    numbers[key] = numbers[key] or numbers.count + 1
    numbers.count = math.max(numbers.count, numbers[key])
    node.id = numbers[key]
    node.method = text:match '^{"node":"method","in":%[[%d,]*%],"method":"([%w_]+)"'
    node.heavy = node.heavy or node.method ~= nil -- more than sums of what is read
    d[i] = node
  end
  return d
end

-- Puts node i and all below it into out, those of `instead` as the texts there; returns its new position.
local function copy(d, i, instead, out, places)
  local node = d[i]
  if places[i] then return places[i] end
  if instead[node.id] then
    out[#out + 1] = instead[node.id]
  elseif not node.before then
    out[#out + 1] = node.text
  else
    local list = {}
    for k, at in ipairs(node.operands) do list[k] = copy(d, at, instead, out, places) end
    out[#out + 1] = node.before .. table.concat(list, ",") .. node.behind
  end
  places[i] = #out - 1
  return places[i]
end

local function rewrite(d, i, instead)
  local out = {}
  copy(d, i, instead, out, {})
  return d.head .. table.concat(out, ",") .. d.tail
end

-- find({ {plan, …}, … }): one list of plans a point -> { {id, name, plan}, … }: the largest operations with a method
-- in them that every point has, each as a plan of its own; and a function that writes a plan anew:
-- rewrite(point, k, { [id] = text of an input }).
function share.find(points)
  local numbers, parts, seen = { count = 0 }, {}, {}
  for p, plans in ipairs(points) do
    parts[p] = {}
    local here = {}
    for k, plan in ipairs(plans) do
      parts[p][k] = take_apart(plan, numbers)
      for _, node in ipairs(parts[p][k]) do here[node.id] = true end
    end
    for id in pairs(here) do seen[id] = (seen[id] or 0) + 1 end
  end
  local found, told = {}, {}
  local function common(node) return node.before and node.heavy and seen[node.id] == #points end
  local function take(d, i)
    if common(d[i]) and not told[d[i].id] then
      told[d[i].id] = true
      found[#found + 1] = { id = d[i].id, name = d[i].method or d[i].text:match '^{"node":"([%w_]+)"',
        plan = rewrite(d, i, {}), plain = d[i].text:find('"missing":"error","on_integer":"error"}', 1, true) ~= nil }
    end
  end
  for _, d in ipairs(#points > 1 and parts[1] or {}) do
    take(d, #d)
    for _, node in ipairs(d) do
      for _, at in ipairs(common(node) and {} or node.operands) do take(d, at) end
    end
  end
  return found, function(p, k, instead) return rewrite(parts[p][k], #parts[p][k], instead) end
end

-- The text of the input that a file is to a plan.
function share.input(path, label)
  return (split(model.open(path, { label = label }):plan().json))[1]
end

return share
