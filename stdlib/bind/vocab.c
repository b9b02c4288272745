// SPDX-License-Identifier: Apache-2.0
// Vocabularies in Lua. Tokens are counted from 0, as tokenizers do.
#include <string.h>

#include "merge/model/structure.h"
#include "stdlib/bind/model.h"

static bool fill_option(lua_State *L, int idx, const char *function) {
    const char *fill = tarn_lua_opt_string(L, idx, function, "fill", "mean");
    if (strcmp(fill, "mean") != 0 && strcmp(fill, "zero") != 0) {
        tarn_lua_error(L, "%s: fill = \"%.40s\"; expected mean or zero", function, fill);
    }
    return fill[0] == 'm';
}

// The rows that the vocabulary of m has.
static int64_t rows_of(lua_State *L, const tarn_model *m) {
    int64_t *list = lua_newuserdatauv(L, (size_t)m->n * sizeof *list + 1, 0), n, rows;
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_vocab_find(m, list, &n, &rows, &err), &err);
    lua_pop(L, 1);
    return rows;
}

static int64_t *new_rows(lua_State *L, int64_t n) {
    if (n < 0 || n > 1 << 28) {
        tarn_lua_error(L, "a vocabulary of %lld rows; expected 0 to %d", (long long)n, 1 << 28);
    }
    int64_t *from = lua_newuserdatauv(L, (size_t)n * sizeof *from + 1, 0);
    memset(from, -1, (size_t)n * sizeof *from);
    return from;
}

static int l_resize(lua_State *L) {
    static const char *const names[] = {"fill", NULL};
    tarn_model *m = tarn_bind_check_model(L, 1);
    int64_t rows = luaL_checkinteger(L, 2);
    tarn_lua_check_options(L, 3, "model:resize_vocab", names, false);
    bool mean = fill_option(L, 3, "model:resize_vocab");
    int64_t has = rows_of(L, m), *from = new_rows(L, rows);
    for (int64_t i = 0; i < rows && i < has; i++) {
        from[i] = i;
    }
    tarn_vocab_rows r = {rows, (const int64_t *const *)&from, mean};
    tarn_model **out = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_vocab(tarn_host_context(L), 1, &m, &r, out, &err), &err);
    return tarn_bind_finish_model(L);
}

// ---- one vocabulary for several models ----

enum { MODELS = 64 };

// Calls f for each {[old] = new} of ids[k + 1], which is on top.
static void each_id(lua_State *L, int k, void (*f)(void *arg, int64_t old, int64_t new_id),
                    void *arg) {
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        int old_good, new_good;
        int64_t was = lua_tointegerx(L, -2, &old_good), is = lua_tointegerx(L, -1, &new_good);
        if (!old_good || !new_good || was < 0 || is < 0) {
            tarn_lua_error(L,
                           "model.token_union: ids of model %d: expected {[token] = new token, …}, "
                           "both from 0",
                           k + 1);
        }
        f(arg, was, is);
        lua_pop(L, 1);
    }
}

static void find_most(void *arg, int64_t old, int64_t new_id) {
    int64_t *most = arg;
    (void)old;
    *most = new_id > *most ? new_id : *most;
}

typedef struct {
    lua_State *L;
    int k;
    int64_t rows, *from;
} placing;

static void place(void *arg, int64_t old, int64_t new_id) {
    placing *p = arg;
    if (new_id >= p->rows) {
        tarn_lua_error(p->L,
                       "model.token_union: ids of model %d: token %lld becomes %lld, but there are "
                       "rows 0 to %lld",
                       p->k + 1, (long long)old, (long long)new_id, (long long)p->rows - 1);
    }
    if (p->from[new_id] >= 0) {
        tarn_lua_error(p->L,
                       "model.token_union: ids of model %d: tokens %lld and %lld both become %lld",
                       p->k + 1, (long long)p->from[new_id], (long long)old, (long long)new_id);
    }
    p->from[new_id] = old;
}

