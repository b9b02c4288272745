#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tier A computes with our own elementary functions: no room between files and results calls one of
# libm whose bits depend on the library's version. Exact ones (sqrt, floor, ldexp, fmod …) may be used.
# The kernels are held to less still by tests/vm/op/test_math.c.
# Usage: purity.sh LIBRARY…
set -eu
for library in "$@"; do
    [ -r "$library" ] || { echo "$library is not there: build it first"; exit 1; }
done
inexact='(a?(sin|cos|tan)h?(pi)?|atan2|exp(2|10|m1)?|log(2|10|1p|b)?|pow|cbrt|hypot|erfc?|[lt]gamma|fma|j[01n]|y[01n])[fl]?(_r)?'
for library in "$@"; do
    case "${library##*/}" in
    *tarn_lua.* | *tarn_bind.* | *tarn_repl.*) continue ;;  # Lua's numbers are the script's (tier B)
    esac
    nm -A -u "$library" | sed -E 's/@.*//' | grep -E " U $inexact\$" || true
done | { ! grep .; }
