-- SPDX-License-Identifier: Apache-2.0
-- CCA merging (Horoi et al. 2024, arXiv:2407.05385): linear maps of features instead of permutations. In the basis of
-- canonical directions, where two sets of features are white and most alike, the features of b are turned into those
-- of a:
--
--   U D V' = Sxx^(-1/2) Sxy Syy^(-1/2),   forward = Sxx^(1/2) U V' Syy^(-1/2),   back = its inverse,
--
-- with population covariances plus ridge I, so that nothing has to be inverted but square roots that exist. Behind an
-- activation such a map is no symmetry: what b computes changes, and the alignment says by how much. Where the group is
-- linear (no activation between; values inside a head) it is exact.
--
-- A linear map is given to the innermost moving factor of each axis; what lies outside of it (heads) is permuted.
return function(define, check, core)
  local map = require "align.map"(core)
  local features = require "align.features"(core)
  local scores = require "align.scores"(core)
  local what = "align.cca"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- Classes that have no moving factor behind them on any axis.
  local function innermost(plan)
    local out = {}
    for c in pairs(plan.classes) do out[c] = true end
    for _, t in pairs(plan.tensors) do
      for _, segments in ipairs(t.axes) do
        for _, s in ipairs(segments) do
          local last
          for k = #s, 1, -1 do
            if s[k].class and last then out[s[k].class] = nil end
            last = last or s[k].class
          end
        end
      end
    end
    return out
  end

  -- Covariances of a class, one triple for each of its instances, summed over the sources and places that share it.
  local function covariances(plan, c, moments, hard)
    local class, sums = plan.classes[c], {}
    local n, instances = class.size, map.instances(plan, class)
    local count = 0
    for _, m in ipairs(moments) do
      local list = m.source.classes
      if list[#list].class == c then
        count = count + 1
        local outer, segment = m.source.size // n, { offset = 0 }
        for k = 1, #list - 1 do segment[k] = { size = list[k].size, class = list[k].class } end
        segment.size = outer
        local from = #segment > 0 and map.gather({ segment }, hard) or nil
        local shape = { outer, n, outer, n }
        local xx, yy, xy = m.own[1]:reshape(shape), m.own[2]:reshape(shape), m.cross:reshape(shape)
        for place = 1, outer do
          local other, instance, rest = from and math.tointeger(from[place]) or place, 0, place - 1
          local digits = {}
          for k = #segment, 1, -1 do
            digits[segment[k].class], rest = rest % segment[k].size, rest // segment[k].size
          end
          for _, u in ipairs(class.under or {}) do instance = instance * plan.classes[u].size + digits[u] end
          local function block(t, i, k) return t[{ { i, i }, {}, { k, k }, {} }]:reshape { n, n } end
          local s = sums[instance + 1]
          local x, y, z = block(xx, place, place), block(yy, other, other), block(xy, place, other)
          sums[instance + 1] = s and { xx = s.xx + x, yy = s.yy + y, xy = s.xy + z, n = s.n + 1 }
            or { xx = x, yy = y, xy = z, n = 1 }
        end
      end
    end
    if count == 0 then return nil end
    for k = 1, instances do
      local s = sums[k]
      sums[k] = { xx = s.xx / s.n, yy = s.yy / s.n, xy = s.xy / s.n }
    end
    return sums
  end

  -- s^(1/2) and s^(-1/2) of a symmetric matrix.
  local function roots(s, name)
    local values, vectors = s:eigh()
    local least = values:min()
    if least ~= least or least <= 1e-13 * values:max() then
      fail("the features of %s are linearly dependent on these data; ridge = … above 0 helps, or more data", name)
    end
    local root = values:sqrt()
    return (vectors * root):matmul(vectors:t()), (vectors / root):matmul(vectors:t())
  end

  -- forward, back, canonical correlations.
  local function turned(s, ridge, name)
    local eye = ridge * tensor.eye(s.xx.shape[1]):to "f64"
    local x, x_back = roots(s.xx + eye, name)
    local y, y_back = roots(s.yy + eye, name)
    local u, d, vh = x_back:matmul(s.xy):matmul(y_back):svd()
    local turn = u:matmul(vh)
    return x:matmul(turn):matmul(y_back), y:matmul(turn:t()):matmul(x_back), d
  end

  local function cca(net, a, b, o)
    o = o or {}
    check(what, o, { "data", "ridge", "site", "from", "batch", "examples", "eps", "pin", "free", "check", "log" })
    local ridge = o.ridge or 0.1
    if type(ridge) ~= "number" or ridge ~= ridge or ridge < 0 then
      fail("ridge is a number, at least 0, got %s", tostring(ridge))
    end
    local plan = features.layout(what, net, a, o)
    local moments, left = scores.seen(what, net, plan, a, b,
      { data = o.data, site = o.site, from = o.from, batch = o.batch, examples = o.examples, own = "full",
        precise = true })
    local hard = scores.solve(plan, scores.terms(moments, scores.measure_of(what, { eps = o.eps })), false, o.log)
    local maps, correlations = {}, {}
    local inner = innermost(plan)
    for _, class in ipairs(map.classes(plan)) do
      local c = class.id
      maps[c] = hard[c]
      local sums = inner[c] and covariances(plan, c, moments, hard)
      if sums then
        local forward, back, found = {}, {}, {}
        for k, s in ipairs(sums) do forward[k], back[k], found[k] = turned(s, ridge, class.name) end
        maps[c] = { forward = tensor.stack(forward, 1), back = tensor.stack(back, 1) }
        correlations[class.name] = tensor.stack(found, 1)
      end
    end
    return map.finish(map.new { net = net, layout = plan, maps = maps, method = "cca",
      info = { correlations = correlations, left = left, ridge = ridge } }, a, b, o)
  end

  define(what, "align.cca(net, a, b, {data =, ridge = 0.1, site = \"post\", from = \"all\", batch =, examples =, "
    .. "pin =, free =, check = true, log =}) -> alignment",
    "Linear maps that turn the features of b into those of a by canonical correlation analysis (Horoi et al. "
    .. "2024, arXiv:2407.05385), for merging: (a + p:apply(b)) / 2, then align.repair or eval.bn_reset. Not a "
    .. "symmetry where an activation is in between, so p:apply(b) computes something else than b (p.exact is "
    .. "false; p.change, which is printed, says by how much); exact where the group is linear. Heads are permuted, "
    .. "and what is inside them is mapped. p.correlations has for each group the canonical correlations "
    .. "[instances, features], descending.\n"
    .. "  ridge: added to the diagonal of the covariances, in the units of the features; what the paper searches "
    .. "over. 0 needs features that are linearly independent on the data\n"
    .. "The other options are those of align.activations.",
    "local net = nn.mlp { 4, 6, 2, act = \"identity\" }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local d = { x = tensor.normal({ 100, 4 }, 3) }\n"
    .. "local p = align.cca(net, a, b, { data = d, ridge = 1e-3 })\n"
    .. "print(p.exact, p:check(net, b, d) < 1e-4, p.correlations.fc1.shape)\n-- > false	true	[1, 6]", cca)
end
