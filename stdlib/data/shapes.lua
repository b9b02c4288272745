-- SPDX-License-Identifier: Apache-2.0
-- Drawn shapes with cues planted beside them. The class is the shape; its place, its colour and a patch in a
-- corner can be made to go with the class, each as strongly as wanted, so that one can ask which of them a network
-- uses. An image is a function of factors that are drawn apart from one another: changing the strength of one cue, or
-- its
-- seed, leaves all else of every image as it is. Edges are a pixel soft, by the signed distance to the shape.

local names = { "disc", "square", "triangle", "cross", "ring", "diamond" }
local cue_names = { "position", "colour", "patch" }
local palette = { { 1, 0.25, 0.25 }, { 0.25, 1, 0.25 }, { 0.35, 0.45, 1 }, { 1, 1, 0.25 }, { 1, 0.35, 1 }, { 0.25, 1,
  1 } }

-- Signed distances (below 0 inside) of points (x, y) from a shape of radius r around 0; y points down.
local distance = {
  disc = function(x, y, r) return (x * x + y * y):sqrt() - r end,
  square = function(x, y, r) return x:abs():maximum(y:abs()) - 0.85 * r end,
  triangle = function(x, y, r) return (y - 0.5 * r):maximum(0.8660254 * x:abs() - 0.5 * y - 0.5 * r) end,
  cross = function(x, y, r)
    local a, b = x:abs(), y:abs()
    return (a - r):maximum(b - 0.3 * r):minimum((a - 0.3 * r):maximum(b - r))
  end,
  ring = function(x, y, r) return ((x * x + y * y):sqrt() - 0.75 * r):abs() - 0.25 * r end,
  diamond = function(x, y, r) return (x:abs() + y:abs() - 1.1 * r) * 0.7071068 end,
}

