// SPDX-License-Identifier: Apache-2.0
// merge.*: every method row as a function of one table, { a, b, base = …, option = … }. What is
// checked, documented and completed comes from the row.
#include <math.h>
#include <string.h>

#include "stdlib/bind/model.h"
#include "stdlib/bind/recording.h"

enum { OPTIONS = 48 };

static const char *full_name(lua_State *L, const tarn_method *method) {
    return lua_pushfstring(L, "merge.%s", method->name);
}

static void check_names(lua_State *L, const tarn_method *method, const char *function) {
    const char *names[OPTIONS] = {"base", "missing", "on_integer"};
    int n = 3;
    for (int i = 0; method->params[i].name && n < OPTIONS - 1; i++) {
        names[n++] = method->params[i].name;
    }
    for (const tarn_statistic *s = method->statistics; s && s->name && n < OPTIONS - 1; s++) {
        names[n++] = s->name;
    }
    names[n] = NULL;
    tarn_lua_check_options(L, 1, function, names, true);
}

typedef struct {
    const tarn_method *method;
    const char *function;
    tarn_model *first;  // whose slots `each` follows
    int models;
    tarn_value *values;  // [OPTIONS * models] at most
    int n;
    bool recorded;  // some values are
} reading;

static tarn_value *add(lua_State *L, reading *r, const tarn_param *p, int model) {
    if (r->n == OPTIONS * (TARN_METHOD_MODELS + 1)) {
        tarn_lua_error(L, "%s: too many values", r->function);
    }
    tarn_value *v = &r->values[r->n++];
    *v = (tarn_value){.name = p->name, .model = model, .origin = "given"};
    return v;
}

static void wrong(lua_State *L, int at, const reading *r, const tarn_param *p, const char *expected) {
    tarn_lua_error(L, "%s: option '%s' must be %s, got %s", r->function, p->name, expected, tarn_bind_kind(L, at));
}

// The value on top for one model (-1: all); leaves what keeps it alive on the stack.
static void read_value(lua_State *L, reading *r, const tarn_param *p, int model) {
    tarn_value *v = add(L, r, p, model);
    int at = lua_gettop(L);
    if (p->type == TARN_CHOICE) {
        if (lua_type(L, -1) != LUA_TSTRING) {
            wrong(L, at, r, p, p->choices);
        }
        v->text = lua_tostring(L, -1);
    } else if (p->type == TARN_BOOLEAN) {
        if (!lua_isboolean(L, -1)) {
            wrong(L, at, r, p, "true or false");
        }
        v->number = lua_toboolean(L, -1);
    } else if (p->type == TARN_NUMBER && (v->node = tarn_bind_recorded_number(L, -1, r->function)) != NULL) {
        v->number = NAN;
        r->recorded = true;
    } else if (!tarn_bind_resolve(L, -1, r->function, r->first, &v->number, &v->each, &v->origin)) {
        wrong(L, at, r, p, p->scope & TARN_PER_MODEL ? "a number, a list with one per model, or by.…" : "a number or by.…");
    }
}

static void read_list(lua_State *L, reading *r, const tarn_param *p) {
    lua_Integer n = luaL_len(L, -1);
    int list = lua_gettop(L);
    if (!(p->scope & TARN_PER_MODEL)) {
        tarn_lua_error(L, "%s: option '%s' is one value for all models, got a list", r->function, p->name);
    }
    if (n != r->models) {
        tarn_lua_error(L, "%s: option '%s' has %lld values for %d models%s", r->function, p->name, (long long)n,
                       r->models, n == r->models + 1 ? " (the base takes none)" : "");
    }
    for (lua_Integer k = 1; k <= n; k++) {
        luaL_checkstack(L, 8, r->function);
        lua_rawgeti(L, list, k);
        read_value(L, r, p, (int)k - 1);
    }
}

static void read_params(lua_State *L, reading *r) {
    for (const tarn_param *p = r->method->params; p->name; p++) {
        luaL_checkstack(L, 8, r->function);
        lua_pushstring(L, p->name);
        if (lua_rawget(L, 1) == LUA_TNIL) {
            lua_pop(L, 1);
            continue;
        }
        if (lua_type(L, -1) == LUA_TTABLE && lua_rawlen(L, -1) > 0) {
            read_list(L, r, p);
        } else {
            read_value(L, r, p, -1);
        }
    }
}