static void push_ids(lua_State *L, int k) {
    if (lua_getfield(L, 1, "ids") != LUA_TTABLE || lua_geti(L, -1, k + 1) != LUA_TTABLE) {
        tarn_lua_error(
            L, "model.token_union: ids is a list with {[token] = new token, …} for each model");
    }
    lua_remove(L, -2);
}

// What is said of single tokens of the result; all NULL where nothing is.
typedef struct {
    int64_t *model, *row;  // who gives the row where a model lacks it: from 0, -1: the rules, NOBODY: the fill
    int64_t *force;        // 0: also where a model has it; -1: not
} said;

enum { NOBODY = -2 };

// The source of token `at`, {model, row} or false, is on top.
static void read_source(lua_State *L, int n, int64_t at, said *s) {
    if (lua_type(L, -1) == LUA_TBOOLEAN && !lua_toboolean(L, -1)) {
        s->model[at] = NOBODY;
        return;
    }
    int good[2] = {0, 0};
    lua_Integer v[2] = {0, 0};
    for (int i = 0; lua_istable(L, -1) && i < 2; i++) {
        lua_geti(L, -1, i + 1);
        v[i] = lua_tointegerx(L, -1, &good[i]);
        lua_pop(L, 1);
    }
    if (!good[0] || !good[1] || v[0] < 1 || v[0] > n || v[1] < 0) {
        tarn_lua_error(L, "model.token_union: sources of token %d: expected {model, its token} with a model from 1 "
                       "to %d, or false", (int)at, n);
    }
    s->model[at] = v[0] - 1;
    s->row[at] = v[1];
}

// The options sources and force.
static said read_said(lua_State *L, int n, int64_t rows) {
    said s = {NULL, NULL, NULL};
    for (int which = 0; which < 2; which++) {
        const char *option = which ? "force" : "sources";
        if (lua_getfield(L, 1, option) == LUA_TNIL) {
            continue;
        }
        if (!lua_istable(L, -1)) {
            tarn_lua_error(L, "model.token_union: %s is a %s, expected a table by token", option, tarn_bind_kind(L, -1));
        }
        if (!s.model) {
            s = (said){new_rows(L, rows), new_rows(L, rows), new_rows(L, rows)};
            lua_insert(L, -4);  // the table stays on top
            lua_insert(L, -4);
            lua_insert(L, -4);
        }
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            int good;
            lua_Integer at = lua_tointegerx(L, -2, &good);
            if (!good || at < 0 || at >= rows) {
                tarn_lua_error(L, "model.token_union: %s: a token outside 0 to %lld", option, (long long)rows - 1);
            }
            if (which == 0) {
                read_source(L, n, at, &s);
            } else if (lua_toboolean(L, -1)) {
                s.force[at] = 0;
            }
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    return s;
}

// Where model `which` has row i when it lends to model k, or is it: what is said, else what the base has from it
// alone.
static int64_t lent(const said *s, int64_t *const *from, int k, int which, int base, int64_t i) {
    bool forced = s->model && s->force[i] == 0, told = s->model && s->model[i] != -1;
    int64_t own = from[which][i];
    if (which == k) {
        return own >= 0 && !forced ? own : told && s->model[i] == k ? s->row[i] : -1;
    }
    if (told) {
        return s->model[i] == which ? s->row[i] : -1;
    }
    return base >= 0 && which != base && from[base][i] >= 0 ? -1 : own;
}

// Model k first, the others behind it.
static int push_union(lua_State *L, int n, tarn_model *const *in, int64_t *const *from, int k,
                      int base, int64_t rows, bool mean, const said *s) {
    tarn_model *list[MODELS];
    const int64_t *rows_from[MODELS];
    int count = 0;
    for (int q = 0; q < n; q++) {
        int which = q == 0 ? k : q <= k ? q - 1 : q;
        int64_t *own = new_rows(L, rows);
        for (int64_t i = 0; i < rows; i++) {
            own[i] = lent(s, from, k, which, base, i);
        }
        list[count] = in[which];
        rows_from[count++] = own;
    }
    tarn_vocab_rows r = {rows, rows_from, mean};
    tarn_model **out = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_vocab(tarn_host_context(L), count, list, &r, out, &err), &err);
    return tarn_bind_finish_model(L);
}