return function(define, check, core, sets)
  local what = "data.shapes"

  local function whole(v, name, least, most)
    if math.type(v) ~= "integer" or v < least or v > (most or math.maxinteger) then
      error(string.format("%s: %s must be a whole number of at least %d%s, got %s", what, name, least,
        most and " and at most " .. most or "", sets.shown(v)), 4)
    end
    return v
  end

  local function share(v, name)
    if type(v) ~= "number" or not (v >= 0 and v <= 1) then
      error(string.format("%s: %s must be a number from 0 to 1, got %s", what, name, sets.shown(v)), 4)
    end
    return v
  end

  -- The value of a cue for each example: the class with probability `strength`, else any, at random.
  local function cue(y, classes, strength, seed)
    local n = #y
    local any = tensor.randint(0, classes, { n }, seed)
    return tensor.where(tensor.rand({ n }, seed):lt(strength), y, any)
  end

  -- Signed distance of all images of one class -> how much of each pixel is covered, [n, size, size]
  local function covered(name, cx, cy, r, size)
    local n = #cx
    local grid = tensor.arange(size):to "f32" + 0.5
    local x = grid:reshape { 1, 1, size } - cx:reshape { n, 1, 1 }
    local y = grid:reshape { 1, size, 1 } - cy:reshape { n, 1, 1 }
    x, y = x:expand { n, size, size }, y:expand { n, size, size }
    return (0.5 - distance[name](x, y, r:reshape { n, 1, 1 })):clamp(0, 1)
  end

  -- Centres: anywhere, or near the place of the cue's value on a circle around the middle.
  local function centres(position, planted, classes, size, r, seed)
    local n = #r
    local free = tensor.rand({ n, 2 }, seed)
    local room = size - 2 * r - 2
    local x, y = r + 1 + free[{ {}, 1 }] * room, r + 1 + free[{ {}, 2 }] * room
    if not planted then return x, y end
    local angle = position:to "f32" * (2 * math.pi / classes)
    local jitter = (free - 0.5) * (0.1 * size)
    local reach = 0.22 * size
    return size / 2 + angle:cos() * reach + jitter[{ {}, 1 }], size / 2 + angle:sin() * reach + jitter[{ {}, 2 }]
  end

  local function draw_order(y, classes, n)
    local by_class, order = {}, {}
    for c = 0, classes - 1 do by_class[c] = {} end
    for k, c in ipairs(y:totable()) do table.insert(by_class[c], k - 1) end
    for c = 0, classes - 1 do table.move(by_class[c], 1, #by_class[c], #order + 1, order) end
    local back = {}
    for place, k in ipairs(order) do back[k + 1] = place - 1 end
    return by_class, tensor(back, { dtype = "i64" })
  end

  -- A patch of 4 x 4 pixels in the upper left corner; its grey value tells the cue.
  local function with_patch(image, patch, classes, size)
    local n, side = #patch, math.max(2, size // 7)
    local grid = tensor.arange(size)
    local inside = grid:reshape { 1, size, 1, 1 }:lt(side):logical_and(grid:reshape { 1, 1, size, 1 }:lt(side))
    local grey = ((patch:to "f32" + 1) / classes):reshape { n, 1, 1, 1 }
    return tensor.where(inside, grey, image)
  end

  local function shapes(o)
    o = o or {}
    check(what, o, { "n", "classes", "size", "colour", "cues", "background", "noise", "seed", "seeds" })
    local n, size = whole(o.n or 1000, "n", 1), whole(o.size or 28, "size", 12, 256)
    local classes = whole(o.classes or 4, "classes", 2, #names)
    local cues, seeds, seed = o.cues or {}, o.seeds or {}, whole(o.seed or 0, "seed", 0)
    check(what .. ": cues", cues, cue_names)
    check(what .. ": seeds", seeds, { "shape", "place", "radius", "position", "colour", "patch", "noise" })
    local function of(factor, k) return whole(seeds[factor] or seed * 16 + k, "seeds." .. factor, 0) end
    local order = core.order(n, of("shape", 1), 0)
    local y = order:remainder(classes)
    local value = {}
    for k, name in ipairs(cue_names) do
      value[name] = cue(y, classes, share(cues[name] or 0, "cues." .. name), of(name, 1 + k))
    end
    local r = (0.16 + 0.06 * tensor.rand({ n }, of("radius", 6))) * size
    local cx, cy = centres(value.position, cues.position ~= nil, classes, size, r, of("place", 7))
    local by_class, back = draw_order(y, classes, n)
    local parts = {}
    for c = 0, classes - 1 do
      local m = #by_class[c]
      if m > 0 then
        local rows = tensor(by_class[c], { dtype = "i64" })
        local function pick(t) return core.take(core.batcher(t, { raw = true }), rows, 0, m) end
        parts[#parts + 1] = covered(names[c + 1], pick(cx), pick(cy), pick(r), size)
      end
    end
    local mask = core.take(core.batcher(tensor.cat(parts, 1), { raw = true }), back, 0, n):reshape { n, size, size, 1 }
    local colour = o.colour ~= false and (o.colour or cues.colour ~= nil)
    local ink = tensor { 1 }
    if colour then
      ink = tensor(palette):index_select(1, value.colour + 1):reshape { n, 1, 1, 3 }
    elseif cues.colour then
      error(what .. ": a cue of colour needs images in colour", 2)
    end
    local background = share(o.background or 0.1, "background")
    local image = background + mask * (ink - background)
    if cues.patch then image = with_patch(image, value.patch, classes, size) end
    if o.noise then
      image = (image + share(o.noise, "noise") * tensor.randn({ n, size, size, colour and 3 or 1 }, of("noise",
        8))):clamp(0, 1)
    end
    local columns, kept = { y = y }, {}
    for _, name in ipairs(cue_names) do
      if cues[name] then
        columns["cue " .. name] = value[name]
        kept[#kept + 1] = name
      end
    end
    return sets.new { x = (image * 255):round():cast "u8", columns = columns, cue_names = kept, classes = classes,
      class_names = table.move(names, 1, classes, 1, {}), image = true, divisor = 255, name = "shapes" }
  end

  define("data.shapes", "data.shapes { n = 1000, classes = 4, size = 28, cues = {position =, colour =, patch =}, "
    .. "colour =, background = 0.1, "
    .. "noise = 0, seed = 0, seeds = {…} } -> data set",
    "Images (bytes, [size, size, 1 or 3]) of disc, square, triangle, cross, ring and diamond: the class is the "
      .. "shape, equally often each.\n"
    .. "  cues: how strongly something else goes with the class, from 0 to 1: with this probability it is that of "
    .. "the class, otherwise "
    .. "of any class at random. position: where the shape is; colour: what colour it has; patch: how grey a corner is\n"
    .. "  colour: in colour (default: with a cue of colour), else grey\n"
    .. "  background: its grey value. noise: standard deviation of noise on pixels from 0 to 1\n"
    .. "  seeds: other seeds for single factors: shape, place, radius, position, colour, patch, noise. All else of "
    .. "every image stays\n"
    .. "d.cues.NAME is the value of each cue that is planted, a class number for each image. Data with a strength "
    .. "of 1 to train and 0 to test "
    .. "tell whether a network looks at the shape or at the cue.",
    "local d = data.shapes { n = 400, cues = { colour = 1 }, seed = 1 }\nprint(d, d.cues.colour:eq(d.y):all())\n"
    .. "-- > shapes: 400 images of 28 x 28 x 3 (u8), 4 classes of 100 each\ttrue", shapes)
end
