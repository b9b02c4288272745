#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A merge method is one file of at most 60 lines: what several methods share, or what is more general than
# one of them, belongs in a helper file of the room.
# Usage: methods.sh SOURCE_DIR
set -eu
cd "$1/merge/method"
most=60
names=$(sed -n 's/^TARN_METHOD(\([a-z_0-9]*\))$/\1/p' methods.def)
[ "$(echo "$names" | wc -l)" -gt 60 ] || { echo "methods.def is read wrongly: only '$names'"; exit 1; }
for name in $names; do
    lines=$(wc -l < "$name.c")
    grep -q "^const tarn_method tarn_method_$name = {" "$name.c" || echo "$name.c does not define the row $name"
    [ "$lines" -le $most ] || echo "$name.c has $lines lines; a method has at most $most"
    [ "$(grep -c '^const tarn_method ' "$name.c")" -eq 1 ] || echo "$name.c defines more than one row"
done > "${TMPDIR:-/tmp}/methods.$$"
# Rows elsewhere: in a file of another name.
for file in $(grep -l '^const tarn_method tarn_method_' -- *.c); do
    echo "$names" | grep -qx "${file%.c}" || echo "$file defines a row, but methods.def has no method of its name"
done >> "${TMPDIR:-/tmp}/methods.$$"
found=$(cat "${TMPDIR:-/tmp}/methods.$$")
rm -f "${TMPDIR:-/tmp}/methods.$$"
if [ -n "$found" ]; then
    echo "$found"
    exit 1
fi
