-- SPDX-License-Identifier: Apache-2.0
-- What scripts do with an alignment (align.map), whatever made it: the documentation of its methods, and the two that
-- come from no matching.
return function(define, check, core)
  local layout_of = require "align.layout".of
  local map = require "align.map"(core)
  local methods = map.methods
  local save = methods.save
  function methods.save(p, path, o)
    check("alignment:save", o, { "overwrite" })
    return save(p, path, o)
  end
  local made = "local net = nn.mlp { 4, 8, 8, 2 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local p = align.weights(net, a, b)\n"

  define("alignment:apply", "p:apply(m) -> model",
    "The model moved: the tensors of every group are taken in the order, with the signs or by the matrices of its "
    .. "map, and running statistics and tied tensors along with them. Permutations move bits; names, order, dtypes, "
    .. "mass and side files stay. A model in files is loaded. m may be a table of tensors. For an alignment of b to "
    .. "a, p:apply(b) is close to a.",
    made .. "print(p:apply(b)[\"fc1.weight\"].shape)\n-- > [8, 4]", methods.apply)

  define("alignment:inverse", "p:inverse() -> alignment",
    "The way back: p:inverse():apply(p:apply(m)) is m. Of soft maps the pair of matrices is exchanged, which "
    .. "undoes a map only where it is invertible.",
    made .. "print((p:inverse():apply(p:apply(b)) - b):norm())\n-- > 0.0", methods.inverse)

  define("alignment:mul", "p * q or p:mul(q) -> alignment",
    "One after the other: (p * q):apply(m) is p:apply(q:apply(m)).",
    made .. "print(((p * p:inverse()):apply(b) - b):norm())\n-- > 0.0", methods.mul)

  define("alignment:check", "p:check(net, m, data) -> number",
    "By how much the alignment changes what the network computes with the weights m: the largest change of an "
    .. "output over the largest output. About 1e-7 for permutations and signs in f32 (sums in another order). data: a "
    .. "data set, a batch or a tensor of inputs; without it random ones. Every alignment goes through this before it "
    .. "is returned, unless check = false; p.change says what it gave.",
    made .. "print(p:check(net, b) < 1e-5)\n-- > true", methods.check)

  define("alignment:agreement", "p:agreement() -> {{group, size, kind, instances, moved, before, after}, …}",
    "For each group the share of places that moved (nil for soft maps), and the cosine between the weights of a "
    .. "and those of b, before and after, over the tensors that the group lies in. print(p) shows the same as a table.",
    made .. "local g = p:agreement()[1]\nprint(g.group, g.size, g.after > g.before)\n-- > fc1\t8\ttrue",
    methods.agreement)

  define("alignment:save", "p:save(path, {overwrite = false})",
    "Writes the alignment into a .safetensors file: indices from 1, signs or matrices, and which axes of which "
    .. "tensors they move. align.load reads it, and needs no network to apply it.",
    made .. "local path = os.tmpname() .. \".safetensors\"\np:save(path)\n"
    .. "print((align.load(path):apply(b) - p:apply(b)):norm())\nos.remove(path)\n-- > 0.0", methods.save)

  define("align.load", "align.load(path) -> alignment", "Reads what alignment:save wrote.",
    "print(pcall(align.load, \"nowhere.safetensors\") == false)\n-- > true", map.load)

  define("align.random", "align.random(net, {seed = 0, pin =, free =}) -> alignment",
    "A random member of the symmetry group of a network: permutations of every group, and signs where the group "
    .. "has them. What it moves computes the same. pin, free: as in align.groups.",
    "local net = nn.mlp { 4, 8, 2 }\nlocal a = net:init { seed = 1 }\n"
    .. "print(align.random(net, { seed = 3 }):check(net, a) < 1e-5)\n-- > true", function(net, o)
      check("align.random", o, { "seed", "pin", "free" })
      o = o or {}
      return map.random(net, layout_of(net, { pin = o.pin, free = o.free }), o.seed)
    end)
end
