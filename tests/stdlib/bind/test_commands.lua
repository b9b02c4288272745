-- SPDX-License-Identifier: Apache-2.0
-- tarn diff and tarn inspect, as a shell sees them. (plan and replay: test_plan.lua.)
local check = require "check"
local folder <close> = require "folder"()

local count = 0
local function file(list, dtype)
  count = count + 1
  local path = folder("m" .. count .. ".safetensors")
  model.new(list):save(path, dtype and { dtype = dtype, allow_nonfinite = true } or { allow_nonfinite = true })
  return path
end

local function one(values, options) return file { { "w", tensor(values, options) } } end

-- Exit code and lines of tarn diff.
local function diff(a, b, options)
  local code, out, err = folder.tarn(("diff '%s' '%s' %s"):format(a, b, options or ""))
  return code, out, err
end

local function differs(want, text, a, b, options)
  local code, out, err = diff(a, b, options)
  check.equal(code, want, out .. err)
  if not (out .. err):find(text, 1, true) then error("'" .. text .. "' is not in: " .. out .. err, 2) end
end

local inf, nan = math.huge, 0 / 0

-- ---- diff: values ----

differs(0, "1 equal, 0 different", one { 1, 2 }, one { 1, 2 })
differs(0, "w: equal, max abs 0, relative 0, cosine 1", one { 1, 2 }, one { 1, 2 }, "--all")
differs(1, "w: 1 of 2 elements differ, max abs 1, relative 0.31", one { 1, 2 }, one { 1, 3 })
differs(1, "w: 1 of 1 element differ", one { 1 }, one { 3 })
differs(0, "1 equal", one { 0, 0 }, one { -0.0, 0 })
differs(0, "cosine 1\n", one { 0, 0 }, one { 0, 0 }, "--all")
differs(1, "relative inf, cosine ", one { 0, 1 }, one { 0, 0 })
differs(1, "max abs 3, relative 1.5, cosine -1", one { 1, 1 }, one { -2, -2 })
differs(0, "1 equal", one { nan, 1 }, one { nan, 1 })
differs(1, "1 of 2 elements differ", one { nan, 1 }, one { 0, 1 })
differs(1, "1 of 2 elements differ", one { 0, 1 }, one { nan, 1 })
differs(0, "1 equal", one { inf, -inf }, one { inf, -inf })
differs(1, "1 of 2 elements differ, max abs inf", one { inf, -inf }, one { inf, inf })
differs(1, "2 of 2 elements differ", one { 1, 1 }, one { inf, -inf }, "--rtol 1") -- nothing is near infinity
differs(1, "2 of 2 elements differ", one { inf, -inf }, one { 1, 1 }, "--rtol 1 --atol 1e30")
differs(1, "1 of 1 element differ", one { inf }, one { nan }, "--rtol 1")

-- ---- diff: tolerances ----

differs(0, "1 equal", one { 1, 100 }, one { 1.001, 100.1 }, "--rtol 0.0011")
differs(1, "1 of 2", one { 1, 100 }, one { 1.01, 100.1 }, "--rtol 0.0011")
differs(0, "1 equal", one { 0, 1 }, one { 1e-4, 1 }, "--atol 1e-3")
differs(1, "1 of 2", one { 0, 1 }, one { 1e-4, 1 }, "--rtol 1e-3 --atol 1e-5")
differs(2, "a tolerance is no less than 0", one { 1 }, one { 1 }, "--rtol -1")
differs(2, "'much' is not a number", one { 1 }, one { 1 }, "--rtol much")

-- ---- diff: integers, dtypes, shapes, names ----

local function whole(v) return file { { "n", tensor(v, { dtype = "i64" }) } } end
differs(0, "1 equal", whole { 9007199254740993, 1 }, whole { 9007199254740993, 1 })
differs(1, "1 of 2 elements differ", whole { 9007199254740993, 1 }, whole { 9007199254740992, 1 }) -- equal as f64
differs(1, "1 of 2", whole { 1, 2 }, whole { 1, 3 })
differs(1, "1 of 2", file { { "b", tensor { true, false } } }, file { { "b", tensor { true, true } } })
differs(1, "w: f32[2] against bf16[2]", one { 1, 2 }, file({ { "w", tensor { 1, 2 } } }, "bf16"))
differs(0, "1 equal", one { 1, 2 }, file({ { "w", tensor { 1, 2 } } }, "bf16"), "--any-dtype")
differs(0, "1 equal", whole { 1, 2 }, file { { "n", tensor { 1, 2 } } }, "--any-dtype")
differs(1, "w: f32[2] against f32[2, 1]", one { 1, 2 }, one { { 1 }, { 2 } })
differs(1, "w: f32[2] against f32[3]", one { 1, 2 }, one { 1, 2, 3 }, "--any-dtype")
differs(0, "1 equal", file { { "e", tensor.zeros { 0, 3 } } }, file { { "e", tensor.zeros { 0, 3 } } })
differs(1, "e: f32[0, 3] against f32[3, 0]", file { { "e", tensor.zeros { 0, 3 } } }, file { { "e", tensor.zeros { 3, 0 } } })
do
  local a, b = file { { "x", tensor { 1 } }, { "y", tensor { 2 } } }, file { { "y", tensor { 2 } }, { "z", tensor { 3 } } }
  differs(1, "x: only in " .. a, a, b)
  differs(1, "z: only in " .. b, a, b)
  differs(1, "1 equal, 2 different", a, b)
  local code, out = diff(a, b, "--quiet")
  check.equal(code, 1)
  check.equal(out:find("different\n", 1, true), nil)
  code, out = diff(a, b, "--json")
  check.equal(code, 1)
  check.equal(out, ('{"name":"x","result":"only in %s"}\n{"name":"y","result":"equal","wrong":0,"max":0,"relative":0,"cosine":1}\n'
    .. '{"name":"z","result":"only in %s"}\n{"equal":1,"different":2,"unknown":0}\n'):format(a, b))
  code, out = diff(one { nan }, one { 1 }, "--json")
  assert(out:find('"max":null,"relative":null,"cosine":null', 1, true), out)
