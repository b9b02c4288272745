// SPDX-License-Identifier: Apache-2.0
// PCRE2 with this program's limits, private to the room: memory charged to the budget, matching
// stopped after a fixed number of steps so that no pattern and no name can hang a plan. Selectors
// (select.h) and the tables of names (names_table.h) both match through it.
#ifndef TARN_MODEL_REGEX_H
#define TARN_MODEL_REGEX_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>
#include <stddef.h>

#include "vm/base/context.h"

#define TARN_REGEX_STEPS 100000  // internal matching steps from one starting position
#define TARN_REGEX_GROUPS 3      // the whole match and two groups: all that any table asks for

// What patterns compiled together share. Not for two threads at once.
typedef struct tarn_regex_env {
    tarn_budget *budget;
    pcre2_general_context *general;
    pcre2_compile_context *compile;
    pcre2_match_context *match;
    pcre2_match_data *data;
} tarn_regex_env;

tarn_status tarn_regex_open(tarn_regex_env *env, tarn_budget *budget, tarn_error *err);
void tarn_regex_close(tarn_regex_env *env);  // after the codes; a zeroed record may be closed

tarn_status tarn_regex_compile(tarn_regex_env *env, const char *pattern, size_t len, bool jit,
                               pcre2_code **out, tarn_error *err);
// PCRE2's answer: > 0 found, PCRE2_ERROR_NOMATCH, or another negative code. Groups are in env->data.
int tarn_regex_search(const tarn_regex_env *env, const pcre2_code *code, const char *s, size_t len);
// Fills the error record for a negative answer other than "no match".
tarn_status tarn_regex_failed(const tarn_regex_env *env, int answer, const char *pattern,
                              size_t pattern_len, const char *s, size_t len, tarn_error *err);

#endif
