// SPDX-License-Identifier: Apache-2.0
// What a model is made of, in Lua: its layers chosen, numbered and stacked; its config.json.
#include "merge/model/structure.h"

#include <math.h>
#include <string.h>

#include "stdlib/bind/model.h"

static int layer_number(lua_State *L, int idx, const char *function) {
    lua_Integer v = luaL_checkinteger(L, idx);
    if (v < 0 || v > 1000000) {
        tarn_lua_error(L, "%s: layers are numbered as in their names, from 0, got %lld", function,
                       (long long)v);
    }
    return (int)v;
}

static int l_layers(lua_State *L) {
    static const char *const names[] = {"stack", NULL};
    tarn_model *m = tarn_bind_check_model(L, 1);
    int first = layer_number(L, 2, "model:layers"), options = lua_istable(L, 3) ? 3 : 4;
    int last = options == 3 || lua_isnoneornil(L, 3) ? first : layer_number(L, 3, "model:layers");
    tarn_lua_check_options(L, options, "model:layers", names, false);
    const char *stack = tarn_lua_opt_string(L, options, "model:layers", "stack", NULL);
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_layers(tarn_host_context(L), m, stack, first, last, r, &err), &err);
    return tarn_bind_finish_model(L);
}

static int l_renumber(lua_State *L) {
    static const char *const names[] = {"stack", NULL};
    tarn_model *m = tarn_bind_check_model(L, 1);
    int options = lua_istable(L, 2) ? 2 : 3;
    int first = options == 2 || lua_isnoneornil(L, 2) ? 0 : layer_number(L, 2, "model:renumber");
    tarn_lua_check_options(L, options, "model:renumber", names, false);
    const char *stack = tarn_lua_opt_string(L, options, "model:renumber", "stack", NULL);
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_renumber(tarn_host_context(L), m, stack, first, r, &err), &err);
    return tarn_bind_finish_model(L);
}

static int part_number(lua_State *L, const char *field, int def, int n) {
    lua_Integer k = tarn_lua_opt_integer(L, 1, "model.stack", field, def);
    if (k < 1 || k > n) {
        tarn_lua_error(L, "model.stack: %s = %lld, but there are parts 1 to %d", field,
                       (long long)k, n);
    }
    return (int)k - 1;
}

static int l_stack(lua_State *L) {
    static const char *const names[] = {"stack", "embed", "head", NULL};
    int n;
    tarn_model **parts = tarn_bind_models(L, "model.stack", 1, TARN_BIND_PARTS, &n);
    tarn_lua_check_options(L, 1, "model.stack", names, true);
    tarn_stack_options o = {.stack = tarn_lua_opt_string(L, 1, "model.stack", "stack", NULL),
                            .embed = part_number(L, "embed", 1, n),
                            .head = part_number(L, "head", n, n)};
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_stack(tarn_host_context(L), n, parts, &o, r, &err), &err);
    return tarn_bind_finish_model(L);
}

// ---- new tensors ----

