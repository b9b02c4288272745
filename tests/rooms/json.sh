#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No text goes to Jansson's own reader or comes from its writer, which lose bytes where memory ends:
# merge/model/tree.h.
# Usage: json.sh SOURCE_DIR
set -eu
cd "$1"
pattern='\bjson_(load[a-z_]*|dump[a-z]*|dump_file)\('
if grep -rnE --include='*.[ch]' "$pattern" vm merge stdlib; then
    echo "these read or write JSON by Jansson; tarn_tree_read and tarn_tree_write do it without loss"
    exit 1
fi
# The pattern does find such a call where it may stand.
grep -qE "$pattern" tests/merge/model/test_tree.c
