-- SPDX-License-Identifier: Apache-2.0
-- Data sets as scripts see them: every source with its shapes, counts and geometry; subsets, splits, noise on
-- labels; batches that cover each example once an epoch and repeat from their seeds; messages.
local check = require "check"
local equal, near, raises = check.equal, check.near, check.raises

local function same(a, b) return a.x:equal(b.x) and (a.y == nil and b.y == nil or a.y:equal(b.y)) end
local function shape(t) return tostring(t.shape) end
local function count(mask) return math.tointeger(mask:cast("i64"):sum()) end

-- Positions of all batches, in order; and how often each came.
local function indices(d, o)
  local list = {}
  for _, b in d:batches(o) do
    for _, p in ipairs(b.index:totable()) do list[#list + 1] = p end
  end
  return list
end

-- ---- tensors ----
do
  local d = data.tensors { x = { { 1, 2 }, { 3, 4 }, { 5, 6 } }, y = { 0, 2, 2 }, name = "three" }
  equal(d.n, 3)
  equal(#d, 3)
  equal(d.classes, 3)
  equal(shape(d.x), "[3, 2]")
  equal(d.y.dtype, "i64")
  equal(d.name, "three")
  equal(tostring(d), "three: 3 vectors of 2 (f32), 3 classes\n  0: 1, 1: 0, 2: 2")
  equal(d:counts()[2], 2)
  local b = d:batch { 3, 1 }
  check.tensor(b.x, { { 5.0, 6.0 }, { 1.0, 2.0 } })
  check.tensor(b.y, { 2, 0 })
  check.tensor(b.index, { 3, 1 })
  equal(tostring(b), "batch of 2: x f32[2, 2], y i64[2]")
  check.tensor(d:batch(2, 3).x, { { 3.0, 4.0 }, { 5.0, 6.0 } })
  check.tensor(d:batch(2).x, { { 3.0, 4.0 } })
  equal(d:batch().n, 3)
  check.tensor(d:batch(d.y:eq(2)).x, { { 3.0, 4.0 }, { 5.0, 6.0 } })
  check.tensor(d:subset({ 3, 3 }).x, { { 5.0, 6.0 }, { 5.0, 6.0 } })
  check.tensor(d:subset({ 3, 2 }):subset({ 2 }).x, { { 3.0, 4.0 } })
  check.tensor(d:subset(tensor({ 2 }, { dtype = "i64" })).y, { 2 })
  check.tensor(d:take(2).y, { 0, 2 })
  equal(d:take(0).n, 0)
  check.tensor(d:map(function(x, y) return x * 2 end).x, { { 2.0, 4.0 }, { 6.0, 8.0 }, { 10.0, 12.0 } })
  equal(d:map(function(x) return x end):digest(), d:digest())
  check.tensor(d:normalised({ { 1, 2 }, 2 }):batch(1, 1).x, { { 0.0, 0.0 } })
  local unlabelled = data.tensors { x = tensor.zeros { 4, 2 } }
  equal(unlabelled.y, nil)
  equal(unlabelled:batch(1, 2).y, nil)
  equal(tostring(unlabelled), "tensors: 4 vectors of 2 (f32), no labels")
  raises("has no labels", unlabelled.counts, unlabelled)
  local source = tensor { { 1, 2 } }
  local kept = data.tensors { x = source }
  source:fill_(7)
  check.tensor(kept.x, { { 1.0, 2.0 } })
  local pixels = data.tensors { x = tensor({ 0, 51, 255, 102 }, { dtype = "u8" }):reshape { 1, 2, 2, 1 } }
  check.tensor(pixels:batch().x:flatten() * 5, { 0.0, 1.0, 5.0, 2.0 })
  equal(pixels.x.dtype, "u8")
  local tokens = data.tensors { x = tensor({ { 1, 2 } }, { dtype = "i64" }), y = tensor({ { 2, 3 } }, { dtype = "i64" }), vocabulary = 4 }
  equal(tokens:batch().x.dtype, "i64")
  equal(tokens.tokens, true)
  equal(data.tensors { x = tensor.zeros({ 2, 2 }, { dtype = "f64" }) }:batch().x.dtype, "f64")
  raises("3 examples, but 2 labels", data.tensors, { x = { { 1 }, { 2 }, { 3 } }, y = { 0, 1 } })
  do -- rows without a class
    local d = data.tensors { x = { { 1 }, { 2 }, { 3 }, { 4 }, { 5 }, { 6 } }, y = { 0, -100, 1, -100, 1, 0 } }
    assert(d.classes == 2 and d:counts()[0] == 2 and d:counts()[1] == 2)
    local a, b = d:split { 0.5, 0.5, seed = 1, stratified = true }
    assert(a.n == 3 and b.n == 3 and a:counts()[0] == 1 and b:counts()[1] == 1)
    assert(d:with_label_noise({ rate = 1, seed = 1 }).y:totable()[2] == -100)
    assert(d:classes_only({ 1 }).n == 2)
    assert(tostring(d):find "2 classes of 2 each")
  end
  raises("label -1; classes count from 0", data.tensors, { x = { { 1 } }, y = { -1 } })
  raises("label 3, but classes is 3", data.tensors, { x = { { 1 } }, y = { 3 }, classes = 3 })
  raises("unknown option 'lables'", data.tensors, { x = { { 1 } }, lables = { 3 } })
  raises("did you mean d:digest?", function() return d.digst end)
  raises("a data set is not changed (d.x = …)", function() d.x = 1 end)
  raises("expected a data set, got table (write d:batches)", d.batches, { size = 1 })
  raises("no example 4; there are 1 to 3", d.batch, d, { 4 })
  raises("no example 0; there are 1 to 3", d.subset, d, 0, 2)
  raises("3 to 2 holds no example", d.batch, d, 3, 2)
  raises("dataset:take: 4 of 3 examples", d.take, d, 4)
  raises("returned [2, 2]; expected a tensor of 3 examples", d.map, d, function(x) return x[{ { 1, 2 } }] end)
  raises("2 means and 1 deviations for 3 channels", function()
    return data.tensors { x = tensor.zeros { 1, 3 }, normalise = { { 1, 2 }, 1 } }
  end)
end

-- ---- batches ----
do
  local d = data.tensors { x = tensor.arange(10):reshape { 10, 1 }:to "f32", y = tensor.arange(10) }
  equal(indices(d, { size = 4 }), { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
  local sizes = {}
  for i, b in d:batches { size = 4, epochs = 2 } do
    sizes[i] = b.n
    equal(b.epoch, (i - 1) // 3 + 1)
    equal(b.step, (i - 1) % 3 + 1)
    assert((b.index - 1):equal(b.y) and b.x:reshape { b.n }:equal(b.y:to "f32"))
  end
  equal(sizes, { 4, 4, 2, 4, 4, 2 })
  equal(indices(d, { size = 4, drop_last = true }), { 1, 2, 3, 4, 5, 6, 7, 8 })
  equal(#indices(d, { size = 3, steps = 5 }), 3 + 3 + 3 + 1 + 3)
  equal(#indices(d, { size = 3, steps = 0 }), 0)
  local shuffled = indices(d, { size = 3, epochs = 2, seed = 4 })
  for e = 0, 1 do -- each epoch holds every example once
    local sorted = table.move(shuffled, 10 * e + 1, 10 * e + 10, 1, {})
    table.sort(sorted)
    equal(sorted, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
  end
  assert(table.concat(shuffled, " ", 1, 10) ~= table.concat(shuffled, " ", 11, 20))
  equal(indices(d, { size = 7, epochs = 2, seed = 4 }), shuffled) -- the order does not depend on the size
  assert(table.concat(indices(d, { seed = 5 }), " ") ~= table.concat(shuffled, " ", 1, 10))
  local rest = indices(d, { size = 3, epochs = 2, seed = 4, start = 3 }) -- resumed
  equal(rest, table.move(shuffled, 7, 20, 1, {}))
  local keys, others = {}, {}
  for i, b in d:batches { size = 5, epochs = 2, seed = 4, dropout_seed = 1 } do keys[i] = b.key end
  for i, b in d:batches { size = 5, epochs = 2, seed = 9, dropout_seed = 1 } do others[i] = b.key end
  equal(keys, others)
  assert(math.type(keys[1]) == "integer" and keys[1] ~= keys[2] and keys[1] ~= keys[3] and keys[1] >= 0)
  raises("unknown option 'sise'; did you mean 'size'?", d.batches, d, { sise = 3 })
  raises("size must be a whole number of at least 1, got 0", d.batches, d, { size = 0 })
  raises("epochs or steps, not both", d.batches, d, { epochs = 1, steps = 1 })
  raises("10 examples make no batch of 11", d.batches, d, { size = 11, drop_last = true })
  raises("has no examples", function() return d:take(0):batches() end)
  raises("shift, flip and cutout are for images", d.batches, d, { augment = { flip = true } })
  raises("unknown option 'flips'; did you mean 'flip'?", d.batches, d, { augment = { flips = true } })
  raises("augment.flip is true or a probability", d.batches, d, { augment = { flip = 2 } })
end

-- ---- augmentation ----
do
  local d = data.shapes { n = 50, seed = 3 }
  local function all(o)
    local parts = {}
    for _, b in d:batches(o) do parts[#parts + 1] = b.x end
    return tensor.cat(parts, 1)
  end
  local plain = d:batch().x
  assert(all { size = 20 }:equal(plain))
  assert(all { size = 20, augment = {} }:equal(plain))
  assert(not all { size = 20, augment = { shift = 2 }, augment_seed = 1 }:equal(plain))
  local a = all { size = 20, augment = { shift = 2, flip = true, noise = 0.1, cutout = 6 }, augment_seed = 1 }
  assert(all { size = 7, augment = { shift = 2, flip = true, noise = 0.1, cutout = 6 }, augment_seed = 1 }:equal(a))
  assert(not all { size = 20, augment = { shift = 2, flip = true, noise = 0.1, cutout = 6 }, augment_seed = 2 }:equal(a))
  -- always mirrored: columns in reverse
  local mirrored = all { augment = { flip = 1 } }
  assert(mirrored[{ {}, {}, 1 }]:equal(plain[{ {}, {}, 28 }]) and mirrored[{ {}, {}, 9 }]:equal(plain[{ {}, {}, 20 }]))
  local noisy = all { augment = { noise = 0.5 }, augment_seed = 1 } - plain
  near(noisy:mean(), 0, 0.02)
  near(noisy:std(), 0.5, 0.01)
  local cut = all { augment = { cutout = 8 }, augment_seed = 1 }
  local lost = count(cut:eq(0))
  assert(lost <= 50 * 64 and lost >= 50 * 16, lost) -- a square may hang over the border
  -- an example varies the same way in a subset, in any order
  local half = d:subset { 40, 2, 17 }
  for _, b in half:batches { augment = { shift = 2, flip = true, noise = 0.1, cutout = 6 }, augment_seed = 1 } do
    assert(b.x[1]:equal(a[40]) and b.x[3]:equal(a[17]))
  end
  -- only the order changes with its seed
  local function by_example(seed)
    local out = {}
    for _, b in d:batches { size = 20, seed = seed, augment = { shift = 2 }, augment_seed = 7 } do
      for k, p in ipairs(b.index:totable()) do out[p] = b.x[k] end
    end
    return out
  end
  local one, two = by_example(1), by_example(2)
  for p = 1, 50 do assert(one[p]:equal(two[p])) end
end

-- ---- splits, classes, noise ----
do
  local d = data.gaussians { n = 90, classes = 3, seed = 2 }
  local function positions(part, of) -- rows of the parts, told apart by their first number
    local at = {}
    for k, row in ipairs(of.x:totable()) do at[row[1]] = k end
    local out = {}
    for k, row in ipairs(part.x:totable()) do out[k] = at[row[1]] end
    return out
  end
  for _, o in ipairs { { 0.5, 0.3, 0.2 }, { 0.5, 0.3, 0.2, seed = 3 }, { 45, 27, 18, seed = 3 }, { 0.5, 0.3, 0.2, seed = 3, stratified = true } } do
    local a, b, c = d:split(o)
    equal(a.n, 45)
    equal(b.n, 27)
    equal(c.n, 18)
    local seen = {}
    for _, part in ipairs { a, b, c } do
      for _, p in ipairs(positions(part, d)) do
        assert(not seen[p], "an example is in two parts")
        seen[p] = true
      end
    end
    equal(#seen, 90)
    if o.stratified then equal(table.pack(b:counts()[0], b:counts()[1], b:counts()[2]), { 9, 9, 9 }) end
  end
  equal(positions((d:split { 0.1, 0.9 }), d), { 1, 2, 3, 4, 5, 6, 7, 8, 9 })
  assert((d:split { 0.5, seed = 1 }):digest() == (d:split { 0.5, seed = 1 }):digest())
  assert((d:split { 0.5, seed = 1 }):digest() ~= (d:split { 0.5, seed = 2 }):digest())
  raises("the parts have 99 examples, the data set 90", d.split, d, { 0.5, 0.6 })
  raises("part 1 is -1", d.split, d, { -1 })
  raises("strata are cut by shares", d.split, d, { 40, 50, stratified = true })

  local two = d:classes_only { 2, 0 }
  equal(two.n, 60)
  equal(two.classes, 3)
  equal(two:counts()[1], 0)
  local renamed = d:classes_only { 2, 0, relabel = true }
  equal(renamed.classes, 2)
  assert(renamed.y:eq(0):equal(two.y:eq(2)) and renamed.x:equal(two.x))
  local a, b = d:split_classes { { 0 }, { 1, 2 } }
  equal(a.n + b.n, 90)
  raises("class 3 is not one of 0 to 2", d.classes_only, d, { 3 })
  raises("class 1 is listed twice", d.classes_only, d, { 1, 1 })
  raises("expected a list of classes", d.classes_only, d, {})

  local noisy = d:with_label_noise { rate = 0.3, seed = 1 }
  equal(count(noisy.y:ne(d.y)), 27)
  assert(noisy.y_true:equal(d.y) and noisy.x:equal(d.x))
  assert(noisy:digest() == d:with_label_noise({ rate = 0.3, seed = 1 }):digest())
  assert(noisy:digest() ~= d:with_label_noise({ rate = 0.3, seed = 2 }):digest())
  local next_class = d:with_label_noise { rate = 1, kind = "next" }
  assert(next_class.y:equal((d.y + 1):remainder(3)))
  local any = d:with_label_noise { rate = 1, kind = "any", seed = 5 }
  local right = count(any.y:eq(d.y))
  assert(right > 10 and right < 50, right)
  equal(a:with_label_noise({ rate = 1, kind = "next" }):counts()[1], 30) -- in a subset; d stays
  equal(d:counts()[0], 30)
  check.tensor(d:classes_only({ 1 }):with_label_noise({ rate = 0 }).y, d:classes_only({ 1 }).y:totable())
  raises("rate must be a share from 0 to 1, got 2", d.with_label_noise, d, { rate = 2 })
  raises("kind is 'pair'", d.with_label_noise, d, { rate = 0, kind = "pair" })
end

-- ---- made ----
do
  local d = data.two_moons { n = 101, noise = 0, seed = 1 }
  equal(d:counts()[0], 51)
  for k, y in ipairs(d.y:totable()) do -- on circles of radius 1
    local x1, x2 = d.x[k][1], d.x[k][2]
    local r = y == 0 and math.sqrt(x1 ^ 2 + x2 ^ 2) or math.sqrt((x1 - 1) ^ 2 + (x2 - 0.5) ^ 2)
    near(r, 1, 1e-6)
    assert(y == 0 and x2 > -1e-6 or y == 1 and x2 < 0.5 + 1e-6)
  end
  near((data.two_moons { n = 4000, noise = 0.3, seed = 1 }.x - data.two_moons { n = 4000, noise = 0, seed = 1 }.x):std(), 0.3, 0.01)
  assert(same(data.two_moons { seed = 3 }, data.two_moons { seed = 3 }))
  assert(not data.two_moons { seed = 3 }.x:equal(data.two_moons { seed = 4 }.x))
  raises("unknown option 'nois'; did you mean 'noise'?", data.two_moons, { nois = 1 })
  raises("data.two_moons: n must be a whole number of at least 1, got 0", data.two_moons, { n = 0 })

  local s = data.spirals { n = 300, classes = 3, turns = 1, noise = 0 }
  for k, y in ipairs(s.y:totable()) do
    local x1, x2 = s.x[k][1], s.x[k][2]
    local r = math.sqrt(x1 ^ 2 + x2 ^ 2)
    local angle = 2 * math.pi * r + 2 * math.pi * y / 3
    near(x1, r * math.cos(angle), 1e-5)
    near(x2, r * math.sin(angle), 1e-5)
  end

  local g = data.gaussians { n = 20000, means = { { 1, 2 }, { -3, 0 } }, cov = { { 2, 0.6 }, { 0.6, 1 } }, seed = 5 }
  for c, mean in ipairs { { 1, 2 }, { -3, 0 } } do
    local x = g:classes_only({ c - 1 }).x
    local m = x:mean(1)
    near(m[1], mean[1], 0.06)
    near(m[2], mean[2], 0.04)
    local z = x - m
    local cov = z:t():matmul(z) / #x
    near(cov[1][1], 2, 0.1)
    near(cov[1][2], 0.6, 0.06)
    near(cov[2][2], 1, 0.05)
  end
  local sharp = data.gaussians { n = 100, means = { { 0, 0 }, { 5, 5 } }, cov = { 4, 0 } }
  equal(sharp.x[{ {}, 2 }]:remainder(5):abs():max(), 0.0) -- no variance along the second axis
  local each = data.gaussians { n = 2000, means = { { 0 }, { 0 } }, cov = { { { 1 } }, { { 100 } } }, seed = 1 }
  near(each:classes_only({ 0 }).x:std(), 1, 0.1)
  near(each:classes_only({ 1 }).x:std(), 10, 1)
  equal(shape(data.gaussians({ classes = 5, dim = 7 }).x), "[500, 7]")
  raises("a covariance is [2, 2]; got [2, 1]", data.gaussians, { means = { { 0, 0 } }, cov = { { 1 }, { 1 } } })
  raises("classes, dim and spread follow from means", data.gaussians, { means = { { 0 } }, dim = 2 })

  local m = data.modular_addition(11, 0.3, { seed = 2 })
  equal(m.train.n + m.test.n, 121)
  equal(m.train.n, 36)
  local table_of = {}
  for _, part in ipairs { m.train, m.test } do
    local y = part.y:totable()
    for k, row in ipairs(part.x:totable()) do
      equal(y[k], (row[1] + row[2]) % 11)
      equal(row[3], 11)
      local key = row[1] * 11 + row[2]
      assert(not table_of[key])
      table_of[key] = true
    end
  end
  equal(m.train.vocabulary, 12)
  equal(m.train:batch(1, 2).x.dtype, "i64")
  equal(shape(data.modular_addition(5, 1, { equals = false }).train.x), "[25, 2]")
  raises("p must be a whole number of at least 2", data.modular_addition, 1, 0.5)
  raises("the fraction to train on is 0", data.modular_addition, 5, 0)
end

-- ---- shapes ----
do
  local o = { n = 600, classes = 4, cues = { colour = 0.6, patch = 1, position = 0 }, seed = 3 }
  local d = data.shapes(o)
  equal(shape(d.x), "[600, 28, 28, 3]")
  equal(d:counts()[3], 150)
  equal(d.class_names[1], "disc")
  assert(d.cues.patch:equal(d.y))
  local right = count(d.cues.colour:eq(d.y)) / 600 -- 0.6 + 0.4 / 4
  near(right, 0.7, 0.05)
  near(count(d.cues.position:eq(d.y)) / 600, 0.25, 0.05)
  assert(same(d, data.shapes(o)))
  -- the patch is where it is said to be, and its grey value tells the class
  for k = 1, 20 do equal(d.x[{ k, 1, 1, 1 }], math.floor((d.y[k] + 1) / 4 * 255 + 0.5)) end
  -- changing one factor leaves the others
  local grey = data.shapes { n = 100, classes = 4, seed = 3, cues = { patch = 0 } }
  local planted = data.shapes { n = 100, classes = 4, seed = 3, cues = { patch = 1 } }
  assert(grey.y:equal(planted.y))
  assert(grey.x[{ {}, { 5, 28 } }]:equal(planted.x[{ {}, { 5, 28 } }]) and not grey.x:equal(planted.x))
  local moved = data.shapes { n = 100, classes = 4, seed = 3, cues = { patch = 1 }, seeds = { place = 99 } }
  assert(moved.y:equal(planted.y) and not moved.x:equal(planted.x))
  assert(moved.x[{ {}, { 1, 4 }, { 1, 4 } }]:equal(planted.x[{ {}, { 1, 4 }, { 1, 4 } }]))
  -- ink: a disc covers about pi r^2 of the image, with r between 0.16 and 0.22 of its side
  local discs = data.shapes { n = 300, classes = 2, background = 0, seed = 1 }:classes_only { 0 }
  local area = discs:batch().x:sum() / discs.n / 784
  near(area, math.pi * 0.19 ^ 2, 0.01)
  -- the cue of place: far from the middle of other classes
  local placed = data.shapes { n = 200, classes = 4, background = 0, cues = { position = 1 }, seed = 1 }:classes_only({ 0 }):batch().x
  local column = tensor.arange(28):to("f32"):reshape { 1, 1, 28, 1 }
  local centre = (placed * column):sum() / placed:sum()
  near(centre, 14 + 0.22 * 28, 1.5)
  equal(shape(data.shapes({ n = 6, size = 16, classes = 6 }).x), "[6, 16, 16, 1]")
  equal(shape(d:subset(1, 5).cues.colour), "[5]")
  raises("unknown option 'color'; did you mean 'colour'?", data.shapes, { cues = { color = 1 } })
  raises("cues.patch must be a number from 0 to 1, got 2", data.shapes, { cues = { patch = 2 } })
end

-- ---- files ----
local folder = os.tmpname()
os.remove(folder)
assert(os.execute("mkdir " .. folder))
local function write(name, text)
  local path = folder .. "/" .. name
  local f <close> = assert(io.open(path, "wb"))
  f:write(text)
  return path
end

do
  local d = data.idx("tests/golden/idx/images.gz", "tests/golden/idx/labels", { name = "small" })
  equal(tostring(d), "small: 6 images of 4 x 5 x 1 (u8), 3 classes of 2 each")
  equal(d.x[{ 1, 1, 2, 1 }], 10)
  near(d:batch(1, 1).x[{ 1, 1, 2, 1 }], 10 / 255, 1e-8)
  near(d:normalised({ 0.5, 0.25 }):batch(1, 1).x[{ 1, 1, 2, 1 }], (10 / 255 - 0.5) / 0.25, 1e-6)
  equal(data.idx("tests/golden/idx/f64").x[1], 1.5)
  raises("images.gz holds 6 images", data.idx, "tests/golden/idx/images.gz", write("two", "\0\0\8\1\0\0\0\2\0\1"))
  raises("/none: there is no such file", data.idx, folder .. "/none")
  raises("cut: the IDX file announces 200 elements of 1 bytes, but 1 B of data follow", data.idx, write("cut", "\0\0\8\1\0\0\0\200\0"))
  raises("holds 3 dimensions; labels have one", data.idx, "tests/golden/idx/labels", "tests/golden/idx/images.gz")

  local digits = data.digits()
  equal(digits.train.n, 1077)
  equal(digits.test.n, 720)
  equal(shape(digits.train:batch(1, 3).x), "[3, 8, 8, 1]")
  near(digits.train.x:max(), 1, 0)
  raises("data.digits: ", data.digits, { path = folder .. "/none.safetensors" })
  model.new({ { "x", tensor { 1 } } }):save(folder .. "/other.safetensors")
  raises("other.safetensors holds no train.images", data.digits, { path = folder .. "/other.safetensors" })

  local path = write("trees.csv", "width,height,kind\n1.5,2,oak\n3,4,\"elm\"\n5,6,oak\n")
  local c = data.csv(path, { label = "kind" })
  check.tensor(c.x, { { 1.5, 2.0 }, { 3.0, 4.0 }, { 5.0, 6.0 } })
  check.tensor(c.y, { 1, 0, 1 })
  equal(c.class_names, { "elm", "oak" })
  equal(c.columns, { "width", "height" })
  equal(tostring(c), path .. ": 3 vectors of 2 (f32), 2 classes\n  elm 1, oak 2")
  equal(data.csv(path, { label = -1 }):digest(), c:digest())
  equal(data.csv(write("n.csv", "1;2;0\n3;4;1\n"), { label = 3, separator = ";" }).classes, 2)
  equal(data.csv(write("u.csv", "1,2\n3,4\n")).y, nil)
  raises("bad.csv:2:3: 'x' is no number (column 'b')", data.csv, write("bad.csv", "a,b\n1,x\n"))
  raises("no column is called 'knid'; did you mean 'kind'?", data.csv, path, { label = "knid" })
  raises("unknown option 'lable'; did you mean 'label'?", data.csv, path, { lable = 1 })

  local text = "hello world, this is a text"
  local b = data.bytes { text = text, length = 5 }
  equal(b.n, 5)
  for k = 1, b.n do
    local x, y = b:batch(k).x:totable()[1], b:batch(k).y:totable()[1]
    equal(string.char(table.unpack(x)), text:sub(5 * k - 4, 5 * k))
    equal(string.char(table.unpack(y)), text:sub(5 * k - 3, 5 * k + 1))
  end
  equal(data.bytes({ text = text, length = 5, stride = 1 }).n, #text - 5)
  equal(b:batch().x.dtype, "i64")
  equal(b.vocabulary, 256)
  equal(b:digest(), data.bytes({ path = write("t.txt", text), length = 5 }):digest())
  assert(b:subset(2, 3).x:equal(b:batch(2, 3).x:cast "u8"))
  equal(data.bytes({ path = "examples/data/text/prose.bin", length = 128 }).n, 127)
  raises("3 bytes hold no window of 3", data.bytes, { text = "abc", length = 3 })
  raises("give path or text", data.bytes, {})
end

-- ---- Fashion-MNIST ----
do
  raises("is not there; path is the folder of the four files", data.fashion_mnist, { path = folder })
  local flat = "\0\0\8\1" .. string.pack(">I4", 3) .. "\0\1\2" -- labels where the images should be
  for _, kind in ipairs { "images-idx3", "labels-idx1" } do write("train-" .. kind .. "-ubyte", flat) end
  raises("train-images-idx3-ubyte holds no images, [n, height, width]", data.fashion_mnist, { path = folder })
  for _, kind in ipairs { "images-idx3", "labels-idx1" } do os.remove(folder .. "/train-" .. kind .. "-ubyte") end
  local installed = io.open "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
  if not installed then
    raises("apt install dataset-fashion-mnist", data.fashion_mnist)
    print "Fashion-MNIST is not installed: not tested (apt install dataset-fashion-mnist)"
  else
    local d = data.fashion_mnist()
    equal(tostring(d.train), "fashion-mnist train: 60000 images of 28 x 28 x 1 (u8), 10 classes of 6000 each")
    equal(tostring(d.test), "fashion-mnist test: 10000 images of 28 x 28 x 1 (u8), 10 classes of 1000 each")
    check.tensor(d.train.y[{ { 1, 5 } }], { 9, 0, 0, 3, 0 })
    check.tensor(d.test.y[{ { 1, 5 } }], { 9, 2, 1, 1, 6 })
    equal(d.train.class_names[10], "Ankle boot")
    equal(math.tointeger(d.train.x[1]:sum()), 76247)
    equal(math.tointeger(d.train.x:sum()), 3431114169)
    equal(math.tointeger(d.test.x:sum()), 573469082)
    local b = d.train:batch(1, 1).x * 255
    equal(math.tointeger(b:round():sum()), 76247)
    local sum, n = 0, 0
    for _, batch in d.train:batches { size = 1000, seed = 1 } do
      sum, n = sum + batch.y:sum(), n + batch.n
    end
    equal(n, 60000)
    equal(math.tointeger(sum), 270000)
  end
end
os.execute("rm -r " .. folder)
