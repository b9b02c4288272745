#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Recipes from the command line: run, lock, verify, replay, lineage, sweep, the hub's cache, digests; and
# what a recipe may not do. usage: test_recipe.sh TARN
set -u
tarn=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0
wrong() {
    echo "FAILED: $*"
    failed=1
}
unset HF_HOME HF_HUB_CACHE
XDG_CACHE_HOME=$work/cache
export XDG_CACHE_HOME
mkdir cache
data=$root/examples/data
cp "$root/examples/6-recipe/recipe.lua" .
inputs="--base $data/base.safetensors --low $data/low.safetensors --high $data/high.safetensors --digits $data/digits.safetensors"

# says CODE TEXT COMMAND…: the exit code, and a text on either stream
says() {
    want=$1 text=$2
    shift 2
    "$@" >out.txt 2>err.txt
    code=$?
    [ "$code" = "$want" ] || wrong "$* ends with $code, not $want: $(cat out.txt err.txt | head -5)"
    cat out.txt err.txt | grep -qF -- "$text" || wrong "$* does not say '$text': $(cat out.txt err.txt | head -8)"
}

# ---- the example ----

"$tarn" run "$root/examples/6-recipe/recipe.lua" --help >help.txt 2>&1 || wrong "--help"
diff "$root/examples/6-recipe/recipe.expected" help.txt || wrong "--help of the example"
# shellcheck disable=SC2086
says 0 "out: saved, checked" "$tarn" run recipe.lua $inputs -o out
[ "$(ls out | tr '\n' ' ')" = "README.md model.safetensors tarn-provenance.json " ] || wrong "files of out"
says 0 "the same bytes" "$tarn" replay out
says 0 "output: same" "$tarn" verify out
says 0 "├─ low; CC0-1.0" "$tarn" lineage out
grep -q '^license: "cc0-1.0"$' out/README.md || wrong "licence in the card"
grep -qF 'return recipe {' out/README.md || wrong "the recipe in the card"
grep -qF '| low |  | CC0-1.0 | dec9de53' out/README.md || wrong "the table of inputs in the card"

# with the lock that lies beside the example: it fits the example, and what does not fit it is refused
# shellcheck disable=SC2086
says 0 "ten: saved, as the lock says, checked" "$tarn" run "$root/examples/6-recipe/recipe.lua" $inputs -o ten
cmp ten/model.safetensors out/model.safetensors || wrong "the lock of the example makes something else"
# shellcheck disable=SC2086
says 1 "density" "$tarn" run "$root/examples/6-recipe/recipe.lua" $inputs --set density=0.3 -o other
[ ! -e other ] || wrong "an output that the lock does not allow"

# what a script makes of the same is the same
cat >soup.lua <<END
local d = "$data/"
local base, low, high = model.open(d .. "base.safetensors"), model.open(d .. "low.safetensors"), model.open(d .. "high.safetensors")
merge.ties { base = base, low, high, density = 0.2 }:save "script"
END
"$tarn" soup.lua || wrong "the script"
cmp script/model.safetensors out/model.safetensors || wrong "a script and a recipe differ"
grep -qF 'merge.ties { base = base, low, high' script/README.md || wrong "the script in its card"
grep -qF 'merge.ties' script/tarn-provenance.json || wrong "the script in its provenance"
says 2 "no digest was recorded" "$tarn" verify script

# ---- other places, threads and shards: the same bytes ----

mkdir -p elsewhere/deep
"$tarn" -e "for _, n in ipairs { 'base', 'low', 'high' } do
  model.open('$data/' .. n .. '.safetensors'):save('elsewhere/deep/' .. n, { max_shard_size = 20000 }) end" >/dev/null
[ -e elsewhere/deep/base/model.safetensors.index.json ] || wrong "the shards are no shards"
cp recipe.lua elsewhere/r.lua
says 0 "saved" "$tarn" run --threads 1 elsewhere/r.lua --base elsewhere/deep/base --low elsewhere/deep/low \
    --high elsewhere/deep/high -o elsewhere/out
