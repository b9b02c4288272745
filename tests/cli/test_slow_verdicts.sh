#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `tarn inspect` on every valid file of the format oracles, and on every malformed safetensors file and
# index: verdict, code and exit code of verdicts.tsv. What is not stored is made by make_verdicts.py;
# links out of the folder are errors under --strict. Skipped where the oracles are not.
# usage: test_slow_verdicts.sh TARN
set -u
tarn=$1
oracles=$(cd "$(dirname "$0")/../.." && pwd)/../shared/oracles/format
if [ ! -f "$oracles/verdicts.tsv" ]; then
    echo "skipped: $oracles is not there"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
count=0
wrong() {
    echo "FAILED: $*: exit code $code; $(head -3 "$work/said")"
    status=1
}

for path in "$oracles"/safetensors/*.safetensors "$oracles"/safetensors/sharded*/; do
    "$tarn" inspect --json "$path" >"$work/out" 2>"$work/said"
    code=$?
    count=$((count + 1))
    [ $code = 0 ] && [ ! -s "$work/said" ] || wrong "$path is valid"
done
[ $count -ge 30 ] || { echo "only $count valid files"; status=1; }

made=$work/made
python3 "$(dirname "$0")/make_verdicts.py" "$oracles/tools" "$made" || echo "only stored cases"
ok=$oracles/malformed/ix/IX04_ok
mkdir -p "$made/ix/IX02_link"
cp "$ok"/*.json "$ok/model-00001-of-00002.safetensors" "$made/ix/IX02_link"
ln -s "$ok/model-00002-of-00002.safetensors" "$made/ix/IX02_link"

count=0
tab=$(printf '\t')
while IFS=$tab read -r id variant path size expect error _; do
    case $path in st/* | ix/*) ;; *) continue ;; esac
    [ "$expect" = procedure ] && continue # calls in C: tests/vm/store
    file=$made/$path
    [ -e "$file" ] || [ -L "$file" ] || file=$oracles/malformed/$path
    [ -e "$file" ] || [ -L "$file" ] || { [ "$size" = small ] && wrong "$path is not there"; continue; }
    strict=
    [ "$id" = IX02 ] && strict=--strict
    timeout 600 "$tarn" inspect --json $strict "$file" >"$work/out" 2>"$work/said"
    code=$?
    count=$((count + 1))
    # A code, or alternatives a|b, in brackets at the end of one line.
    said=$(grep -cE "\[($error)\]\$" "$work/said")
    case $expect in
    reject) [ $code = 1 ] && [ "$said" = 1 ] || wrong "$path: to be refused with $error" ;;
    accept) [ $code = 0 ] && [ ! -s "$work/said" ] || wrong "$path: to be accepted" ;;
    warn)
        [ $code = 0 ] && [ "$said" = 1 ] || wrong "$path: to be accepted with the warning $error"
        "$tarn" inspect --strict "$file" >"$work/out" 2>"$work/said"
        code=$?
        [ $code = 1 ] && grep -qE "\[($error)\]\$" "$work/said" || wrong "$path: an error under --strict"
        ;;
    either) [ $code = 0 ] || { [ $code = 1 ] && [ "$said" = 1 ]; } || wrong "$path: accepted, or refused with $error" ;;
    esac
done <"$oracles/verdicts.tsv"
[ $count -ge 90 ] || { echo "only $count malformed cases"; status=1; }
echo "$count malformed cases"
exit $status