// The statistics that are given; what holds their lists stays on the stack.
static int read_statistics(lua_State *L, const reading *r, tarn_given_statistic *given) {
    int n = 0;
    for (const tarn_statistic *s = r->method->statistics; s && s->name; s++) {
        luaL_checkstack(L, 8, r->function);
        lua_pushstring(L, s->name);
        if (lua_rawget(L, 1) == LUA_TNIL) {
            lua_pop(L, 1);
            continue;
        }
        int count = s->of_base || !lua_istable(L, -1) ? 1 : (int)lua_rawlen(L, -1);
        tarn_model **list = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *list, 0);
        for (int i = 0; i < count; i++) {
            if (s->of_base) {
                lua_pushvalue(L, -2);
            } else if (lua_istable(L, -2)) {
                lua_rawgeti(L, -2, i + 1);
            } else {
                lua_pushnil(L);
            }
            list[i] = tarn_bind_to_model(L, -1);
            if (!list[i]) {
                tarn_lua_error(L, "%s: option '%s' must be %s", r->function, s->name,
                               s->of_base ? "a model" : "a list of models, one for each");
            }
            lua_pop(L, 1);
        }
        given[n++] = (tarn_given_statistic){.name = s->name, .n = count, .models = list};
    }
    return n;
}

void tarn_bind_one_table(lua_State *L, const char *merge, const char *option) {
    if (lua_type(L, 1) != LUA_TTABLE) {
        tarn_lua_error(L, "merge.%s: expected one table, { a, b, %s = … }, got %s", merge, option, tarn_bind_kind(L, 1));
    }
    if (lua_istable(L, 2) && lua_rawlen(L, 2) == 0) {  // a list may come along: model.checkpoints gives two
        tarn_lua_error(L, "merge.%s takes one table: options go into it, { a, b, %s = … }", merge, option);
    }
    lua_settop(L, 1);
}

static int l_method(lua_State *L) {
    const tarn_method *method = lua_touserdata(L, lua_upvalueindex(1));
    tarn_model *base = NULL;
    tarn_bind_one_table(L, method->name, "option");
    const char *function = full_name(L, method);
    check_names(L, method, function);
    int n;
    tarn_model **models = tarn_bind_models(L, function, 0, TARN_METHOD_MODELS, &n);
    lua_pushliteral(L, "base");
    if (lua_rawget(L, 1) != LUA_TNIL) {
        base = tarn_bind_to_model(L, -1);
        if (!base) {
            return tarn_lua_error(L, "%s: base is a %s, not a model", function, tarn_bind_kind(L, -1));
        }
    }
    tarn_error err;
    tarn_error_clear(&err);
    reading r = {.method = method, .function = function, .models = n,
                 .first = base ? base : n > 0 ? models[0] : NULL};
    r.values = lua_newuserdatauv(L, OPTIONS * (TARN_METHOD_MODELS + 1) * sizeof *r.values, 0);
    tarn_policy policy = r.first ? r.first->policy : (tarn_policy){0};
    tarn_bind_policy(L, 1, function, &policy);
    if (r.first) {
        read_params(L, &r);
    }
    tarn_given_statistic given[TARN_METHOD_STATISTICS];
    int statistics = read_statistics(L, &r, given);
    tarn_model **out = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, tarn_method_apply_with(tarn_host_context(L), method, base, n, models, statistics, given, r.n,
                                           r.values, &policy, out, &err), &err);
    (*out)->recording = r.recorded ? tarn_bind_recording(L) : (*out)->recording;
    return tarn_bind_finish_model(L);
}

// ---- documentation from the row ----

static void write_default(tarn_text *t, const tarn_param *p) {
    if (p->type == TARN_CHOICE) {
        tarn_text_printf(t, "\"%.*s\"", (int)strcspn(p->choices, "|"), p->choices);
    } else if (p->type == TARN_BOOLEAN) {
        tarn_text_puts(t, p->def != 0 ? "true" : "false");
    } else if (!isnan(p->def)) {
        tarn_text_printf(t, "%g", p->def);
    }
}

static void write_signature(tarn_text *t, const tarn_method *method) {
    tarn_text_printf(t, "merge.%s { ", method->name);
    if (method->needs & (TARN_NEEDS_BASE | TARN_TAKES_BASE)) {
        tarn_text_puts(t, method->needs & TARN_NEEDS_BASE ? "base = m, " : "[base = m,] ");
    }
    tarn_text_puts(t, method->most == 1 ? "a" : method->most == 2 ? "a, b" : "a, b, …");
    for (const tarn_statistic *s = method->statistics; s && s->name; s++) {
        tarn_text_printf(t, s->required ? ", %s = %s" : ", [%s = %s]", s->name, s->of_base ? "m" : "{…}");
    }
    for (const tarn_param *p = method->params; p->name; p++) {
        tarn_text_printf(t, ", %s = ", p->name);
        write_default(t, p);
    }
    tarn_text_puts(t, " } -> model");
}

