-- SPDX-License-Identifier: Apache-2.0
-- ZipIt! (Stoica et al. 2023, arXiv:2305.03053): features of two or more networks that were trained apart, for other
-- tasks even, are merged into those of one, across the networks and within each, most similar first. The greedy rule
-- is in C (merge/align/zip.h), the propagation of merges through a network is the layout's, and the merged weights are
-- those of align.members. Heads of attention, which share what lies inside them, are not zipped: each is matched with
-- one of the other networks and averaged.
return function(define, check, core)
  local map = require "align.map"(core)
  local features = require "align.features"(core)
  local members = require "align.members"(core)
  local net_of = require "nn.net"
  local columns = require "probe.record".columns
  local told = require "nn.told"
  local what = "align.zip"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local function number(o, name, default, low)
    local v = o[name]
    if v == nil then return default end
    if type(v) ~= "number" or v ~= v or v < low then fail("%s = %s; expected a number%s", name, tostring(v),
      low > -math.huge and (", at least %g"):format(low) or "") end
    return v
  end

  -- ---- which features become one ----

  -- How many features a class is left with. width: a multiple of model 1's, or a table by name of class.
  local function width_of(class, sizes, total, width)
    local n = type(width) == "table" and (width[class.name] or sizes[1]) or nil
    n = n or math.floor(width * sizes[1] + 0.5)
    if math.type(n) ~= "integer" or n < 1 or n > total then
      fail("width of %s = %s; expected 1 … %d", class.name, tostring(n), total)
    end
    return n
  end

  local function known_names(list, width)
    if type(width) ~= "table" then return end
    local names = {}
    for _, class in pairs(list[1].layout.classes) do names[class.name] = true end
    for name in pairs(width) do
      if not names[name] then
        local near = require "nearest"(tostring(name), names)
        fail("width: no group is called %s%s", tostring(name), near and ("; did you mean %s?"):format(near) or "")
      end
    end
  end

  -- Of a partition [n]: how many groups hold features of one model alone (two or more), of several, or one feature.
  local function counted(group, sizes, wanted)
    local of, first = {}, 0
    for g = 1, wanted do of[g] = { size = 0, models = {} } end
    local list = group:totable()
    for i, n in ipairs(sizes) do
      for k = first + 1, first + n do
        local g = of[list[k]]
        g.size = g.size + 1
        g.models[i] = true
      end
      first = first + n
    end
    local within, across, alone = {}, 0, 0
    for i in ipairs(sizes) do within[i] = 0 end
    for _, g in ipairs(of) do
      local i = next(g.models)
      if next(g.models, i) then across = across + 1
      elseif g.size > 1 then within[i] = within[i] + 1
      else alone = alone + 1 end
    end
    return within, across, alone
  end

  -- The correlations of a class's features, all members one after the other, in the mean over its sites.
  local function together(list, numbers, correlation)
    local sum
    for _, k in ipairs(numbers) do
      local rows = {}
      for i in ipairs(list) do
        local row = {}
        for j in ipairs(list) do row[j] = correlation(k, i, j) end
        rows[i] = tensor.cat(row, 2)
      end
      local all = tensor.cat(rows, 1)
      sum = sum and sum + all or all
    end
    return sum / #numbers
  end

  -- One class: its maps and its row of the table.
  local function zipped(list, class, numbers, correlation, o)
    local sizes, total, budget = {}, 0, {}
    for i, m in ipairs(list) do
      sizes[i] = m.layout.classes[class.id].size
      total = total + sizes[i]
    end
    local wanted = width_of(class, sizes, total, o.width)
    for i, n in ipairs(sizes) do
      budget[i] = math.max(math.floor((total - wanted) // #sizes * o.beta + 1e-9), n - wanted)
    end
    local c = together(list, numbers, correlation)
    local group, left = core.zip(c, sizes, wanted, o.alpha, budget)
    local row = { id = class.id, group = class.name, sizes = sizes, size = wanted, partition = group, budget = budget,
      left = left }
    row.within, row.across, row.alone = counted(group, sizes, wanted)
    return members.maps_of(group, sizes, wanted), row
  end

  -- maps of each model, and the rows of the table.
  local function maps_of(list, sources, correlation, o)
    local of, nested = members.by_class(list, sources)
    local rows = {}
    local maps = members.matched(what, list, sources, nested, correlation)
    for _, class in ipairs(map.classes(list[1].layout)) do
      if of[class.id] then
        local all
        all, rows[#rows + 1] = zipped(list, class, of[class.id], correlation, o)
        for i, m in ipairs(all) do maps[i][class.id] = m end
      elseif maps[2][class.id] then
        local sizes = {}
        for i in ipairs(list) do sizes[i] = class.size end
        rows[#rows + 1] = { id = class.id, group = class.name, sizes = sizes, size = class.size, matched = true }
      end
    end
    return maps, rows
  end

  -- ---- up to a part ----

  -- What belongs to the network up to a part: its tensors, its parts, and the sources that show features there: what
  -- is seen inside it, and what leaves it, seen by whoever reads it first.
  local function trunk_of(list, through, data)
    local trunk = list[1].net:upto(through)
    local names, paths, last = {}, {}, nil
    local events = features.trace(list[1].net, list[1].theta, features.first(what, data))
    for _, p in ipairs(trunk:params()) do names[p.name] = true end
    net_of.walk(trunk, function(_, path) paths[path] = true end)
    for _, e in ipairs(events) do
      if paths[e.path] and e.path ~= "" then last = e end
    end
    local leaves = {} -- parts that read what leaves the trunk
    for _, e in ipairs(events) do
      if rawequal(e.x, last.y) then leaves[e.path] = true end
    end
    return { net = trunk, names = names, out = last.path,
      sees = function(source) return paths[source.path] or source.side == "input" and leaves[source.path] or false end }
  end

  -- How each model's features come back from those that leave the trunk: [old, new]; nil: they are its own.
  local function unmerging(list, alignments, trunk)
    local out, any = {}, false
    for i, p in ipairs(alignments) do
      local site = p.layout.sites[trunk.out]
      local seen = site and site.output and site.output.axes or {}
      for axis, segments in pairs(seen) do
        for _, s in ipairs(segments) do
          for _, f in ipairs(s) do
            if f.class and p.maps[f.class] and axis ~= #seen then
              fail("through = %s: a group lies along dimension %d of its output; expected the last", trunk.out, axis)
            end
          end
        end
      end
      local segments, dual, n = seen[#seen] or {}, {}, 0
      for k, s in ipairs(segments) do
        dual[k] = { offset = s.offset, size = s.size, dual = true }
        for q, f in ipairs(s) do dual[k][q] = { size = f.size, class = f.class, dual = true } end
        n = n + s.size
      end
      if n > 0 then
        local eye = tensor.eye(n)
        local back = map.axis(eye, 2, dual, p.maps)
        any = any or not rawequal(back, eye)
        out[i] = back
      end
    end
    return any and #out == #list and out or {}
  end

  local function partial(list, alignments, trunk, o)
    local back, shapes, values, shape_of = unmerging(list, alignments, trunk), {}, {}, {}
    local names = {}
    for name in pairs(trunk.names) do names[#names + 1] = name end
    for name, t in pairs(members.assembled(what, list, alignments, names)) do values[name] = t end
    for i, m in ipairs(list) do
      local at = "heads." .. i .. "."
      if back[i] then
        shapes[i] = { back[i].shape[2], back[i].shape[1] }
        values[at .. "unmerge.weight"] = back[i]
      end
      for _, p in ipairs(m.net:from(o.through):params()) do values[at .. p.name] = m.stored[p.name] end
    end
    local nets = {}
    for i, m in ipairs(list) do nets[i] = m.net end
    local made = require "nn.heads"(nets, o.through, { join = o.join, unmerge = shapes })
    for name, t in pairs(values) do shape_of[name] = t.shape end
    return require "nn.resize"(made, shape_of), values
  end

  -- ---- what scripts get ----

  local methods = {}
  local Zip = { __name = "zip", __index = methods }

  function Zip.__tostring(z)
    local head = { "group" }
    for i in ipairs(z.maps) do head[#head + 1] = "model " .. i end
    head[#head + 1] = "merged"
    for i in ipairs(z.maps) do head[#head + 1] = "within " .. i end
    head[#head + 1], head[#head + 2] = "across", "alone"
    local rows = {}
    for _, r in ipairs(z.groups) do
      local row = { r.group }
      for _, n in ipairs(r.sizes) do row[#row + 1] = tostring(n) end
      row[#row + 1] = tostring(r.size)
      for i in ipairs(z.maps) do row[#row + 1] = r.matched and "-" or tostring(r.within[i]) end
      row[#row + 1], row[#row + 2] = tostring(r.across or "matched"), tostring(r.alone or "-")
      rows[#rows + 1] = row
    end
    local merged = ("zip of %d models: %d groups%s"):format(#z.maps, #z.groups,
      z.through and " up to " .. z.through or "")
    return table.concat({ merged, columns(head, rows) }, "\n")
  end

  methods.merge = told(members.merge(check, "zip:merge"))

  local function parsed(a, b, o)
    local several = net_of.list(a)
    if several then return several, b or {} end
    return { a, b }, o or {}
  end

  local names = { "data", "alpha", "beta", "through", "width", "join", "site", "from", "batch", "examples", "pin",
    "free" }

  local function zip(net, a, b, last)
    local models, o = parsed(a, b, last)
    check(what, o, names)
    if #models < 2 then fail("expected two models or more") end
    if o.data == nil then fail("data = … is needed: what features are correlated over; labels are not used") end
    local list = members.open(what, net, models, o)
    local how = { alpha = number(o, "alpha", 0.3, -math.huge), beta = number(o, "beta", 0.125, 0), width = o.width or 1,
      through = o.through, join = o.join or "mean" }
    if type(how.width) ~= "table" then how.width = number(o, "width", 1, 0) end
    known_names(list, how.width)
    local trunk = o.through and trunk_of(list, o.through, o.data)
    local kept = members.sources(what, list, o.data, o, trunk and trunk.sees)
    local sources = kept[1]
    if #sources == 0 then fail("no group of features can be merged%s", trunk and " up to " .. o.through or "") end
    local correlation = members.correlations(what, list, kept, o.data, o)
    local maps, rows = maps_of(list, sources, correlation, how)
    local z = { list = list, groups = rows, maps = {}, through = o.through }
    for i, m in ipairs(list) do
      z.maps[i] = map.new { net = m.net, layout = m.layout, maps = maps[i], method = "zip" }
    end
    if trunk then
      z.net, z.values = partial(list, z.maps, trunk, how)
    else
      z.net, z.values = members.whole(what, list, z.maps)
    end
    return setmetatable(z, Zip)
  end

  define(what, "align.zip(net or {net_a, net_b}, a, b, {data =, alpha = 0.3, beta = 0.125, through =, width = 1, "
    .. "join = \"mean\", site = \"post\", from = \"all\", batch =, examples =, pin =, free =}) -> zip",
    "ZipIt! (Stoica et al. 2023, arXiv:2305.03053): merges the features of networks that were trained apart, for the "
    .. "same task or for others, with one another and within each network: again and again the two whose correlation "
    .. "over data is largest become one, until the width of a is reached. A merged feature is the mean of its members "
    .. "and goes to all that read one of them. align.zip(net, {a, b, c, …}, o) takes more than two. The networks may "
    .. "differ in their widths: net stands for all, their widths come from the tensors, or give a list of networks. "
    .. "z:merge {bn = data} is the merged model, with the statistics of batch norms taken anew over bn; "
    .. "z.net the network it is for; print(z) shows for each group how many merged features lie within each model and "
    .. "across; z.maps are the maps of each model (forward, back), z.groups the rows of the table. What is computed "
    .. "changes. Heads of attention are matched one to one, not merged into fewer.\n"
    .. "  alpha: the similarities of a merged feature, the smaller of its members', are multiplied by it. At most 0: "
    .. "it is not merged again with features of the models that it has features of\n"
    .. "  beta: of the merges that take place, this share / number of models may join two features of the same model, "
    .. "in each (a merged feature counts for the model of its first); more where a width is above the merged one\n"
    .. "  through: merge up to and with this part (as net:upto); behind it each model keeps its own head, heads.1, "
    .. "heads.2, …, whose first part, unmerge, gives it its own features back\n"
    .. "  join: what the outputs of the heads become: \"mean\" (the average of the logits), \"cat\" (side by side, "
    .. "for other classes), or a function of them; z.net:capture(m, x, {\"heads.1\"}) gives one by itself\n"
    .. "  width: a multiple of a's widths; for two models of one width 2 merges nothing. Or {[group] = features}, "
    .. "others as in a\n"
    .. "  site, from: where features are looked at, as in align.activations. pin, free: as in align.groups",
    "local net = nn.mlp { 4, 16, 3 }\nlocal a, b = net:init { seed = 1 }, nn.mlp { 4, 24, 3 }:init { seed = 2 }\n"
    .. "local d = { x = tensor.normal({ 100, 4 }, 3) }\n"
    .. "local z = align.zip(net, a, b, { data = d })\n"
    .. "print(z:merge()[\"fc1.weight\"].shape, z.groups[1].size)\n-- > [16, 4]\t16", zip)

  define("zip:merge", "z:merge {bn =, batch = 256} -> model",
    "The merged model, for the network z.net: in the form of a where the widths are a's. bn: data over which running "
    .. "statistics of batch norms are made anew, which merged features need (batch: examples at a time).",
    "local net = nn.mlp { 4, 16, 3, norm = \"batch\" }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local d = { x = tensor.normal({ 100, 4 }, 3) }\nlocal z = align.zip(net, a, b, { data = d, width = 1.5 })\n"
    .. "print(z.net(z:merge { bn = d }, d.x).shape, z:merge()[\"norm1.running_var\"].shape)\n-- > [100, 3]\t[24]",
    members.merge(check, "zip:merge"))
end
