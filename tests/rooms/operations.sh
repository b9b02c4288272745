#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Nothing outside vm/op asks which operation a node holds: no comparison with a row of the table or
# with its number, no switch over rows, no comparison of a row's name.
# Usage: operations.sh SOURCE_DIR
set -eu
cd "$1"
found=$(grep -rnE --include='*.[ch]' \
    -e '[!=]= *&? *tarn_op_[a-z]' -e 'tarn_op_[a-z_0-9]+ *[!=]=' -e '\bTARN_OP_[a-z]' \
    -e '(->|\.)op *[!=]= *[^ N&]' -e 'case TARN_OP_' -e 'str[a-z]*cmp\([^;]*op->name' \
    vm merge stdlib | grep -v '^vm/op/' || true)
if [ -n "$found" ]; then
    echo "these ask which operation a node holds; a field of the row should say what they need:"
    echo "$found"
    exit 1
fi
# The patterns do find such a question where it may stand.
grep -qE '[!=]= *&tarn_op_source' vm/op/graph.c
