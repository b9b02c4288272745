#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `tarn barrier`, `plane`, `spectrum`, `similarity`, `instability` on the digit models: what they print, pictures with
# data beside, JSON, stops that keep a journal and go on from it, refusals. What probes compute is tested where they
# are; here the numbers are those that the library gives for the same question.
#   test_probes.sh TARN
tarn=$1
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d) || exit 1
. tests/cli/check.sh
trap 'rm -rf "$work"' EXIT
data=examples/data
base=$data/base.safetensors low=$data/low.safetensors high=$data/high.safetensors twin=$data/twin.safetensors
mlp="--net mlp --data digits"

fail() {
    failures=$((failures + 1))
    echo "FAILED: $*"
}

# same NAME: the last run printed what the script of NAME prints.
same() {
    want=$("$tarn" -e "local net, d = nn.mlp { 64, 128, 64, 10 }, data.digits()
local function m(name) return model.load('$data/' .. name .. '.safetensors') end
local base, low, high, twin = m 'base', m 'low', m 'high', m 'twin'
$1")
    case $out in *"$want"*) [ -n "$want" ] || fail "no answer to $1" ;; *)
        fail "$(printf '%s\n  out: %s\n  wanted: %s' "$shown" "$out" "$want")" ;; esac
}

picture() {
    grep -q '^<svg' "$1" || fail "$1 is no picture after: $shown"
    "$tarn" -e 'local f = io.open(arg[1]); assert(require("json.decode").decode(f:read "a"))' "${1%.svg}.data.json" ||
        fail "no data beside $1"
    if [ -e "${1%.svg}.journal" ]; then fail "the journal of $1 is left"; fi
}