static int l_union(lua_State *L) {
    static const char *const names[] = {"ids", "base", "rows", "fill", "sources", "force", NULL};
    const char *f = "model.token_union";
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    tarn_lua_check_options(L, 1, f, names, true);
    lua_Integer n = luaL_len(L, 1), base = tarn_lua_opt_integer(L, 1, f, "base", 0);
    if (n < 1 || n > MODELS || base < 0 || base > n) {
        return tarn_lua_error(
            L,
            "%s: %d models and base = %d; expected 1 to %d models, and base one of their numbers",
            f, (int)n, (int)base, (int)MODELS);
    }
    luaL_checkstack(L, 3 * MODELS + 24, f);
    tarn_model *in[MODELS];
    int64_t *from[MODELS], most = -1;
    for (int k = 0; k < (int)n; k++) {
        lua_geti(L, 1, k + 1);
        in[k] = tarn_bind_check_model(L, -1);
        push_ids(L, k);
        each_id(L, k, find_most, &most);
        lua_pop(L, 2);
    }
    int64_t rows = tarn_lua_opt_integer(L, 1, f, "rows", most + 1);
    bool mean = fill_option(L, 1, f);
    for (int k = 0; k < (int)n; k++) {
        from[k] = new_rows(L, rows);
        placing p = {L, k, rows, from[k]};
        push_ids(L, k);
        each_id(L, k, place, &p);
        lua_pop(L, 1);
    }
    said told = read_said(L, (int)n, rows);
    lua_createtable(L, (int)n, 0);
    int result = lua_gettop(L);
    for (int k = 0; k < (int)n; k++) {
        push_union(L, (int)n, in, from, k, (int)base - 1, rows, mean, &told);
        lua_rawseti(L, result, k + 1);
        lua_settop(L, result);
    }
    return 1;
}

static const tarn_binding rows[] = {
    {{"model:resize_vocab", "m:resize_vocab(n, {fill = \"mean\"}) -> model",
      "The model with n tokens: embeddings, heads and biases that have a row per token are cut, or "
      "grown by rows that are the mean of all "
      "rows (fill = \"mean\", the usual choice: new tokens begin as average ones) or zero "
      "(\"zero\"). A row per token is what has as many rows as the largest "
      "embedding. vocab_size in config.json follows; the tokenizer's files do not.",
      "local m = model.open \"tests/golden/lora/base_llama\"\n"
      "print(m:resize_vocab(70):info(\"lm_head.weight\").shape[1], "
      "m:resize_vocab(70):config():match '\"vocab_size\": (%d+)')\n-- > 70\t70"},
     l_resize},
    {{"model.token_union",
      "model.token_union { m, m, …, ids = { {[token] = new token, …}, … }, base =, rows =, fill = "
      "\"mean\", sources =, force = } -> {model, …}",
      "Models with different vocabularies brought to one, token by token, so that they can be "
      "merged. ids says for each model which row "
      "of its own becomes which row of the result (both from 0, as in tokenizer.json). A token "
      "that a model lacks takes the row of the base "
      "(base: its number in the list), if that has it, else the mean over the models that have it, "
      "else fill (see m:resize_vocab). rows: of the result "
      "(default: the largest new token + 1). The tokenizer's files are not made: model.one_tokenizer "
      "reads and makes them.\n"
      "  sources: {[new token] = {number of a model, its token}, …}: who gives the row to models that lack it; false: the fill\n"
      "  force: {[new token] = true, …}: models that have the token take what `sources` says too",
      "local m = model.open \"tests/golden/lora/base_llama\"\n"
      "local u = model.token_union { m, m, ids = { { [0] = 0, [1] = 1 }, { [0] = 1, [5] = 2 } } }\n"
      "local e = \"model.embed_tokens.weight\"\nprint((u[1][e]:load()[3] - "
      "m[e]:load()[6]):abs():max())\n-- > 0.0"},
     l_union},
};

void tarn_bind_vocab(tarn_host *h) {
    tarn_bind_rows(h, "model", rows, (int)(sizeof rows / sizeof *rows));
}
