#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No mutable globals: the built libraries have no objects in .data or .bss but those stated here, each
# with its reason. (.data.rel.ro is constant after loading: tables that hold addresses.)
# Usage: globals.sh LIBRARY…
set -eu
for library in "$@"; do
    [ -r "$library" ] || { echo "$library is not there: build it first"; exit 1; }
done
allowed='
blas.c.o the_blas
blas.c.o once
'
# the_blas, once: the BLAS library, one per process, opened once and then only read.
for library in "$@"; do
    objdump -t "$library" | awk -v library="${library##*/}" '
        /^[^ ]+\.o: /{ object = substr($1, 1, length($1) - 1) }
        { object_symbol = 0; for (i = 2; i < NF - 1; i++) if ($i == "O") object_symbol = i }
        object_symbol && $(object_symbol + 1) ~ /^\.(data|bss|tdata|tbss)/ &&
            $(object_symbol + 1) !~ /^\.data\.rel\.ro/ { print library, object, $NF }
        $2 == "O" && $3 == "*COM*" { print library, object, $NF }'
done | while read -r library object symbol; do
    case "$allowed" in
    *"
$object $symbol
"*) ;;
    *) echo "$library: $object has a mutable global: $symbol" ;;
    esac
done > "${TMPDIR:-/tmp}/globals.$$"
found=$(cat "${TMPDIR:-/tmp}/globals.$$")
rm -f "${TMPDIR:-/tmp}/globals.$$"
if [ -n "$found" ]; then
    echo "$found"
    exit 1
fi
# The list is not stale: the handle is where it is said to be.
for library in "$@"; do
    case "$library" in
    *tarn_op.*) objdump -t "$library" | grep -q ' \.bss.* the_blas$' ;;
    esac
done