# field PATH VALUE: of the JSON object that the last run printed, by a Lua expression of r.
field() {
    got=$(printf '%s' "$out" | "$tarn" -e 'local r = require("json.decode").decode(io.read "a")
print(load("local r = ... return " .. arg[1])(r))' "$1" 2>&1)
    [ "$got" = "$2" ] || fail "$shown: $1 is $got, wanted $2"
}

# ---- barrier ----

# shellcheck disable=SC2086
run "$tarn" barrier $low $twin $mlp --points 9 -o "$work/b.svg"
is 0 'network: nn.mlp { 64, 128, 64, 10, act = "relu" }*data: digits train, 1077 examples*' ''
same 'print(probe.barrier(net:loss(d.train), low, twin, { points = 9 }))'
picture "$work/b.svg"
# shellcheck disable=SC2086
run "$tarn" barrier $low $twin --net mlp --data digits:test --points 5 --align weights --repair --json
is 0 '{*}' ''
field '#r.as_they_are.path.loss' 5
field 'r.as_they_are.barrier_loss > 0.3 and r.matched.barrier_loss < 0.05' true
field 'math.abs(r.matched.path.loss[5] / r.as_they_are.path.loss[5] - 1) < 1e-5' true
field 'r.repaired.path.loss[1] == r.matched.path.loss[1] and r.repaired.path.loss[5] == r.matched.path.loss[5]' true
field 'r.repaired.path.loss[3] ~= r.matched.path.loss[3]' true
field 'r.data' 'digits test, 720 examples'
# batch norms: reset takes their statistics anew
"$tarn" -e 'local net = nn.resnet { input = {8, 8, 1}, classes = 10, depth = 8, width = 4 }
for k = 1, 2 do net:init { seed = k }:save(arg[k]) end' "$work/r1" "$work/r2"
# shellcheck disable=SC2086
run "$tarn" barrier "$work/r1" "$work/r2" --data digits --examples 100 --points 3 --bn reset
is 0 'network: config.json of *, 100 examples*' ''
run "$tarn" barrier "$work/r1" "$work/r2" --data digits --examples 100 --points 3 --bn reset --json
field 'r.as_they_are.path.bn' recompute

# ---- plane ----

# shellcheck disable=SC2086
run "$tarn" plane $base $low $high $mlp --points 5 -o "$work/p.svg"
is 0 "*a: $base*plane of 5 x 5 points (through), *c *" ''
same 'print(probe.plane(net:loss(d.train), { base, low, high }, { points = 5 }))'
picture "$work/p.svg"
# shellcheck disable=SC2086
run "$tarn" plane $twin $mlp --points 3 --extent 0.5 --seed 3 --norm layer --json
field 'r.plane.x[3]' 0.5
field 'r.plane.loss[2][2] == r.plane.marks[1].loss' true
# shellcheck disable=SC2086
run "$tarn" plane $twin $mlp --points 3 --hessian;              is 0 '*(given), *' ''
# shellcheck disable=SC2086
run "$tarn" plane $base $low $high $twin $mlp --points 3 --pca; is 0 '*components explain *' ''
# shellcheck disable=SC2086
run "$tarn" plane $low $twin $mlp;                              is 2 '' '*two models make a line*'
# shellcheck disable=SC2086
run "$tarn" plane $low $twin $base $mlp --norm filter;          is 2 '' '*--norm is for one checkpoint'

# ---- a stop keeps what is done, and the same command goes on ----

if env --default-signal=INT true 2>/dev/null; then
    p="$base $low $high $mlp --points 60 --examples 200 -o $work/s.svg"
    # shellcheck disable=SC2086
    env --default-signal=INT "$tarn" plane $p >"$work/out" 2>"$work/stderr" &
    child=$!
    tries=0
    until [ "$(cat "$work/s.journal" 2>/dev/null | wc -l)" -gt 20 ] || [ $tries -gt 200 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    kill -INT $child
    wait $child
    code=$? out=$(cat "$work/out") err=$(cat "$work/stderr") shown="a plane that is stopped"
    is 130 '' "*interrupted; kept * of 3603 points in $work/s.journal; the same command goes on*"
    [ ! -e "$work/s.svg" ] || fail "a picture of a plane that was stopped"
    # A cell that is there is not computed again: one is made visible.
    sed -i "/\"at\":\[1,1\]/s/\"'loss\":\"#[^\"]*\"/\"'loss\":\"#0x1.dp+2\"/" "$work/s.journal"
    # shellcheck disable=SC2086
    run "$tarn" plane $p --json
    is 0 '{*' '*going on from *s.journal'
    field 'r.plane.loss[1][1]' 7.25
    picture "$work/s.svg"
fi
# shellcheck disable=SC2086
run "$tarn" barrier $low $twin $mlp --points 3 --journal "$work/j" --quiet; is 0 '' ''
[ "$(wc -l <"$work/j")" = 4 ] || fail "a journal that is asked for stays, with all points: $(wc -l <"$work/j")"
# shellcheck disable=SC2086
run "$tarn" barrier $low $base $mlp --points 3 --journal "$work/j"; is 1 '' '*is the journal of another run*'

# ---- spectrum ----

# shellcheck disable=SC2086
run "$tarn" spectrum $twin $mlp --steps 12 --starts 2 --seed 4 --only fc1 -o "$work/e.svg"
same 'print(probe.spectrum(net:loss(d.train):linearize(twin), { steps = 12, starts = 2, seed = 4, only = "fc1" }))'
picture "$work/e.svg"
# shellcheck disable=SC2086
run "$tarn" spectrum $twin $mlp --steps 4 --starts 1 --kind ggn --top 1 --json
field '#r.spectrum.nodes[1]' 4
field 'r.largest.converged' 1

# A stop waits for the product that is being made; what there is of the process is kept.
if env --default-signal=INT true 2>/dev/null; then
    s="$twin $mlp --steps 70 --starts 6 --top 3 -o $work/l.svg"
    # shellcheck disable=SC2086
    run "$tarn" spectrum $s --json
    want=$out
    rm "$work/l.svg"
    for said in "; kept * of 420 products in $work/l.journal; the same command goes on" ''; do
        # shellcheck disable=SC2086
        env --default-signal=INT "$tarn" spectrum $s --quiet >"$work/out" 2>"$work/stderr" &
        child=$!
        tries=0
        until [ -e "$work/l.journal" ] || [ $tries -gt 200 ]; do
            sleep 0.05
            tries=$((tries + 1))
        done
        sleep 0.3
        kill -INT $child
        wait $child
        code=$? out=$(cat "$work/out") err=$(cat "$work/stderr") shown="a spectrum that is stopped"
        is 130 '' "*interrupted$said*" # the second may come before the journal is opened
        # between two starts there is no state, but the first of them
        [ -e "$work/l.journal.state.safetensors" ] || [ -e "$work/l.journal.2.safetensors" ] ||
            fail "nothing is kept: $shown"
    done
    # shellcheck disable=SC2086
    run "$tarn" spectrum $s --json
    is 0 '*' '*going on from *l.journal'
    [ "$out" = "$want" ] || fail "$(printf 'resumed:\n%s\nunbroken:\n%s' "$out" "$want")"
    picture "$work/l.svg"
    for file in "$work"/l.journal*; do
        if [ -e "$file" ]; then fail "$file is left"; fi
    done
fi

# ---- similarity ----

# shellcheck disable=SC2086
run "$tarn" similarity $low $twin $mlp --examples 300 -o "$work/k.svg"
same 'print("layers: " .. tostring(probe.cka(net, low, twin, d.train:take(300))))'
same 'print("predictions: " .. tostring(probe.agreement(net, low, twin, d.train:take(300))))'
picture "$work/k.svg"
# shellcheck disable=SC2086
run "$tarn" similarity $low $twin $mlp --examples 300 --measure svcca --journal "$work/kj" --json
want=$out
kept=$(wc -l <"$work/kj")
# shellcheck disable=SC2086
run "$tarn" similarity $low $twin $mlp --examples 300 --measure svcca --journal "$work/kj" --json
is 0 '*' '*going on from *'
[ "$out" = "$want" ] || fail "similarity from a journal: $out"
[ "$kept" = "$(wc -l <"$work/kj")" ] && [ "$kept" -gt 9 ] || fail "a journal of $kept lines"
# shellcheck disable=SC2086
run "$tarn" similarity $twin $mlp --examples 300 --unbiased --layers fc1 --layers fc2 --json
field 'r.layers.matrix[1][1] == 1 and #r.layers.matrix == 2 and r.predictions == nil' true
# shellcheck disable=SC2086
run "$tarn" similarity $low $twin $mlp --measure procrustes --net-b mlp:64,128,64,10; is 0 '*network of B: *procrustes*' ''
# shellcheck disable=SC2086
run "$tarn" similarity $low $twin $mlp --measure ckb; is 2 '' '*did you mean cka?'

# ---- instability ----

train="--data digits --at 0,30 --epochs 2 --batch 32 --points 3"
# shellcheck disable=SC2086
run "$tarn" instability --net mlp:64,16,10 $train --independent -o "$work/i.svg"
is 0 '*2 children of a run of 68 steps*independent*' 'tarn: instability: 6 children, 378 steps of training; 3 lines of 3 points; about *'
picture "$work/i.svg"
# shellcheck disable=SC2086
run "$tarn" instability $base --net mlp $train --dry; is 0 '' '*4 children, *'
# shellcheck disable=SC2086
run "$tarn" instability $base --net mlp --data digits --quiet --json --align weights --optimiser sgd --schedule cosine --points 3
field '#r.instability.mean' 4
field 'r.instability.rows[1].way .. r.instability.rows[3].way' directweights
run "$tarn" instability --net mlp:64,16,10 --data digits --at 900; is 2 '' 'tarn: instability: --at: 900 is not in the 9 steps*'
run "$tarn" instability --net mlp:64,16,10 --data digits --vary orders; is 2 '' 'tarn: instability: --vary orders*'
run "$tarn" instability --data digits;                is 2 '' '*give MODEL, or --net*'
run "$tarn" instability --net mlp --data digits;      is 1 '' '*without a checkpoint it needs sizes*'

# ---- data, networks and refusals that all share ----

printf '%s\n' 1,2,0 2,1,1 >"$work/t.csv"
"$tarn" -e 'for k = 1, 2 do nn.mlp { 2, 3, 2 }:init { seed = k }:save(arg[k]) end' "$work/m1" "$work/m2"
run "$tarn" barrier "$work/m1" "$work/m2" --data "$work/t.csv" --points 2;  is 0 '*2 examples*' ''
idx=tests/golden/idx
"$tarn" -e 'for k = 1, 2 do nn.mlp { 20, 3 }:init { seed = k }:save(arg[k]) end' "$work/n1" "$work/n2"
run "$tarn" barrier "$work/n1" "$work/n2" --data $idx/images.gz,$idx/labels --points 2; is 0 '*6 examples*' ''
run "$tarn" barrier "$work/n1" "$work/n2" --data $idx/images.gz,$idx/labels --points 2 --normalise 0.5,0.25 --json
field 'r.as_they_are.path.n' 6
run "$tarn" barrier "$work/n1" "$work/n2" --data $idx/images.gz,$idx/labels --normalise 0.5; is 2 '' '*MEAN,STD*'
run "$tarn" barrier $low $twin --net mlp;                     is 2 '' '*--data is missing*'
run "$tarn" barrier $low $twin --net mlp --data nowhere;      is 2 '' '*--data nowhere: expected *'
# shellcheck disable=SC2086
run "$tarn" barrier $low $twin $mlp -o x.pdf;                 is 2 '' '*pictures are .svg or .png'
# shellcheck disable=SC2086
run "$tarn" barrier $low $twin $mlp --bn none;                is 2 '' '*interpolate, keep or reset'
# shellcheck disable=SC2086
run "$tarn" barrier $low $twin $mlp --align weight;           is 2 '' '*did you mean weights?'
# shellcheck disable=SC2086
run "$tarn" barrier $low $twin $mlp --repair;                 is 2 '' '*give --align METHOD'
# shellcheck disable=SC2086
run "$tarn" barrier $low "$work/m1" $mlp;                     is 1 '' 'tarn: *fc1.weight has the shape *'
run "$tarn" barrier $low $twin --data digits;                 is 1 '' 'tarn: *has no config.json *give --net*'

[ "$failures" = 0 ]