static int l_fill(lua_State *L) {
    static const char *const names[] = {"std", "seed", "dtype", NULL};
    const char *f = "model:fill";
    tarn_model *m = tarn_bind_check_model(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    tarn_lua_check_options(L, 2, f, names, true);
    lua_Integer n = luaL_len(L, 2);
    double std = tarn_lua_opt_number(L, 2, f, "std", 0);
    tarn_dtype dtype = tarn_bind_dtype(L, 2, f, TARN_F32);
    if (n < 1 || n > 1 << 20 || (std != 0 && lua_getfield(L, 2, "seed") == LUA_TNIL)) {
        return tarn_lua_error(
            L, n < 1 || n > 1 << 20 ? "%s: expected { {name, shape}, … }" : "%s: std needs a seed",
            f);
    }
    tarn_slot *slots = lua_newuserdatauv(L, (size_t)n * sizeof *slots, 0);
    int64_t(*shapes)[TARN_MAX_RANK] = lua_newuserdatauv(L, (size_t)n * sizeof *shapes, 0);
    for (lua_Integer k = 0; k < n; k++) {
        size_t len;
        if (lua_geti(L, 2, k + 1) != LUA_TTABLE || lua_geti(L, -1, 1) != LUA_TSTRING) {
            return tarn_lua_error(L, "%s: entry %d is not {name, shape}", f, (int)k + 1);
        }
        const char *name = lua_tolstring(L, -1, &len);
        lua_geti(L, -2, 2);
        int rank = tarn_bind_shape(L, lua_gettop(L), f, shapes[k]);
        slots[k] =
            (tarn_slot){.name = name, .len = len, .dtype = dtype, .rank = rank, .shape = shapes[k]};
        lua_pop(L, 3);  // the table keeps the name
    }
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    double seed = tarn_lua_opt_number(L, 2, f, "seed", 0);
    TARN_LUA_TRY(L, tarn_model_fill(tarn_host_context(L), m, n, slots, std, seed, r, &err), &err);
    return tarn_bind_finish_model(L);
}

// ---- config.json ----

// Of the table at the top: it has elements, or nothing at all.
static bool is_list(lua_State *L) {
    if (luaL_len(L, -1) > 0) {
        return true;
    }
    lua_pushnil(L);
    if (!lua_next(L, -2)) {
        return true;
    }
    lua_pop(L, 2);
    return false;
}

// 1e6 stays a floating number: 1000000.0.
static void add_number(lua_State *L, tarn_text *t) {
    double v = lua_tonumber(L, -1);
    if (lua_isinteger(L, -1)) {
        tarn_text_printf(t, "%lld", (long long)lua_tointeger(L, -1));
    } else if (isfinite(v)) {
        tarn_text_printf(t, v == floor(v) && fabs(v) < 1e15 ? "%.1f" : "%.17g", v);
    } else {
        tarn_lua_error(L, "model:with_config: JSON has no word for %f", v);
    }
}

// Writes the value at the top as JSON.
static void add_json(lua_State *L, tarn_text *t, int depth) {
    size_t len;
    const char *text;
    luaL_checkstack(L, 8, "model:with_config");
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        tarn_text_puts(t, lua_toboolean(L, -1) ? "true" : "false");
        return;
    case LUA_TLIGHTUSERDATA:
        tarn_text_puts(t, "null");
        return;  // yaml.null
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        tarn_text_json(t, text, len);
        return;
    case LUA_TNUMBER:
        add_number(L, t);
        return;
    case LUA_TTABLE:
        break;
    default:
        tarn_lua_error(L, "model:with_config: a %s is no JSON value", tarn_bind_kind(L, -1));
    }
    if (depth > 32) {
        tarn_lua_error(L, "model:with_config: tables nested more than 32 deep");
    }
    bool list = is_list(L), first = true;
    lua_Integer n = list ? luaL_len(L, -1) : 0;
    tarn_text_puts(t, list ? "[" : "{");
    for (lua_Integer i = 1; i <= n; i++) {
        tarn_text_puts(t, i > 1 ? "," : "");
        lua_geti(L, -1, i);
        add_json(L, t, depth + 1);
        lua_pop(L, 1);
    }
    if (!list) {
        lua_pushnil(L);
    }
    while (!list && lua_next(L, -2)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            tarn_lua_error(L, "model:with_config: a field is named by a %s", tarn_bind_kind(L, -2));
        }
        text = lua_tolstring(L, -2, &len);
        tarn_text_puts(t, first ? "" : ",");
        first = false;
        tarn_text_json(t, text, len);
        tarn_text_puts(t, ":");
        add_json(L, t, depth + 1);
        lua_pop(L, 1);
    }
    tarn_text_puts(t, list ? "]" : "}");
}

static int l_with_config(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    lua_settop(L, 2);
    if (lua_type(L, 2) != LUA_TSTRING) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_pushnil(L);
        bool empty = !lua_next(L, 2);
        lua_settop(L, 2);
        tarn_text *t = tarn_bind_new_text(L);
        lua_pushvalue(L, 2);
        if (empty) {
            tarn_text_puts(t, "{}");
        } else {
            add_json(L, t, 0);
        }
        tarn_bind_push_text(L, t, "config.json");
    }
    const char *patch = lua_tostring(L, -1);
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_with_config(tarn_host_context(L), m, patch, r, &err), &err);
    return tarn_bind_finish_model(L);
}

