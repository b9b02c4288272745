// SPDX-License-Identifier: Apache-2.0
// JSON text as a tree of Jansson's values, read without Jansson's reader. Where memory ends while that one
// reads a token it drops bytes of it in silence: a number loses digits or ends the process by a failed
// assertion, a string is read and written beyond its end (jansson issue 362). Its writer does not look
// whether a name was written whole. Values that are made from outside do tell.
#ifndef TARN_MODEL_TREE_H
#define TARN_MODEL_TREE_H

#include <jansson.h>

#include "vm/base/text.h"

enum { TARN_TREE_DEPTH = 2048 };  // levels at most

// One object or array; strict (RFC 8259), and neither names nor strings hold a NUL. A name that comes twice
// is refused with JSON_REJECT_DUPLICATES in `flags`, else its last value counts. NULL: why->text says what
// is wrong at why->line, or memory ended (tarn_tree_nomem). `why` may be NULL.
json_t *tarn_tree_read(tarn_budget *b, const char *text, size_t len, size_t flags, json_error_t *why);

// Appends the tree as text, by Jansson's flags; false: memory ended.
bool tarn_tree_write(const json_t *root, size_t flags, tarn_text *out);

static inline bool tarn_tree_nomem(const json_error_t *why) {
    return json_error_code(why) == json_error_out_of_memory;
}

#endif
