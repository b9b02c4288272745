// SPDX-License-Identifier: Apache-2.0
// The bridge to PCRE2. Its allocator hands back pointers without sizes, the budget wants sizes: each
// block carries its own in front.
#include "merge/model/regex.h"

#include <stdint.h>
#include <string.h>

#include "vm/base/text.h"

#define BLOCK_HEAD 64  // keeps the alignment of tarn_alloc
#define PATTERN_MAX ((size_t)16 << 10)
#define HEAP_KIB 16384

static void *block_take(size_t bytes, void *budget) {
    if (bytes > SIZE_MAX - BLOCK_HEAD) {
        return NULL;
    }
    char *p = tarn_alloc(budget, bytes + BLOCK_HEAD);
    if (!p) {
        return NULL;
    }
    memcpy(p, &bytes, sizeof bytes);
    return p + BLOCK_HEAD;
}

static void block_give(void *block, void *budget) {
    if (block) {
        size_t bytes;
        char *p = (char *)block - BLOCK_HEAD;
        memcpy(&bytes, p, sizeof bytes);
        tarn_free(budget, p, bytes + BLOCK_HEAD);
    }
}

tarn_status tarn_regex_open(tarn_regex_env *env, tarn_budget *budget, tarn_error *err) {
    *env = (tarn_regex_env){.budget = budget};
    env->general = pcre2_general_context_create(block_take, block_give, budget);
    if (env->general) {
        env->compile = pcre2_compile_context_create(env->general);
        env->match = pcre2_match_context_create(env->general);
        env->data = pcre2_match_data_create(TARN_REGEX_GROUPS, env->general);
    }
    if (!env->compile || !env->match || !env->data) {
        tarn_regex_close(env);
        return tarn_raise_nomem(err, "regular expressions", 0);
    }
    pcre2_set_max_pattern_length(env->compile, PATTERN_MAX);
    pcre2_set_match_limit(env->match, TARN_REGEX_STEPS);
    pcre2_set_depth_limit(env->match, TARN_REGEX_STEPS);
    pcre2_set_heap_limit(env->match, HEAP_KIB);
    return TARN_OK;
}

void tarn_regex_close(tarn_regex_env *env) {
    pcre2_match_data_free(env->data);
    pcre2_match_context_free(env->match);
    pcre2_compile_context_free(env->compile);
    pcre2_general_context_free(env->general);
    memset(env, 0, sizeof *env);
}

// The text as it may stand in a message.
static const char *shown(tarn_text *t, const char *s, size_t len) {
    tarn_text_show(t, s, len, 200);
    return t->failed || !t->data ? "?" : t->data;
}

static tarn_status refuse_pattern(const tarn_regex_env *env, const char *pattern, size_t len,
                                  int answer, size_t offset, tarn_error *err) {
    if (answer == PCRE2_ERROR_HEAP_FAILED) {
        return tarn_raise_nomem(err, "a regular expression", len);
    }
    char reason[160];
    if (pcre2_get_error_message(answer, (PCRE2_UCHAR *)reason, sizeof reason) < 0) {
        memcpy(reason, "unknown", sizeof "unknown");
    }
    tarn_text t;
    tarn_text_init(&t, env->budget);
    tarn_status s = tarn_raise(err, "BadPattern", "pattern \"%s\", character %zu: %s",
                               shown(&t, pattern, len), offset + 1, reason);
    tarn_text_free(&t);
    if (len && (pattern[0] == '*' || pattern[0] == '?')) {
        s = tarn_error_append(err, "\npatterns are regular expressions, not globs: write .* for any "
                                   "text, \\. for a dot");
    }
    return s;
}

// UTF-8 with invalid names tolerated: a file's names are arbitrary bytes to us. \C would split a
// character, which PCRE2 forbids there.
tarn_status tarn_regex_compile(tarn_regex_env *env, const char *pattern, size_t len, bool jit,
                               pcre2_code **out, tarn_error *err) {
    int answer = 0;
    PCRE2_SIZE offset = 0;
    *out = pcre2_compile((PCRE2_SPTR)pattern, len, PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
                         &answer, &offset, env->compile);
    if (!*out) {
        return refuse_pattern(env, pattern, len, answer, offset, err);
    }
    if (jit) {
        // Where the library or the machine has no JIT the interpreter matches instead, as exactly.
        (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
    }
    return TARN_OK;
}

int tarn_regex_search(const tarn_regex_env *env, const pcre2_code *code, const char *s, size_t len) {
    int answer = pcre2_match(code, (PCRE2_SPTR)s, len, 0, 0, env->data, env->match);
    if (answer == PCRE2_ERROR_JIT_STACKLIMIT) {
        answer =
            pcre2_match(code, (PCRE2_SPTR)s, len, 0, PCRE2_NO_JIT, env->data, env->match);
    }
    // What the pattern has no group for keeps what an earlier match left there.
    PCRE2_SIZE *span = pcre2_get_ovector_pointer(env->data);
    for (int k = 2 * answer; answer > 0 && k < 2 * TARN_REGEX_GROUPS; k++) {
        span[k] = PCRE2_UNSET;
    }
    return answer == 0 ? TARN_REGEX_GROUPS : answer;  // 0: found, with more groups than we keep
}

tarn_status tarn_regex_failed(const tarn_regex_env *env, int answer, const char *pattern,
                              size_t pattern_len, const char *s, size_t len, tarn_error *err) {
    if (answer == PCRE2_ERROR_NOMEMORY) {
        return tarn_raise_nomem(err, "matching a regular expression", len);
    }
    tarn_text p, n;
    tarn_text_init(&p, env->budget);
    tarn_text_init(&n, env->budget);
    const char *ps = shown(&p, pattern, pattern_len), *ns = shown(&n, s, len);
    tarn_status st;
    if (answer == PCRE2_ERROR_MATCHLIMIT || answer == PCRE2_ERROR_DEPTHLIMIT ||
        answer == PCRE2_ERROR_HEAPLIMIT) {
        st = tarn_raise(err, "PatternLimit",
                        "pattern \"%s\" took more than %d steps on the name \"%s\"\nnested "
                        "repeats such as (a+)+ do that: write them with one repeat, a+",
                        ps, TARN_REGEX_STEPS, ns);
    } else {
        char reason[160];
        if (pcre2_get_error_message(answer, (PCRE2_UCHAR *)reason, sizeof reason) < 0) {
            memcpy(reason, "unknown", sizeof "unknown");
        }
        st = tarn_raise(err, "PatternFailed", "pattern \"%s\" failed on the name \"%s\": %s", ps, ns,
                        reason);
    }
    tarn_text_free(&n);
    tarn_text_free(&p);
    return st;
}
