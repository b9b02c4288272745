#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `tarn align`: a permuted copy comes back to the bit, the network from config.json or --net, every method on a
# trained pair, what is written and when, stops with and without --keep-best, refusals.
#   test_align.sh TARN
tarn=$1
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d) || exit 1
. tests/cli/check.sh
trap 'rm -rf "$work"' EXIT
base=examples/data/base.safetensors
twin=examples/data/twin.safetensors

absent() {
    [ ! -e "$1" ] || wrong "$1 is there"
}

# ---- networks with a config.json: permuted copies come back to the bit ----

"$tarn" -e '
local out = arg[1]
for name, net in pairs { mlp = nn.mlp { 8, 16, 12, 4, act = "tanh" },
    llama = nn.llama { width = 16, layers = 2, heads = 4, kv_heads = 2, inner = 24, vocab = 32 } } do
  local a = net:init { seed = 1 }
  a:save(out .. "/" .. name)
  align.random(net, { seed = 2 }):apply(a):save(out .. "/" .. name .. "_moved")
end' "$work" >/dev/null || failures=1
for name in mlp llama; do
    run "$tarn" align "$work/$name" "$work/${name}_moved" -o "$work/${name}_back"
    is 0 "network: config.json of $work/$name*alignment by weights: *outputs change by *" ''
    run "$tarn" diff "$work/${name}_back" "$work/$name"
    is 0 '*equal, 0 different' ''
    [ -s "$work/${name}_back/config.json" ] || { failures=1; echo "FAILED: $name: no config.json"; }
done
run "$tarn" align "$work/mlp" "$work/mlp_moved" --pin fc1 --json
is 0 '*"groups":\[{"group":"fc2",*' ''
run "$tarn" align "$work/mlp" "$work/mlp_moved" --pin nowhere
is 1 '' '*nowhere*'

# ---- a trained pair without config.json ----

run "$tarn" align "$base" "$twin"
is 1 '' 'tarn: *base.safetensors has no config.json *; give --net, as --net mlp'
run "$tarn" align "$base" "$twin" --net mlp
is 0 'network: nn.mlp { 64, 128, 64, 10, act = "relu" }*fc1     128  scaled    99%   0.010  0.577*' ''
run "$tarn" align "$base" "$twin" --net mlp --seed 3 --restarts 3 --quiet --save-map "$work/map.safetensors" \
    -o "$work/moved.safetensors"
is 0 '' ''
run "$tarn" -e '
local net, d = nn.mlp { 64, 128, 64, 10 }, data.digits()
local a, b, moved = model.load(arg[1]), model.load(arg[2]), model.load(arg[3])
assert((align.load(arg[4]):apply(b) - moved):norm() == 0, "the map is not what was applied")
local y, z = net(b, d.test:batch().x), net(moved, d.test:batch().x)
assert((y - z):abs():max() < 1e-5 * y:abs():max(), "not the same function")
local right = eval.accuracy(net, d.test)
print(right(0.5 * (a + b)) < 0.89, right(0.5 * (a + moved)) > 0.95)' "$base" "$twin" "$work/moved.safetensors" \
    "$work/map.safetensors"
is 0 'true	true' ''
run "$tarn" align "$base" "$twin" --net 'mlp:64,128,64,10' --start "$work/map.safetensors" --json
is 0 '{"method":"weights","net":"nn.mlp { 64,128,64,10 }","exact":true,"change":*"stopped":false}' ''
run "$tarn" align "$base" "$twin" --net mlp --restarts 2
is 0 '*best of 2 starts: *' ''
echo 'return nn.mlp { 64, 128, 64, 10 }' >"$work/net.lua"
echo 'return data.digits().train:take(200)' >"$work/data.lua"
for method in activations mudsc ot ste sinkhorn; do
    run "$tarn" align "$base" "$twin" --net "$work/net.lua" --method $method --data "$work/data.lua"
    is 0 "network: $work/net.lua*alignment by $method: *outputs change by ?.?e-0[678], relatively" ''
