// SPDX-License-Identifier: Apache-2.0
// The host that a recipe's script runs in: the language without what touches files, and the answers to
// questions (recipe.h), which stdlib/lua/recipe/serve.lua gives.
#include <string.h>

#include "merge/model/lora.h"
#include "stdlib/bind/model.h"
#include "stdlib/bind/recipe.h"

struct tarn_recipe {
    tarn_context *cx;
    tarn_host *h;
    double seconds;
    tarn_recipe_opener open;  // while a question is answered
    void *arg;
};

// A recipe reads what it declares as inputs, writes nothing, and plans: it trains nothing. Networks it may
// have: `check` and `score` can run one.
static const char *const refused[] = {
    "model.open",   "model.load",   "model.lora",   "model.list",  "model.checkpoints", "model.replay",
    "model.recall", "model.plans",  "model.of_plan", "model:save", "model:save_adapter", "model:stage",
    "model.one_tokenizer", "model.chat_template",
    "recipe.load",  "recipe.run",   "recipe.lock",  "recipe.sweep", "recipe.verify",    "recipe.lineage",
    "recipe.digests", "cache", "data", "train", "eval", "search", "probe", "align",
};

// open(name) -> model or nil
static int l_open(lua_State *L) {
    tarn_recipe *r = lua_touserdata(L, lua_upvalueindex(1));
    tarn_error err;
    tarn_error_clear(&err);
    const char *name = luaL_checkstring(L, 1);
    tarn_model **m = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, r->open(r->arg, name, m, &err), &err);
    if (!*m) {
        lua_pushnil(L);
    }
    return 1;
}

// adapter(factors, base, adapter_config.json as text) -> what the adapter adds to its base
static int l_adapter(lua_State *L) {
    size_t len;
    tarn_model *factors = tarn_bind_check_model(L, 1), *base = tarn_bind_check_model(L, 2);
    const char *config = luaL_checklstring(L, 3, &len);
    tarn_error err;
    tarn_error_clear(&err);
    tarn_model **m = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, tarn_lora_read(base, factors, config, len, m, &err), &err);
    return 1;
}

// planning(on): values of files may not be asked for, and time is limited
static int l_planning(lua_State *L) {
    tarn_recipe *r = lua_touserdata(L, lua_upvalueindex(1));
    bool on = lua_toboolean(L, 1);
    tarn_bind_plan_only(L, on);
    tarn_host_limit(r->h, on ? r->seconds : 0);
    return 0;
}

// plan_of(value) -> JSON, replayable; nil for what is no model
static int l_plan_of(lua_State *L) {
    tarn_model *m = tarn_bind_to_model(L, 1);
    if (!m) {
        return 0;
    }
    bool replayable;
    tarn_error err;
    tarn_error_clear(&err);
    tarn_plan_options o = {0};
    tarn_text *t = tarn_bind_new_text(L);
    TARN_LUA_TRY(L, tarn_plan_json(m, &o, t, &replayable, &err), &err);
    tarn_bind_push_text(L, t, "a plan");
    lua_pushboolean(L, replayable);
    return 2;
}

static const char answer_key = 0;  // registry: the function that answers

// (value of the script, serve, recipe): keeps the function that answers.
static int l_keep(lua_State *L) {
    lua_settop(L, 3);
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, l_open, 1);
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, l_planning, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 4);
    lua_pushvalue(L, 5);
    lua_pushcfunction(L, l_plan_of);
    lua_pushcfunction(L, l_adapter);
    lua_call(L, 5, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &answer_key);
    return 0;
}

static tarn_status start(tarn_recipe *r, const tarn_recipe_source *source, tarn_error *err) {
    lua_State *L = tarn_host_state(r->h);
    int results;
    tarn_host_refuse(r->h, refused, (int)(sizeof refused / sizeof *refused),
                     "it reads what `inputs` names and returns models");
    TARN_TRY(tarn_bind_open(r->h, err));
    TARN_TRY(source->ready ? source->ready(source->ready_arg, err) : TARN_OK);
    tarn_host_limit(r->h, r->seconds);
    TARN_TRY(tarn_host_run(r->h, source->name, source->text, source->len, 0, NULL, &results, err));
    if (results != 1) {
        TARN_RAISE(err, "NotARecipe", "%s returns %d values; a recipe file ends with return recipe { … }",
                   source->name, results);
    }
    TARN_TRY(tarn_host_load_embedded(r->h, "stdlib/lua/recipe/serve.lua", err));
    lua_pushlightuserdata(L, r);
    lua_pushcfunction(L, l_keep);
    lua_insert(L, -4);
    TARN_TRY(tarn_host_call(r->h, 3, 0, err));
    tarn_host_limit(r->h, 0);
    return TARN_OK;
}

tarn_status tarn_recipe_open(tarn_context *cx, const tarn_recipe_source *source, tarn_recipe **out,
                             tarn_error *err) {
    tarn_recipe *r = tarn_alloc_zero(&cx->budget, sizeof *r);
    if (!r) {
        return tarn_raise_nomem(err, "a recipe", sizeof *r);
    }
    r->cx = cx;
    r->seconds = source->seconds;
    tarn_host_options o = {.trust = TARN_TRUST_RECIPE, .folder = source->folder};
    tarn_status s = source->owner ? tarn_host_open_guest(source->owner, &o, &r->h, err)
                                  : tarn_host_open(cx, &o, &r->h, err);
    s = s == TARN_OK ? start(r, source, err) : s;
    if (s != TARN_OK) {
        tarn_recipe_close(r);
        return s;
    }
    *out = r;
    return TARN_OK;
}

void tarn_recipe_close(tarn_recipe *r) {
    if (r) {
        tarn_host_close(r->h);
        tarn_free(&r->cx->budget, r, sizeof *r);
    }
}

typedef struct {
    const char *question, *json;
    size_t len;
    tarn_text *answer;
} exchange;

static int l_ask(lua_State *L) {
    const exchange *x = lua_touserdata(L, 1);
    size_t len;
    tarn_bind_plan_only(L, false);  // an error may have ended the last answer
    lua_rawgetp(L, LUA_REGISTRYINDEX, &answer_key);
    lua_pushstring(L, x->question);
    lua_pushlstring(L, x->json, x->len);
    lua_call(L, 2, 1);
    const char *s = luaL_checklstring(L, -1, &len);
    tarn_text_add(x->answer, s, len);
    return 0;
}

tarn_status tarn_recipe_ask(tarn_recipe *r, const char *question, const char *json, size_t len,
                            tarn_recipe_opener open, void *arg, tarn_text *answer, tarn_error *err) {
    lua_State *L = tarn_host_state(r->h);
    exchange x = {question, json, len, answer};
    r->open = open;
    r->arg = arg;
    lua_pushcfunction(L, l_ask);
    lua_pushlightuserdata(L, &x);
    tarn_status s = tarn_host_call(r->h, 1, 0, err);
    tarn_host_limit(r->h, 0);
    r->open = NULL;
    return s == TARN_OK && answer->failed ? tarn_raise_nomem(err, "the answer of a recipe", answer->len) : s;
}
