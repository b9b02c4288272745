-- SPDX-License-Identifier: Apache-2.0
-- Tokens as vectors: counts in a document, less for words that are in many (tf-idf), on few directions. A value that
-- is called with tokens and may be recorded, so a router of experts can stand inside a network.
return function(define, check, core)
  local what = "data.tfidf"
  local Features = { __name = "tfidf", __metatable = { __call = true } }
  local methods = {}

  local function fail(text, ...) error(what .. ": " .. text:format(...), 3) end

  local function tokens(x)
    if type(x) == "table" then x = x.x end
    if core.kind(x) ~= "tensor" or x.rank ~= 2 or x.dtype:find "f" then
      error(what .. ": expected tokens, an integer tensor [n, t], or a data set of such", 3)
    end
    return x
  end

  local function one_hot(x, vocabulary) -- [n, t, vocabulary]
    return x:unsqueeze(3):eq(tensor.arange(vocabulary)):to "f32"
  end

  -- Rows of length 1; those of nothing stay 0.
  local function scaled(self, counts)
    local y = counts * self.idf
    local length = (y * y):sum(-1, { keepdim = true }):sqrt():maximum(1e-12)
    return y / length
  end

  local function counts_of(x, vocabulary)
    local parts, rows = {}, math.max(1, (1 << 22) // (x.shape[2] * vocabulary))
    for first = 1, x.shape[1], rows do
      parts[#parts + 1] = one_hot(x[{ { first, math.min(x.shape[1], first + rows - 1) } }], vocabulary):sum(2)
    end
    return tensor.cat(parts, 1)
  end

  function Features.__call(self, x)
    return scaled(self, one_hot(tokens(x), self.vocabulary):sum(2)):matmul(self.basis)
  end

  -- The features of every beginning of the documents: [n, t, size].
  function methods.prefixes(self, x)
    if core.kind(self) ~= "tfidf" then
      error("tfidf:prefixes: expected features of data.tfidf, got " .. core.kind(self)
        .. " (write features:prefixes)", 2)
    end
    return scaled(self, one_hot(tokens(x), self.vocabulary):cumsum(2)):matmul(self.basis)
  end

  Features.__index = methods
  Features.__tostring = function(self)
    return ("tf-idf of %d tokens on %d directions"):format(self.vocabulary, self.basis.shape[2])
  end

  define(what, "data.tfidf(tokens, {vocabulary =, size = 100}) -> features",
    "What maps documents, integer tokens [n, t] from 0, to vectors [n, size]: the counts of each token times its "
    .. "inverse document frequency log((1 + n)/(1 + n_v)) + 1, divided by their length, on the first right singular "
    .. "vectors of the documents given here (at most `size`, and as many as there are). features(x) maps other "
    .. "documents alike, also in recorded functions; features:prefixes(x) gives [n, t, size], the vector of each "
    .. "beginning. vocabulary: how many tokens there are, where a data set does not tell. features.idf and "
    .. "features.basis are the numbers.",
    "local x = tensor({ {0, 0, 1}, {0, 1, 1}, {2, 3, 3} }, { dtype = \"i64\" })\n"
    .. "local h = data.tfidf(x, { vocabulary = 4 })\nlocal y = h(x)\n"
    .. "print(h, y[1]:dot(y[3]) < 1e-6, y[1]:dot(y[2]) > 0.5)\n-- > tf-idf of 4 tokens on 3 directions\ttrue\ttrue",
    function(d, o)
      check(what, o, { "vocabulary", "size" })
      o = o or {}
      local x = tokens(d)
      local vocabulary = o.vocabulary or type(d) == "table" and d.vocabulary or x:max() + 1
      local size = o.size or 100
      for name, v in pairs { vocabulary = vocabulary, size = size } do
        if type(v) ~= "number" or v < 1 or v % 1 ~= 0 then
          fail("%s is a whole number from 1, got %s", name, type(v) == "number" and v or core.kind(v))
        end
      end
      vocabulary = vocabulary // 1 | 0
      if x:min() < 0 or x:max() >= vocabulary then
        fail("tokens go from %d to %d; the vocabulary has 0 to %d", x:min() // 1 | 0, x:max() // 1 | 0, vocabulary - 1)
      end
      local counts = counts_of(x, vocabulary)
      local seen = counts:gt(0):to("f64"):sum(1)
      local self = setmetatable({ vocabulary = vocabulary,
        idf = (((1 + x.shape[1]) / (1 + seen)):log() + 1):to "f32" }, Features)
      size = math.min(size, x.shape[1], vocabulary)
      local _, _, vh = scaled(self, counts):svd { rank = size, route = "gram" }
      self.basis = vh:t():clone()
      return self
    end)

  define("tfidf:prefixes", "features:prefixes(x) -> tensor",
    "The features of every beginning of documents [n, t]: [n, t, size]; the last of them are features(x).",
    "local x = tensor({ {0, 0, 1}, {2, 3, 3} }, { dtype = \"i64\" })\nlocal h = data.tfidf(x)\n"
    .. "print(h:prefixes(x).shape, (h:prefixes(x)[{ {}, 3 }] - h(x)):abs():max() < 1e-6)\n-- > [2, 3, 2]\ttrue",
    methods.prefixes)
end
