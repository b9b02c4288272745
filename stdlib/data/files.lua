-- SPDX-License-Identifier: Apache-2.0
-- Data sets from files and from tensors.

local clothes = { "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
  "Ankle boot" }

return function(define, check, core, sets)
  local function text(v, what, name)
    if type(v) ~= "string" then error(string.format("%s: %s must be a text, got %s", what, name, core.kind(v)), 4) end
    return v
  end

  -- What names a data set and its classes, where it is given.
  local function names_of(o, what)
    if o.name ~= nil then text(o.name, what, "name") end
    if o.class_names == nil then return end
    if core.kind(o.class_names) ~= "table" then
      error(string.format("%s: class_names is a list of texts, got %s", what, core.kind(o.class_names)), 4)
    end
    for k, v in ipairs(o.class_names) do text(v, what, string.format("class_names[%d]", k)) end
  end

  -- The number of classes; -100 is none, as losses have it.
  local function classes_of(y, classes, what)
    local most = #y > 0 and math.max(math.tointeger(y:max()), -1) or -1
    if #y > 0 and y:min() < 0 then
      local wrong = y:masked_select(y:lt(0):logical_and(y:ne(-100)))
      if #wrong > 0 then
        error(string.format("%s: label %d; classes count from 0", what, math.tointeger(wrong[1])), 4)
      end
    end
    if classes and (math.type(classes) ~= "integer" or classes <= most) then
      error(string.format("%s: label %d, but classes is %s", what, most, sets.shown(classes)), 4)
    end
    return classes or most + 1
  end

  -- ---- tensors ----

  local integers = { i8 = true, u8 = true, i16 = true, u16 = true, i32 = true, u32 = true, i64 = true, u64 = true }

  local function tensors(o)
    local what = "data.tensors"
    check(what, o, { "x", "y", "classes", "class_names", "name", "tokens", "vocabulary", "normalise" })
    o = o or {}
    names_of(o, what)
    for _, name in ipairs { "classes", "vocabulary" } do
      if o[name] ~= nil then sets.whole(o[name], what, name, 1) end
    end
    local function stored(v, name)
      if core.kind(v) == "table" then v = tensor(v, name == "y" and { dtype = "i64" } or nil) end
      if core.kind(v) ~= "tensor" then
        error(string.format("%s: %s must be a tensor or nested tables, got %s", what, name, core.kind(v)), 3)
      end
      return v:load():clone() -- in memory, contiguous, and nobody else's
    end
    local x, y = stored(o.x, "x"), o.y ~= nil and stored(o.y, "y") or nil
    if x.rank == 0 then error(what .. ": x has a first dimension, over its examples", 2) end
    local classes, many
    if y then
      if #y ~= #x then error(string.format("%s: %d examples, but %d labels", what, #x, #y), 2) end
      many = y.rank > 1
      if not integers[y.dtype] then
        error(string.format("%s: labels are integers (classes from 0), not %s", what, y.dtype), 2)
      end
      if not many then
        y = y:to "i64"
        classes = classes_of(y, o.classes, what)
      else
        classes = o.classes or o.vocabulary
      end
    end
    if o.class_names and #o.class_names ~= classes then
      error(string.format("%s: %d class_names for %s classes", what, #o.class_names, tostring(classes)), 2)
    end
    local shape, tokens = x.shape, o.tokens
    local pixels = x.dtype == "u8" and x.rank == 4
    if tokens == nil then tokens = integers[x.dtype] and not pixels or false end
    return sets.new { x = x, columns = { y = y }, classes = classes, class_names = o.class_names,
      name = o.name or "tensors", image = x.rank == 4, tokens = tokens,
      vocabulary = o.vocabulary, divisor = pixels and not tokens and 255 or nil,
      normalise = sets.normalise(o.normalise, #shape > 1 and shape[#shape] or 1, what) }
  end

  -- ---- IDX ----

  local function idx_set(images, labels, o, what)
    local x, y = core.idx(images), labels and core.idx(labels) or nil
    if y and y.rank ~= 1 then
      error(string.format("%s: %s holds %d dimensions; labels have one", what, labels, y.rank), 3)
    end
    if y and #y ~= #x then
      error(string.format("%s: %s holds %d images, %s holds %d labels", what, images, #x, labels, #y), 3)
    end
    if x.rank == 3 then
      local s = x.shape
      x = x:reshape { s[1], s[2], s[3], 1 }
    end
    y = y and y:to "i64"
    local classes = y and classes_of(y, o.classes, what) or nil
    local shape = x.shape
    return sets.new { x = x, columns = { y = y }, classes = classes, class_names = o.class_names,
      image = x.rank == 4, tokens = integers[x.dtype] and x.dtype ~= "u8" or false, name = o.name or images,
      divisor = x.dtype == "u8" and 255 or nil, normalise = sets.normalise(o.normalise, shape[#shape], what) }
  end

  local function idx(images, labels, o)
    local what = "data.idx"
    if type(labels) == "table" then labels, o = nil, labels end
    o = o or {}
    check(what, o, { "name", "classes", "class_names", "normalise" })
    names_of(o, what)
    text(images, what, "the file of images")
    if labels ~= nil then text(labels, what, "the file of labels") end
    return idx_set(images, labels, o, what)
  end

  local function fashion_mnist(o)
    local what = "data.fashion_mnist"
    o = o or {}
    check(what, o, { "path", "normalise" })
    local folder = o.path and text(o.path, what, "path"):gsub("/+$", "") or "/usr/share/datasets/fashion-mnist"
    local function part(file, name)
      local function find(kind)
        for _, ending in ipairs { ".gz", "" } do
          local path = string.format("%s/%s-%s-ubyte%s", folder, file, kind, ending)
          if core.there(path) then return path end
        end
        error(string.format("%s: %s/%s-%s-ubyte.gz is not there; %s", what, folder, file, kind, o.path
          and "path is the folder of the four files of Fashion-MNIST"
          or "apt install dataset-fashion-mnist, or give path = a folder with the four files"), 4)
      end
      local images, labels = find "images-idx3", find "labels-idx1"
      local d = idx_set(images, labels, { name = "fashion-mnist " .. name, classes = 10, class_names = clothes,
        normalise = o.normalise }, what)
      if not d.image then error(("%s: %s holds no images, [n, height, width]"):format(what, images), 4) end
      return d
    end
    return { train = part("train", "train"), test = part("t10k", "test") }
  end

  -- ---- the digits of the examples ----

  local function digits(o)
    local what = "data.digits"
    o = o or {}
    check(what, o, { "path" })
    local path = o.path and text(o.path, what, "path") or "examples/data/digits.safetensors"
    if not o.path and not core.there(path) then path = "/usr/share/doc/tarn/examples/data/digits.safetensors" end
    local ok, m = pcall(model.load, path)
    if not ok then
      error(string.format("%s: %s\npath = the file digits.safetensors of tarn's examples/data", what, tostring(m)), 2)
    end
    local held = {}
    for _, name in ipairs(m:names()) do held[name] = true end
    for _, name in ipairs { "train.images", "train.labels", "test.images", "test.labels" } do
      if not held[name] then
        error(("%s: %s holds no %s\npath = the file digits.safetensors of tarn's examples/data"):format(what, path,
          name), 2)
      end
    end
    local function part(name)
      local x = m[name .. ".images"]
      return sets.new { x = x:reshape { #x, 8, 8, 1 }, columns = { y = m[name .. ".labels"]:to "i64" }, classes = 10,
        image = true, name = "digits " .. name }
    end
    return { train = part "train", test = part "test" }
  end

  -- ---- CSV ----

  local function csv(path, o)
    local what = "data.csv"
    o = o or {}
    check(what, o, { "label", "header", "separator", "name", "classes", "normalise" })
    text(path, what, "the path")
    names_of(o, what)
    local separator = o.separator or ","
    if type(separator) ~= "string" or #separator ~= 1 or separator:find '["\r\n]' then
      error(what .. ": separator is one character, such as ';'", 2)
    end
    local label = o.label
    if label ~= nil and type(label) ~= "string" and math.type(label) ~= "integer" then
      error(what .. ": label is the name of a column, or its number (from 1, or from the end: -1)", 2)
    end
    if label == 0 then error(what .. ": columns count from 1", 2) end
    local x, y, classes, columns, class_names = core.csv(path, separator, o.header, label)
    if y and not class_names then classes = classes_of(y, o.classes, what) end
    return sets.new { x = x:to "f32", columns = { y = y }, classes = y and classes or nil, class_names = class_names,
      column_names = columns, name = o.name or path, normalise = sets.normalise(o.normalise, x.shape[2], what) }
  end

  -- ---- text, byte by byte ----

  local function bytes(o)
    local what = "data.bytes"
    if type(o) == "string" then o = { path = o } end
    check(what, o, { "path", "text", "length", "stride", "name" })
    o = o or {}
    names_of(o, what)
    if (o.path == nil) == (o.text == nil) then error(what .. ": give path or text", 2) end
    local length = o.length or 128
    for _, v in ipairs { length, o.stride or length } do
      if math.type(v) ~= "integer" or v < 1 then
        error(what .. ": length and stride are whole numbers of at least 1", 2)
      end
    end
    local t = o.path and core.read(text(o.path, what, "path")) or core.bytes(text(o.text, what, "text"))
    if #t < length + 1 then
      error(string.format("%s: %d bytes hold no window of %d and the byte after it", what, #t, length), 2)
    end
    local x, y = core.windows(t, length, o.stride or length)
    return sets.new { x = x, columns = { y = y }, classes = 256, tokens = true, vocabulary = 256,
      name = o.name or o.path or "text" }
  end

  define("data.fashion_mnist", "data.fashion_mnist { path =, normalise = {mean, std} } -> {train =, test =}",
    "Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 60000 and 10000 grey images of clothes, 28 x 28 bytes, in 10 "
      .. "classes. The files of "
    .. "Debian's package dataset-fashion-mnist are read, or those in the folder `path`: train-images-idx3-ubyte.gz "
    .. "and so on, "
    .. "with or without .gz. MNIST itself, in a folder of its own, is read the same way (with these class names).",
    "if io.open \"/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz\" then\n"
    .. "  local d = data.fashion_mnist()\n  assert(d.train.n == 60000 and d.test.class_names[1] == "
    .. "\"T-shirt/top\")\nend", fashion_mnist)
  define("data.idx", "data.idx(images, labels, {name =, classes =, class_names =, normalise = {mean, std}}) -> "
    .. "data set",
    "Files in the format of MNIST, plain or gzip: images [n, height, width] of bytes become [n, height, width, 1] "
      .. "and x/255 in batches; "
    .. "other shapes and types stay. labels may be left out. Damaged files are refused before their memory is taken.",
    "print(data.idx(\"tests/golden/idx/images.gz\", \"tests/golden/idx/labels\"))\n"
    .. "-- > tests/golden/idx/images.gz: 6 images of 4 x 5 x 1 (u8), 3 classes of 2 each", idx)
  define("data.digits", "data.digits { path = \"examples/data/digits.safetensors\" } -> {train =, test =}",
    "1077 and 720 images of handwritten digits, 8 x 8 numbers from 0 to 1: the UCI set Optical Recognition of "
      .. "Handwritten Digits (Alpaydin "
    .. "and Kaynak, 1998), on which the models of examples/data were trained.",
    "print(data.digits().test.x.shape)\n-- > [720, 8, 8, 1]", digits)
  define("data.csv", "data.csv(path, {label =, header =, separator = \",\", name =, classes =, normalise = {mean, "
    .. "std}}) -> data set",
    "A table of numbers, one example a line. Fields may be in quotes; the first line is a header where none of its "
      .. "fields is a number, "
    .. "unless header is true or false. Errors name line and column of the file.\n"
    .. "  label: the column of labels, by name or number (-1 is the last); whole numbers from 0 are classes, other "
    .. "texts get a class each in "
    .. "alphabetical order, d.class_names\n"
    .. "d.columns are the names of the others.",
    "local path = os.tmpname()\nlocal f <close> = io.open(path, \"w\")\nf:write "
      .. "\"width,kind\\n1.5,oak\\n2,elm\\n\" f:flush()\n"
    .. "local d = data.csv(path, { label = \"kind\", name = \"trees\" })\nprint(d, d.y[1])\nos.remove(path)\n"
    .. "-- > trees: 2 vectors of 1 (f32), 2 classes of 1 each\t1", csv)
  define("data.bytes", "data.bytes { path = or text =, length = 128, stride = length, name = } -> data set",
    "A text as tokens from 0 to 255: windows of `length` bytes, `stride` apart, labelled with the byte that "
      .. "follows each of theirs. "
    .. "What is left at the end is not used. The windows share one copy of the text.",
    "local d = data.bytes { text = \"abcdef\", length = 2 }\nprint(d.n, d.x, d.y[1][2])\n"
    .. "-- > 2\tu8[2, 2]\n-- > [[ 97,  98],\n-- >  [ 99, 100]]\t99", bytes)
  define("data.tensors", "data.tensors { x =, y =, classes =, class_names =, name =, tokens =, vocabulary =, "
    .. "normalise = {mean, std} } -> data set",
    "A data set of tensors or nested tables (copied): x has one example a row of its first dimension; y, integers "
      .. "from 0 (-100: none, which losses leave out), may be left out, and "
    .. "has one label an example, or more dimensions. u8 with four dimensions is pixels, x/255 in batches; other "
    .. "integers are tokens and stay "
    .. "integers, unless tokens says otherwise.",
    "print(data.tensors { x = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }, y = { 0, 1, 1, 0 }, name = \"xor\" })\n"
    .. "-- > xor: 4 vectors of 2 (f32), 2 classes of 2 each", tensors)
end