static void write_param(tarn_text *t, const tarn_param *p) {
    tarn_text_printf(t, "\n  %s: %s", p->name, p->doc);
    const char *whole = p->type == TARN_INTEGER ? "a whole number, " : "";
    if (p->type == TARN_CHOICE) {
        tarn_text_printf(t, "; one of %s", p->choices);
    } else if (p->type != TARN_BOOLEAN && p->min != p->max && p->max >= 1e300) {
        tarn_text_printf(t, "; %sat least %g", whole, p->min);
    } else if (p->type != TARN_BOOLEAN && p->min != p->max) {
        tarn_text_printf(t, "; %sfrom %g to %.16g", whole, p->min, p->max);
    }
    tarn_text_puts(t, p->type != TARN_CHOICE && p->type != TARN_BOOLEAN && isnan(p->def)
                          ? "; required" : "");
    bool each = p->scope & TARN_PER_MODEL, uniform = p->scope & TARN_UNIFORM;
    tarn_text_puts(t, each ? "; one for all or a list with one per model" : "");
    tarn_text_puts(t, uniform                          ? "; the same for all tensors: no by.…"
                      : each                           ? ", each may be by.…"
                      : p->type == TARN_NUMBER ? "; may be by.…"
                                               : "");
}

static void write_recorded(tarn_text *t, const tarn_method *method) {
    for (const char *c = method->recorded; c;) {
        size_t len = strcspn(c, "|");
        tarn_text_printf(t, "%s%.*s", c == method->recorded ? "\n  recorded numbers (of a function under grad) may be: " : ", ",
                         (int)len, c);
        c = c[len] ? c + len + 1 : NULL;
    }
}

static tarn_status document(tarn_host *h, const tarn_method *method, tarn_error *err) {
    tarn_text name, signature, text;
    tarn_budget *b = &tarn_host_context(tarn_host_state(h))->budget;
    tarn_text_init(&name, b);
    tarn_text_init(&signature, b);
    tarn_text_init(&text, b);
    tarn_text_printf(&name, "merge.%s", method->name);
    write_signature(&signature, method);
    tarn_bind_sentence(&text, method->summary);
    tarn_text_printf(&text, "\n%s", method->detail ? method->detail : "");
    tarn_text_printf(&text, "%s%s.", method->detail ? "\n" : "", method->paper);
    for (const tarn_statistic *s = method->statistics; s && s->name; s++) {
        tarn_text_printf(&text, "\n  %s: %s; %s%s", s->name, s->doc, s->of_base ? "a model" : "a list, one for each model",
                         s->required ? "; required" : "");
    }
    for (const tarn_param *p = method->params; p->name; p++) {
        write_param(&text, p);
    }
    write_recorded(&text, method);
    tarn_text_printf(&text, "\n  missing, on_integer: as in model.open; default: what the first point operand says\n"
                     "Version %d of its semantics; tier %c.", method->version,
                     method->tier);
    tarn_doc doc = {name.data, signature.data, text.data, method->example};
    tarn_status s = name.failed || signature.failed || text.failed
                        ? tarn_raise_nomem(err, "documentation", 0)
                        : tarn_host_doc_copy(h, &doc, err);
    tarn_text_free(&name);
    tarn_text_free(&signature);
    tarn_text_free(&text);
    return s;
}

tarn_status tarn_bind_merge(tarn_host *h, tarn_error *err) {
    lua_State *L = tarn_host_state(h);
    for (int i = 0; tarn_methods[i]; i++) {
        tarn_host_push_module(h, "merge");
        lua_pushlightuserdata(L, (void *)(uintptr_t)tarn_methods[i]);
        lua_pushcclosure(L, l_method, 1);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, tarn_methods[i]->name);
        const char *name = full_name(L, tarn_methods[i]);
        tarn_lua_document(L, -2, name);
        lua_pop(L, 3);
        TARN_TRY(document(h, tarn_methods[i], err));
    }
    tarn_bind_map(h);
    tarn_bind_method_rows(h);
    TARN_TRY(tarn_bind_report(h, err));
    return tarn_bind_library(h, "stdlib/explain.lua", err);
}