done
run "$tarn" align "$base" "$twin" --net mlp --method cca --data digits --examples 500
is 0 '*alignment by cca*soft*the maps are soft: *' ''

# ---- what is there is not written over ----

run "$tarn" align "$base" "$twin" --net mlp -o "$work/moved.safetensors"
is 1 '' 'tarn: --out *moved.safetensors: that is there already; --force replaces it'
run "$tarn" align "$base" "$twin" --net mlp --save-map "$work/map.safetensors" -o "$work/new.safetensors"
is 1 '' 'tarn: --save-map *'
absent "$work/new.safetensors"
run "$tarn" align "$base" "$twin" --net mlp --force --quiet --save-map "$work/map.safetensors" \
    -o "$work/moved.safetensors"
is 0 '' ''

# ---- stops ----

forever="--net mlp --restarts 1000000 -o $work/stopped.safetensors"
run timeout --preserve-status -s INT 1 "$tarn" align "$base" "$twin" $forever
is 130 '' 'tarn: interrupted *'
absent "$work/stopped.safetensors"
for seconds in 3 30; do # the more where a busy machine has not come to the end of the first start
    run timeout --preserve-status -s INT $seconds "$tarn" align "$base" "$twin" $forever --keep-best
    [ ! -e "$work/stopped.safetensors" ] || break
done
is 130 '*outputs change by *stopped: this is the best so far' 'tarn: interrupted *'
run "$tarn" -e '
local net, x = nn.mlp { 64, 128, 64, 10 }, data.digits().test:batch().x
local y, z = net(model.load(arg[1]), x), net(model.load(arg[2]), x)
print((y - z):abs():max() < 1e-5 * y:abs():max())' "$twin" "$work/stopped.safetensors"
is 0 true ''
run "$tarn" --time 3s align "$base" "$twin" $forever --force --keep-best --json
is 1 '{*"stopped":true,"out":*}' 'tarn: time limit reached *'

# ---- refusals ----

run "$tarn" align "$base";                                             is 2 '' 'tarn: align: B is missing *'
run "$tarn" align "$base" "$twin" --method otx;                        is 2 '' '*did you mean ot?'
run "$tarn" align "$base" "$twin" --net mlp --method activations;      is 2 '' '*needs --data'
run "$tarn" align "$base" "$twin" --net mlp --method ot --seed 1;      is 2 '' '*has no use for --seed'
run "$tarn" align "$base" "$twin" --net mlp --method ot --keep-best;   is 2 '' '*--keep-best*'
run "$tarn" align "$base" "$twin" --net mlp --restarts 0;              is 2 '' '*--restarts is at least 1'
run "$tarn" align "$base" "$twin" --net mlp --save-map map.bin;        is 2 '' '*.safetensors file'
run "$tarn" align "$base" "$twin" --net mlp --data nothing;            is 2 '' '*--data nothing: expected *'
run "$tarn" align "$base" "$twin" --net mpl;                           is 1 '' 'tarn: --net mpl: nn has no mpl; *'
run "$tarn" align "$base" "$twin" --net 'mlp:64,}';                    is 1 '' 'tarn: --net mlp:64,}: *'
run "$tarn" align "$base" "$twin" --net 'mlp:64,128,32,10'
is 1 '' 'tarn: *base.safetensors: fc2.weight has the shape \[64, 128\], in the network it has \[32, 128\]'
run "$tarn" align "$base" "$twin" --net resnet
is 1 '' 'tarn: *base.safetensors has no conv1.weight, which the network has *'
run "$tarn" -e 'local m = model.load(arg[1]); local t = {}
for _, n in ipairs(m:names()) do t[n] = m:tensor(n) end
t.beside = tensor.zeros { 3 }; model.new(t):save(arg[2])' "$twin" "$work/more.safetensors"
run "$tarn" align "$base" "$work/more.safetensors" --net mlp
is 0 '*' 'tarn: align: *more.safetensors: beside is not in the network and stays as it is'

[ "$failures" = 0 ]
