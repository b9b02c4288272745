// SPDX-License-Identifier: Apache-2.0
// Which tensors a script means: a regular expression (PCRE2) searched anywhere in the name, as in
// by.name and m:only. Not a glob. Matching is bounded: a pattern that explodes is an error that
// names it, never a wait.
#ifndef TARN_MODEL_SELECT_H
#define TARN_MODEL_SELECT_H

#include <stdbool.h>
#include <stddef.h>

#include "vm/base/context.h"

typedef struct tarn_select tarn_select;

// Errors: BadPattern, naming pattern, place (from 1) and reason. *out is NULL on failure.
tarn_status tarn_select_compile(tarn_context *cx, const char *pattern, size_t len,
                                tarn_select **out, tarn_error *err);
// Errors: PatternLimit, naming pattern and name. Not for two threads at once on one selector.
tarn_status tarn_select_match(const tarn_select *s, const char *name, size_t len, bool *hit,
                              tarn_error *err);
void tarn_select_free(tarn_select *s);  // s may be NULL

#endif