end
differs(0, "6 equal, 0 different", "examples/data/low.safetensors", "examples/data/low.safetensors")
differs(1, "0 equal, 6 different", "examples/data/low.safetensors", "examples/data/high.safetensors")

-- ---- diff: could not tell ----

differs(2, "t_f4: eq: f4 can be stored and copied, not computed with", "tests/golden/store/valid/all_dtypes.safetensors",
  "tests/golden/store/valid/all_dtypes.safetensors")
differs(2, "18 equal, 0 different, 2 could not be compared", "tests/golden/store/valid/all_dtypes.safetensors",
  "tests/golden/store/valid/all_dtypes.safetensors")

differs(2, "did you mean examples/data/low.safetensors?", "examples/data/lwo.safetensors", "examples/data/low.safetensors")
differs(2, "[HeaderTooSmall]", "examples/data/low.safetensors", "tests/golden/store/invalid/ST01_seven.safetensors")
differs(2, "unknown option '--rtoll'; did you mean '--rtol'?", "a", "b", "--rtoll 1")
check.equal(folder.tarn "diff examples/data/low.safetensors", 2)

-- ---- inspect ----

do
  local code, out, err = folder.tarn "inspect examples/data/low.safetensors"
  check.equal({ code, err }, { 0, "" })
  assert(out:find("examples/data/low.safetensors: 6 tensors, 17226 parameters, f32, 68.9 kB in 1 file\n", 1, true), out)
  assert(out:find("\n  fc2.weight f32[64, 128] layer 2", 1, true), out)
  assert(out:find("\n  metadata network = mlp 64-128-64-10, relu\n", 1, true), out)
  code, out = folder.tarn "inspect --names 'fc2' --stats examples/data/low.safetensors"
  check.equal(select(2, out:gsub("\n  fc", "")), 2)
  local w = model.load "examples/data/low.safetensors"["fc2.weight"]
  assert(out:find(("min %.6g max %.6g mean %.6g norm %.6g"):format(w:min(), w:max(), w:mean(), (w * w):sum() ^ 0.5), 1, true), out)
  code, out = folder.tarn "inspect --json examples/data/low.safetensors"
  local doc = yaml.read(out)
  check.equal({ code, doc.count, #doc.tensors, doc.layers, doc.parameters }, { 0, 6, 6, 3, 17226 })
  check.equal(doc.tensors[1].shape, { 128 })
  -- names of a hostile file tell the terminal nothing
  code, out = folder.tarn "inspect tests/golden/store/valid/names_escaped.safetensors"
  check.equal(code, 0)
  check.equal(out:gsub("\n", ""):find "%c", nil)
  assert(out:find([[tab\x09nl\x0A u8]], 1, true) and out:find([[nul\x00inside u8]], 1, true), out)
  -- empty ones; several; what cannot be read
  check.equal(folder.tarn "inspect tests/golden/store/valid/empty.safetensors", 0)
  check.equal(folder.tarn "inspect --json --stats tests/golden/store/valid/zero_size_only.safetensors", 0)
  check.equal(folder.tarn "inspect --json --stats tests/golden/store/valid/special_floats.safetensors", 0)
  check.equal(folder.tarn "inspect --stats tests/golden/store/valid/all_dtypes.safetensors", 0)
  check.equal(folder.tarn "inspect", 2)
  code, _, err = folder.tarn "inspect tests/golden/store/valid/IX04_unmapped"
  check.equal(code, 0)
  assert(err:find "%[UnmappedTensor%]\n$", err)
  code, _, err = folder.tarn "inspect --strict tests/golden/store/valid/IX04_unmapped"
  check.equal(code, 1)
  assert(err:find "^tarn: .*%[UnmappedTensor%]\n$", err)
  code, _, err = folder.tarn "inspect --names '(' examples/data/low.safetensors"
  check.equal(code, 1)
  assert(err:find("missing closing parenthesis", 1, true), err)
end