cmp out/model.safetensors elsewhere/out/model.safetensors || wrong "bytes depend on where inputs lie"
says 0 "the same bytes" "$tarn" replay --threads 3 elsewhere/out
says 0 "the same bytes" "$tarn" replay elsewhere/out --base "$data/base.safetensors" --input low="$data/low.safetensors"
says 2 "is not the input 'base'" "$tarn" replay elsewhere/out --base "$data/low.safetensors"
says 1 "input base: different" "$tarn" verify elsewhere/out --base "$data/low.safetensors"

# What a recipe does not declare it cannot ask for: a misspelt parameter is no default.
sed 's/p\.density/p.densty/' recipe.lua >misspelt.lua
# shellcheck disable=SC2086
says 1 "misspelt.lua:43: the recipe has no parameter 'densty'; did you mean 'density'?" "$tarn" run misspelt.lua $inputs -o no
sed 's/m\.low, m\.high/m.lwo, m.high/' recipe.lua >misspelt.lua
# shellcheck disable=SC2086
says 1 "misspelt.lua:43: the recipe has no input 'lwo'; did you mean 'low'?" "$tarn" run misspelt.lua $inputs -o no
[ ! -e no ] || wrong "a misspelt recipe left an output"

# An input that its own output replaces can be replayed from a copy alone, and that is said.
cp "$data/base.safetensors" elsewhere/w.safetensors
halve="(0.5 * model.open 'elsewhere/w.safetensors'):save('elsewhere/w.safetensors', { overwrite = true })"
says 0 "elsewhere/w.safetensors replaces its own input: replaying it will need a copy" "$tarn" -e "$halve"
says 2 "" "$tarn" replay elsewhere/w.safetensors
says 0 "the same bytes" "$tarn" replay elsewhere/w.safetensors --input w="$data/base.safetensors"

# ---- an output that is there, parameters, dry run ----

# shellcheck disable=SC2086
says 1 "out" "$tarn" run recipe.lua $inputs -o out
echo "my own words" >out/README.md
# shellcheck disable=SC2086
says 0 "saved" "$tarn" run recipe.lua $inputs -o out --force --set density=0.3
[ "$(cat out/README.md)" = "my own words" ] || wrong "a card of somebody's own was replaced"
cmp -s script/model.safetensors out/model.safetensors && wrong "--set changes nothing"
# shellcheck disable=SC2086
says 1 "density = 1.5 is not from 0 to 1" "$tarn" run recipe.lua $inputs -o no --set density=1.5
# shellcheck disable=SC2086
says 1 "did you mean 'density'" "$tarn" run recipe.lua $inputs -o no --set densty=0.5
# shellcheck disable=SC2086
says 1 "did you mean 'base'" "$tarn" run recipe.lua $inputs --bsae x -o no
says 1 "Give --high PATH" "$tarn" run recipe.lua --base "$data/base.safetensors" -o no
says 2 "Give -o PATH" "$tarn" run recipe.lua
# shellcheck disable=SC2086
says 0 "ties(base, low, high)" "$tarn" run recipe.lua $inputs --dry-run
[ -e no ] && wrong "a refused run left something"
says 1 "expects {128, 64}" "$tarn" run recipe.lua --base "$data/digits.safetensors" --low "$data/low.safetensors" \
    --high "$data/high.safetensors" -o no
# the data is what check looks at: with the wrong models the result is bad, and it says so
says 1 "of the test images are right" "$tarn" run recipe.lua --base "$data/base.safetensors" --low "$data/low.safetensors" \
    --high "$data/low.safetensors" --digits "$data/digits.safetensors" -o bad

# ---- lock ----

