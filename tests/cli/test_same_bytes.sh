#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The same bytes, whatever the machine does with the work: every method and algebra on two families,
# for several thread counts, instruction sets and hold budgets, and for inputs in shards (in another
# order within a file: tests/stdlib/bind/test_plan.lua).
# usage: test_same_bytes.sh TARN
set -u
tarn=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

run() {  # name, inputs' folder, options…: merges into $work/name
    name=$1
    inputs=$2
    shift 2
    mkdir "$work/$name"
    "$tarn" --quiet "$@" "$here/same_bytes.lua" "$work/$name" $inputs || {
        echo "$name: the merges fail"
        status=1
    }
}

same() {  # name, what it is compared with
    for file in "$work/$2"/*; do
        cmp "$file" "$work/$1/${file##*/}" || status=1
    done
    rm -rf "${work:?}/$1"
}

family() {  # name, inputs
    run "$1" "$2" --threads 1
    for threads in 2 3 8; do
        run "$1-$threads" "$2" --threads $threads
        same "$1-$threads" "$1"
    done
    for isa in v1 v3 v4; do
        if "$tarn" --isa $isa -e '' >/dev/null 2>&1; then
            run "$1-$isa" "$2" --threads 2 --isa $isa
            same "$1-$isa" "$1"
        fi
    done
    for hold in 1 100K 1G; do
        run "$1-hold" "$2" --threads 2 --hold $hold
        same "$1-hold" "$1"
    done
    # Shards also change the order in which tensors are met.
    "$tarn" --quiet -e '
        for k = 2, 5 do
            local m = model.open(arg[k])
            m:save(arg[1] .. "/shards" .. k, { max_shard_size = 20000 })
            assert(#m:names() == #model.open(arg[1] .. "/shards" .. k):names())
        end' "$work" $2 || status=1
    run "$1-shards" "$work/shards2 $work/shards3 $work/shards4 $work/shards5" --threads 3
    same "$1-shards" "$1"
    rm -rf "$work"/shards?
}

data=$root/examples/data
family digits "$data/base.safetensors $data/low.safetensors $data/high.safetensors $data/twin.safetensors"
llama=$root/tests/golden/merge/inputs/bf16
family llama "$llama/base $llama/code $llama/prose $llama/numbers"
exit $status
