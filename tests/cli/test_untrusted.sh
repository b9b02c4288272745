#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tarn run --untrusted as a shell sees it: the same bytes as with trust, one line for what goes wrong, and no
# process that outlives the run.
set -eu
tarn=$1
data="$(cd "$(dirname "$0")/../.." && pwd)/examples/data"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "$*"; exit 1; }
inputs="--a $data/low.safetensors --b $data/high.safetensors"

cat >half.lua <<'END'
return recipe { name = "half", version = "1.0", license = "Apache-2.0", summary = "Halves of two.",
  inputs = { a = { license = "Apache-2.0" }, b = { license = "Apache-2.0" } }, params = { t = { 0.5, min = 0, max = 1 } },
  build = function(m, p) return (1 - p.t) * m.a + p.t * m.b end }
END
$tarn run half.lua $inputs -o one
$tarn run half.lua $inputs -o two --untrusted
cmp one/model.safetensors two/model.safetensors
$tarn run half.lua --help >help.one
$tarn run half.lua --help --untrusted >help.two
cmp help.one help.two
$tarn run half.lua $inputs --dry-run >plan.one
$tarn run half.lua $inputs --dry-run --untrusted >plan.two
cmp plan.one plan.two
$tarn replay two --input a="$data/low.safetensors" --input b="$data/high.safetensors"

# What is wrong is one error, exit code 1, and nothing is written.
refused() {  # TEXT RECIPE
    code=0
    $tarn run "$2" $inputs -o none --untrusted >out 2>err || code=$?
    [ "$code" = 1 ] || fail "$2: exit code $code: $(cat err)"
    grep -q "$1" err || fail "$2: '$1' is not in: $(cat err)"
    [ "$(grep -c '^tarn: ' err)" = 1 ] || fail "$2: more than one error: $(cat err)"
    [ ! -e none ] || fail "$2: something was written"
}
body() { printf 'return recipe { name = "x", inputs = { a = {}, b = {} }, build = function(m) %s end }\n' "$2" >"$1"; }
body open.lua 'return model.open "/etc/passwd"'
refused 'not available to a recipe' open.lua
body io.lua 'return io.open "/etc/passwd"'
refused 'io is not available to a recipe' io.lua
body product.lua 'local t = tensor.ones { 64, 64 } return t:matmul(t):sum() * m.a'
refused 'OpenBLAS, which is not there behind the wall that untrusted scripts run in' product.lua
body broken.lua 'return m.a +'
refused "broken.lua:1: unexpected symbol near 'end'" broken.lua
echo 'print "no recipe"' >none.lua
refused 'a recipe file ends with' none.lua
mkfifo fifo
code=0
$tarn run half.lua --a fifo --b "$data/high.safetensors" -o none --untrusted 2>err || code=$?
[ "$code" = 1 ] || fail "a FIFO as input: exit code $code"
code=0
$tarn run half.lua --a /dev/zero --b "$data/high.safetensors" -o none --untrusted 2>err || code=$?
[ "$code" = 1 ] || fail "a device as input: exit code $code"

# The child goes with its parent, however that ends.
printf 'while true do end\n' >loop.lua
ends() {  # SIGNAL CODE
    $tarn run loop.lua --help --untrusted >out 2>err &
    parent=$!
    child="" tries=0
    while [ -z "$child" ] && [ $tries -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
        child=$(cat "/proc/$parent/task/$parent/children" 2>/dev/null | tr -d ' ')
    done
    [ -n "$child" ] || fail "no child was seen"
    kill "-$1" "$parent"
    code=0
    wait "$parent" || code=$?
    [ "$code" = "$2" ] || fail "after $1: exit code $code: $(cat err)"
    tries=0
    while [ -d "/proc/$child" ] && [ $tries -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    [ ! -d "/proc/$child" ] || fail "after $1 the child still runs"
}
ends TERM 143
ends KILL 137

# Started by hand with nonsense it answers nothing and harms nobody.
code=0
echo nonsense | $tarn --answer-untrusted 1 100000000 3>answer || code=$?
[ "$code" -le 1 ] || fail "nonsense as a question: exit code $code"
grep -q '^error' answer || fail "nonsense as a question: no error"
code=0
$tarn --answer-untrusted </dev/null || code=$?
[ "$code" = 1 ] || fail "no arguments: exit code $code"