cp "$data/low.safetensors" low.safetensors
locked="--base $data/base.safetensors --low low.safetensors --high $data/high.safetensors"
# shellcheck disable=SC2086
says 0 "recipe.lock: written" "$tarn" lock recipe.lua $locked
cp recipe.lock first.lock
# shellcheck disable=SC2086
"$tarn" lock recipe.lua $locked >/dev/null
cmp recipe.lock first.lock || wrong "a lock depends on more than what it locks"
# shellcheck disable=SC2086
says 0 "as the lock says" "$tarn" run recipe.lua $locked -o locked
cmp locked/model.safetensors script/model.safetensors || wrong "a lock changes bytes"
grep -qF '"lock": "{\n' locked/tarn-provenance.json || wrong "the lock in the provenance"
# shellcheck disable=SC2086
says 1 "params.density: locked 0.2, now 0.3" "$tarn" run recipe.lua $locked --set density=0.3 -o no
says 1 "  plans: locked " "$tarn" run recipe.lua $locked --set density=0.3 -o no
# shellcheck disable=SC2086
says 0 "saved" "$tarn" run recipe.lua $locked --set density=0.3 --no-lock -o unlocked
# shellcheck disable=SC2086
says 1 "inputs.digits: not in the lock, now there" "$tarn" run recipe.lua $locked --digits "$data/digits.safetensors" -o no
# one bit of an input
printf '\001' | dd of=low.safetensors bs=1 seek=60000 conv=notrunc 2>/dev/null
# shellcheck disable=SC2086
says 1 "inputs.low.digest: locked" "$tarn" run recipe.lua $locked -o no
# shellcheck disable=SC2086
says 1 "inputs.low.digest: locked" "$tarn" lock recipe.lua $locked --check
[ -e no ] && wrong "a run that the lock refuses left something"
says 1 "input low: different" "$tarn" verify locked
echo "{" >recipe.lock
# shellcheck disable=SC2086
says 1 "is not a lock" "$tarn" run recipe.lua $locked -o no
rm recipe.lock

# ---- verify sees what changed ----

cp -r elsewhere/out damaged
printf '\001' | dd of=damaged/model.safetensors bs=1 seek=60000 conv=notrunc 2>/dev/null
says 1 "output: different" "$tarn" verify damaged
says 1 "other bytes" "$tarn" replay damaged

# ---- inputs that are merges; several outputs; licences ----

cat >two.lua <<'END'
return recipe { name = "two", license = "MIT",
  inputs = { a = { license = "Llama3.1" }, b = { license = "CC-BY-NC-4.0" } },
  build = function(m) return { half = merge.linear { m.a, m.b }, other = 0.25 * m.a + 0.75 * m.b } end,
  check = function(out) assert(out.half:numel() == out.other:numel()) end }
END
says 0 "two: saved, checked" "$tarn" run two.lua --a locked --b script -o two
grep -qF "forbids commercial use" err.txt || wrong "no warning of a licence: $(cat err.txt)"
grep -qF "Llama 3.1 Community License has terms" err.txt || wrong "no warning of terms: $(cat err.txt)"
says 0 "│  ├─ base" "$tarn" lineage two/half
says 0 "the same bytes" "$tarn" replay two/other
says 1 "is there already" "$tarn" run two.lua --a locked --b script -o two

# ---- sweep ----

# shellcheck disable=SC2086
"$tarn" run recipe.lua $inputs --sweep density=0.1:0.3:0.1 --sweep lambda=1,0 >sweep.txt || wrong "sweep"
[ "$(wc -l <sweep.txt)" = 7 ] || wrong "rows of the sweep: $(cat sweep.txt)"
grep -q '^0.2 *1 ' sweep.txt || wrong "0.2 is not a point: $(cat sweep.txt)"
[ "$(grep -c best sweep.txt)" = 1 ] || wrong "no best point"
grep -q '^0.3 *0 *88.4722' sweep.txt || wrong "lambda = 0 is not the base (637 of 720): $(cat sweep.txt)"
# shellcheck disable=SC2086
says 1 "density = 1.1 is not" "$tarn" run recipe.lua $inputs --sweep density=0.9:1.1:0.1

cat >common.lua <<'END'
return recipe { name = "common", inputs = { a = {}, b = {} }, params = { t = 1 },
  build = function(m, p) return p.t * merge.slerp { m.a, m.b, t = 0.5 } end, score = function(out) return out:norm() end }
END
common="--a $data/low.safetensors --b $data/high.safetensors --sweep t=1,2"
# shellcheck disable=SC2086
says 0 "done again at each point, though the same: slerp (norms and thresholds of files are remembered; --stage" \
    "$tarn" run common.lua $common
mkdir temporary
# shellcheck disable=SC2086
TMPDIR=$work/temporary says 0 "computed once for all points: slerp" "$tarn" run common.lua $common --stage
# shellcheck disable=SC2086
TMPDIR=$work/nowhere says 1 "$work/nowhere/tarn-" "$tarn" run common.lua $common --stage
[ -z "$(ls temporary)" ] || wrong "a sweep leaves files: $(ls temporary)"

