-- SPDX-License-Identifier: Apache-2.0
-- The functions of the module `recipe` for those who run recipes; the constructor itself is what this file
-- returns. Each works in a file of stdlib/lua/recipe, loaded when it is first needed.
local both = "  input: { NAME = PATH }, before the sources that the recipe states\n"
  .. "  set: { NAME = value } of parameters, as values or as the texts of a command line\n"

local untrusted = "\n  untrusted: the script runs in a process that has headers and nothing else, and its "
      .. "answers are checked as hostile ones; its "
  .. "check and score do not run. A function in the place of true is asked instead, as tarn.untrusted is"

local example = "local files = { a = \"examples/data/low.safetensors\", b = \"examples/data/high.safetensors\" }\n"
  .. "local path = os.tmpname()\nlocal f = io.open(path, \"w\")\n"
  .. "f:write [[return recipe { name = \"half\", inputs = { a = {}, b = {} }, params = { t = 0.5 },\n"
  .. "  build = function(m, p) return (1 - p.t) * m.a + p.t * m.b end,\n"
  .. "  score = function(out, m) return (out - m.a):norm() end }]]\nf:close()\n"

return function(define, checked, native)
  local expect = require "expect"(native.kind_of)
  local check = expect.checker(checked, { input = "a table", set = "a table", over = "a table" })
  define("recipe.load", "recipe.load(path, {input =, set =, bare = false, untrusted = false}) -> session",
    "Opens the file of a recipe; its script runs in a host of its own, without files, at `recipe` trust.\n" .. both
      .. "session.about is what the recipe says of itself, session.params the values in force, session.paths "
      .. "where the inputs lie; "
      .. "session:plans() lists what it makes, as {name, model, plan}; session:try() is the score of that, "
      .. "without saving. bare: only `about` is wanted, so inputs need not be there."
      .. untrusted,
    example .. "local r = recipe.load(path, { input = files })\nprint(r.about.name, r.params.t, "
      .. "r:plans()[1].model:mass())\n"
      .. "os.remove(path)\n-- > half\t0.5\t1.0",
    function(path, o)
      check("recipe.load", o, { "input", "set", "bare", "untrusted" }, false)
      expect.one("recipe.load", nil, path, "the path of a file")
      return require "recipe.session"(native, path, o or {})
    end)

  define("recipe.run", "recipe.run(path, {out =, input =, set =, overwrite = false, lock = true, digest = true, "
      .. "untrusted = false}) -> session",
    "Runs a recipe: a plan is made of it, compared with the lock beside the file, run and saved to out, and "
      .. "what was saved is "
      .. "given to the recipe's check. Several outputs go to folders in out.\n" .. both
      .. "  lock: false ignores the lock, a path names another one\n"
      .. "  digest: record the digests of the output, which `tarn verify` looks at, in a folder's "
      .. "tarn-provenance.json" .. untrusted,
    example .. "local out = path .. \".safetensors\"\nrecipe.run(path, { input = files, out = out "
      .. "})\nprint(model.open(out):numel())\n"
      .. "os.remove(path)\nos.remove(out)\n-- > 17226",
    function(path, o)
      check("recipe.run", o, { "out", "input", "set", "overwrite", "lock", "digest", "untrusted" }, false)
      expect.one("recipe.run", nil, path, "the path of a file")
      if type(o) ~= "table" or type(o.out) ~= "string" then error("recipe.run: out = the path to save to is "
      .. "missing", 2) end
      return require "recipe.run"(native, path, o)
    end)

  define("recipe.lock", "recipe.lock(path, {input =, set =, check = false, untrusted = false}) -> path of the lock, "
      .. "differences",
    "Writes what a recipe stands on into a file beside it: digests of the inputs, parameters, seeds, versions "
      .. "of methods.\n" .. both
      .. "  check: write nothing; the second result lists what differs from the lock that is there\n"
      .. "  untrusted: the script runs in a process that has headers and nothing else; files are hashed outside of it",
    example .. "local lock = recipe.lock(path, { input = files })\nprint(lock == path .. "
      .. "\".lock\")\nos.remove(path)\nos.remove(lock)\n-- > true",
    function(path, o)
      check("recipe.lock", o, { "input", "set", "check", "untrusted" }, false)
      expect.one("recipe.lock", nil, path, "the path of a file")
      local lock, session = require "recipe.lock", require "recipe.session"(native, path, o or {})
      return (o and o.check and lock.check or lock.write)(native, session)
    end)

  define("recipe.sweep", "recipe.sweep(path, {over = {NAME = {value, …}}, input =, set =, stage = false}) -> sweep",
    "The score of a recipe at every point of a grid of parameters; nothing is saved. A list of {params, score}, "
      .. "in the order of "
      .. "the grid, which prints as a table; sweep.best is the one with the largest score (of the first of "
      .. "several numbers).\n" .. both
      .. "  over: what is swept, by name: a list of values, or a text \"0.1:0.9:0.1\" (both ends belong to it) "
      .. "or \"0.1,0.4\"\n"
      .. "  stage: operations that every point has in common (a method over inputs alone, say) are done once, into "
      .. "temporary files in TMPDIR. sweep.shared names those operations, sweep.repeated what is the same at all "
      .. "points and yet done at each. Norms, dot products and thresholds of files are computed once in any case",
    example .. "local s = recipe.sweep(path, { input = files, over = { t = \"0:1:0.5\" } })\nprint(#s, "
      .. "s.best.params.t)\n"
      .. "os.remove(path)\n-- > 3\t1.0",
    function(path, o)
      check("recipe.sweep", o, { "input", "set", "over", "stage" }, false)
      expect.one("recipe.sweep", nil, path, "the path of a file")
      return require "recipe.sweep"(native, path, o or {})
    end)

  define("recipe.verify", "recipe.verify(path, {input = {NAME = PATH}}) -> {{what, result, detail}, …}",
    "Compares a saved model with the hashes that were recorded of it and of its inputs: result is \"same\", "
      .. "\"different\" or \"unknown\".",
    example .. "local out = path .. \".safetensors\"\nrecipe.run(path, { input = files, out = out })\n"
      .. "for _, row in ipairs(recipe.verify(out, { input = files })) do print(row.what, row.result) "
      .. "end\nos.remove(path)\nos.remove(out)\n"
      .. "-- > output\tunknown\n-- > input a\tsame\n-- > input b\tsame",
    function(path, o)
      check("recipe.verify", o, { "input" }, false)
      expect.one("recipe.verify", nil, path, "the path of a file")
      return require "recipe.verify"(native, path, o or {})
    end)

  define("recipe.lineage", "recipe.lineage(path) -> {label, path, digest, method, license, inputs = {…}}",
    "What a saved model was made of, and what its inputs were made of, as far as the files are there.",
    "print(#recipe.lineage(\"examples/data/base.safetensors\").inputs)\n-- > 0",
    function(path)
      expect.one("recipe.lineage", nil, path, "the path of a file")
      return require "recipe.lineage"(native, path)
    end)

  define("recipe.digests", "recipe.digests({clear = false, forget = model}) -> {{device, inode, size, changed, "
      .. "tensors, whole}, …}, folder, on",
    "What the digest store remembers: one row for each file whose contents were hashed, by its device and "
      .. "inode, with the size and time that "
      .. "it had then (changed, in seconds since 1970). clear: forget all of it; forget: what is known of the "
      .. "files of one model. "
      .. "TARN_DIGESTS=off in the environment switches the store off.",
    "print(type((recipe.digests())))\n-- > table",
    function(o)
      check("recipe.digests", o, { "clear", "forget" }, false)
      expect("recipe.digests", o, { forget = "a model" })
      if o and o.forget then native.forget(o.forget) end
      return native.digests(o and o.clear or false)
    end)

  return function(t) return require "recipe.make".recipe(t, native.version) end
end
