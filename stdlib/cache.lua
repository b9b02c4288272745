-- SPDX-License-Identifier: Apache-2.0
-- `cache`, a global of its own. What it does is in stdlib/eval/cache.lua, read when it is first called.
return function(define, check, core)
  define("cache", "cache(f, path) -> function",
    "f, remembering what it gave: a second call with a model of the same contents is answered without computing. f "
    .. "takes one model (or a tensor) and gives a number or a table of plain values. What counts is the plan and the "
    .. "digests of the files where a model is in files, so that a merge of the same inputs by the same method is "
    .. "known before anything is read; else the contents of its tensors. With a path, a file of JSON lines, answers "
    .. "are kept for later runs too; there they belong to what f evaluates (its network and data), which the "
    .. "functions of eval know of themselves (f.key); another function needs {path =, key = \"a text that changes "
    .. "when f does\"}.",
    "local calls = 0\nlocal norm = cache(function(m) calls = calls + 1 return m:norm() end)\n"
    .. "print(norm(merge.linear { a, b }) == norm(merge.linear { a, b }), calls)\n-- > true\t1",
    function(f, options)
      return require "eval.cache"(f, options, check, core)
    end)
end
