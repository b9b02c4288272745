// SPDX-License-Identifier: Apache-2.0
// A selector is one compiled pattern with what matching needs, so that a script may keep it.
#include "merge/model/select.h"

#include <string.h>

#include "merge/model/regex.h"

struct tarn_select {
    tarn_regex_env env;
    pcre2_code *code;
    size_t len;
    char pattern[];  // len bytes and a NUL
};

tarn_status tarn_select_compile(tarn_context *cx, const char *pattern, size_t len,
                                tarn_select **out, tarn_error *err) {
    *out = NULL;
    tarn_select *s = len > SIZE_MAX / 2 ? NULL : tarn_alloc_zero(&cx->budget, sizeof *s + len + 1);
    if (!s) {
        return tarn_raise_nomem(err, "a selector", len);
    }
    s->env.budget = &cx->budget;
    s->len = len;
    memcpy(s->pattern, pattern, len);
    tarn_status st = tarn_regex_open(&s->env, &cx->budget, err);
    if (st == TARN_OK) {
        st = tarn_regex_compile(&s->env, s->pattern, len, true, &s->code, err);
    }
    s->env.budget = &cx->budget;  // a failed open clears the record
    if (st != TARN_OK) {
        tarn_select_free(s);
        return st;
    }
    *out = s;
    return TARN_OK;
}

tarn_status tarn_select_match(const tarn_select *s, const char *name, size_t len, bool *hit,
                              tarn_error *err) {
    int answer = tarn_regex_search(&s->env, s->code, name, len);
    *hit = answer > 0;
    if (answer < 0 && answer != PCRE2_ERROR_NOMATCH) {
        return tarn_regex_failed(&s->env, answer, s->pattern, s->len, name, len, err);
    }
    return TARN_OK;
}

void tarn_select_free(tarn_select *s) {
    if (s) {
        tarn_budget *budget = s->env.budget;
        pcre2_code_free(s->code);
        tarn_regex_close(&s->env);
        tarn_free(budget, s, sizeof *s + s->len + 1);
    }
}