static const tarn_binding rows[] = {
    {{"model:layers", "m:layers(first, last = first, {stack =}) -> model",
      "Layers first to last, both included, by the numbers in their names (the first is layers.0, "
      "h.0, blocks.0 …, but fc1), "
      "with all that stands outside the layers: embeddings, final norm, head. Numbers stay as they "
      "are: m:layers(4, 7) still "
      "matches layers 4 to 7 of other models, and is a part of model.stack. A model with several "
      "stacks of layers needs the "
      "name of one (m:structure() lists them); the others stay whole.",
      "local m = model.open "
      "\"examples/data/base.safetensors\"\nprint(table.concat(m:layers(2):names(), \" \"))\n-- > "
      "fc2.bias fc2.weight"},
     l_layers},
    {{"model:renumber", "m:renumber(first = 0, {stack =}) -> model",
      "The layers of m numbered first, first + 1, … in their order, without gaps. model.stack does "
      "this by itself.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(m:layers(2, "
      "3):renumber(1):names()[1])\n-- > fc1.bias"},
     l_renumber},
    {{"model.stack", "model.stack { part, part, …, embed = 1, head = last, stack = } -> model",
      "The layers of the parts on top of one another, numbered through: a deeper model, a "
      "shallower one, or one with layers "
      "of several models (a \"frankenmerge\"; depth up-scaling, arXiv:2312.15166). A part is any "
      "model, often m:layers(i, j); "
      "the same layers may come twice. What stands before and beside the layers (embeddings) comes "
      "from the part "
      "with the number `embed`, final norm and head from part `head`. Side files come from the "
      "first part, and where its config.json states "
      "the number of layers (num_hidden_layers, n_layer, num_layers …) or one value per layer "
      "(layer_types …), "
      "saving brings that up to date.\n"
      "To scale what single layers give to the residual stream, multiply by a schedule: "
      "by.name { { \"(o|down)_proj\", 0.5 }, { \".\", 1 } } * m:layers(4, 7).",
      "local m = model.open \"examples/data/base.safetensors\"\n"
      "local deep = model.stack { m:layers(1, 2), m:layers(2, 3) }\nprint(table.concat(deep:names "
      "\"weight\", \" \"))\n"
      "-- > fc1.weight fc2.weight fc3.weight fc4.weight"},
     l_stack},
    {{"model:with_config", "m:with_config { key = value, … } or m:with_config(json) -> model",
      "The same tensors with another config.json: fields are set, tables merged into objects, and "
      "yaml.null takes a field away (a JSON "
      "merge patch, RFC 7396, also as a text). The dtype, the number of layers and values per "
      "layer follow from what is saved and need "
      "no patch. Names are read again: what the config says of tied embeddings counts.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint((m:with_config { rope_theta "
      "= 1e6 }:config():gsub(\"%s\", \"\")))\n-- > {\"rope_theta\":1000000.0}"},
     l_with_config},
    {{"model:fill", "m:fill { {name, shape}, …, std = 0, seed =, dtype = \"f32\" } -> model",
      "New tensors with the side files of m: zeros, or normal numbers of standard deviation std, "
      "which depend on seed and name alone. "
      "model.join puts them beside those of m.",
      "local m = model.open \"examples/data/base.safetensors\"\nlocal new = m:fill { {\"scale\", "
      "{3}}, std = 0.5, seed = 1 }\n"
      "print(#model.join { m, new }, new.scale:load():abs():max() > 0)\n-- > 7\ttrue"},
     l_fill},
};

tarn_status tarn_bind_structure(tarn_host *h, tarn_error *err) {
    tarn_bind_rows(h, "model", rows, (int)(sizeof rows / sizeof *rows));
    tarn_host_lazy(h, "model", "stdlib/moe.lua", tarn_bind_library);
    tarn_host_lazy(h, "model", "stdlib/tokenizer.lua", tarn_bind_library);
    (void)err;
    return TARN_OK;
}