# ---- the hub's cache ----

hub=$work/hf/hub/models--org--low
mkdir -p "$hub/refs" "$hub/snapshots/abc123" "$hub/blobs"
cp "$data/low.safetensors" "$hub/blobs/1"
ln -s ../../blobs/1 "$hub/snapshots/abc123/model.safetensors"
printf abc123 >"$hub/refs/main"
cat >hub.lua <<'END'
return recipe { name = "hub", inputs = { a = "hub:org/low", b = "hub:org/low@abc123" },
  build = function(m) return 0.5 * m.a + 0.5 * m.b end }
END
says 1 "hf download org/low --revision abc123" "$tarn" run hub.lua -o no
HF_HOME=$work/hf "$tarn" run --quiet hub.lua -o hubbed 2>err.txt || wrong "hub: $(cat err.txt)"
grep -q '^- "org/low"$' hubbed/README.md || wrong "base_model of the hub"
HF_HUB_CACHE=$work/hf/hub "$tarn" lock --quiet hub.lua || wrong "HF_HUB_CACHE"
grep -q '"revision": "abc123"' hub.lock || wrong "the revision in the lock"

# ---- what a recipe may not do ----

refused() {  # text, body of build
    printf 'return recipe { name = "x", inputs = { a = {} }, build = function(m) %s end }\n' "$2" >evil.lua
    says 1 "$1" "$tarn" run evil.lua --a "$data/base.safetensors" -o no
}
refused "model.open is not available to a recipe" "return model.open '/etc/passwd'"
refused "model:save is not available to a recipe" "m.a:save 'no'; return m.a"
refused "io is not available to a recipe" "io.open 'x'"
refused "os is not available to a recipe" "os.execute 'touch no'"
refused "this run only plans" "return m.a:load()"
refused "this run only plans" "return m.a['fc1.bias']:sum():item() * m.a"
refused "build returns a nil" ""
refused "no plan can hold" "return model.new { x = tensor.zeros { 2 } }"
[ -e no ] && wrong "a refused recipe left something"
echo 'return recipe { name = "x", inputs = { a = "in.safetensors" }, build = function(m) return m.a end }' >link.lua
mkdir own
mv link.lua own
ln -s "$data/low.safetensors" own/in.safetensors
says 1 "leads out of the recipe's folder" "$tarn" run own/link.lua -o no
rm own/in.safetensors
cp "$data/low.safetensors" own/in.safetensors
says 0 "saved" "$tarn" run own/link.lua -o copied
echo 'return recipe { name = "x", inputs = { a = "../in.safetensors" }, build = print }' >own/up.lua
says 1 "does not lie below" "$tarn" run own/up.lua -o no
echo 'return 1' >none.lua
says 1 "does not return a recipe" "$tarn" run none.lua -o no
echo 'while true do end' >endless.lua
says 1 "time limit" "$tarn" --time 1s run endless.lua -o no
"$tarn" run endless.lua -o no 2>/dev/null &
pid=$!
sleep 0.5
kill -TERM $pid
began=$(date +%s)
wait $pid
[ $? = 143 ] || wrong "a signal in a recipe"
[ $(($(date +%s) - began)) -lt 20 ] || wrong "a recipe did not see the signal"

# ---- digests ----

touch -d "1 minute ago" own/in.safetensors
says 0 "own/in.safetensors" "$tarn" digests refresh own/in.safetensors
says 0 "6 tensors, 69424 bytes" "$tarn" digests list
says 0 "forgotten" "$tarn" digests clear
says 0 "0 files remembered" "$tarn" digests list
"$tarn" digests refresh own/in.safetensors >/dev/null
says 0 "  hash " "$tarn" --rehash run own/link.lua --dry-run
says 0 "switched off" "$tarn" --rehash digests list
"$tarn" run own/link.lua --dry-run | grep -q "  hash " && wrong "a file that is known is hashed again"
TARN_DIGESTS=off says 0 "switched off" "$tarn" digests list
says 2 "neither list" "$tarn" digests lst
exit $failed
