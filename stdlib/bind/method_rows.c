// SPDX-License-Identifier: Apache-2.0
// merge.methods: the table of method rows as a Lua value, for `tarn methods` and for scripts that go
// through all of them.
#include <math.h>

#include "stdlib/bind/model.h"

static const char *type_name(tarn_param_type t) {
    static const char *const names[] = {"number", "integer", "boolean", "choice"};
    return names[t];
}

static void set_number(lua_State *L, const char *field, double v) {
    lua_pushnumber(L, v);
    lua_setfield(L, -2, field);
}

// "global|tensor" as a list.
static void set_choices(lua_State *L, const char *choices) {
    lua_newtable(L);
    for (lua_Integer k = 1; *choices; k++) {
        size_t n = 0;
        while (choices[n] && choices[n] != '|') {
            n++;
        }
        lua_pushlstring(L, choices, n);
        if (k == 1) {
            lua_pushvalue(L, -1);
            lua_setfield(L, -4, "default");
        }
        lua_rawseti(L, -2, k);
        choices += n + (choices[n] == '|');
    }
    lua_setfield(L, -2, "choices");
}

static void push_param(lua_State *L, const tarn_param *p) {
    lua_createtable(L, 0, 9);
    tarn_bind_set_text(L, "name", p->name);
    tarn_bind_set_text(L, "type", type_name(p->type));
    tarn_bind_set_text(L, "doc", p->doc);
    lua_pushboolean(L, (p->scope & TARN_PER_MODEL) != 0);
    lua_setfield(L, -2, "per_model");
    lua_pushboolean(L, (p->scope & TARN_UNIFORM) != 0);
    lua_setfield(L, -2, "uniform");
    if (p->type == TARN_CHOICE) {
        set_choices(L, p->choices);
        return;
    }
    if (p->type == TARN_BOOLEAN) {
        lua_pushboolean(L, p->def != 0);
        lua_setfield(L, -2, "default");
        return;
    }
    if (!isnan(p->def)) {
        set_number(L, "default", p->def);
    }
    if (p->min != p->max) {
        set_number(L, "min", p->min);
    }
    if (p->min != p->max && p->max < 1e300) {
        set_number(L, "max", p->max);
    }
}

static void push_row(lua_State *L, const tarn_method *m) {
    const char tier[2] = {m->tier, '\0'};
    lua_createtable(L, 0, 12);
    tarn_bind_set_text(L, "name", m->name);
    tarn_bind_set_text(L, "summary", m->summary);
    tarn_bind_set_text(L, "paper", m->paper);
    tarn_bind_set_text(L, "detail", m->detail);
    tarn_bind_set_text(L, "example", m->example);
    tarn_bind_set_text(L, "tier", tier);
    tarn_bind_set_integer(L, "version", m->version);
    tarn_bind_set_text(L, "base", m->needs & TARN_NEEDS_BASE ? "required"
                                 : m->needs & TARN_TAKES_BASE ? "optional" : "none");
    tarn_bind_set_integer(L, "least", m->least);
    if (m->most >= 0) {
        tarn_bind_set_integer(L, "most", m->most);
    }
    lua_newtable(L);
    for (int k = 0; m->params[k].name; k++) {
        push_param(L, &m->params[k]);
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "params");
    lua_newtable(L);
    for (int k = 0; m->statistics && m->statistics[k].name; k++) {
        const tarn_statistic *s = &m->statistics[k];
        lua_createtable(L, 0, 4);
        tarn_bind_set_text(L, "name", s->name);
        tarn_bind_set_text(L, "doc", s->doc);
        lua_pushboolean(L, s->of_base);
        lua_setfield(L, -2, "of_base");
        lua_pushboolean(L, s->required);
        lua_setfield(L, -2, "required");
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "statistics");
}

static int l_methods(lua_State *L) {
    lua_newtable(L);
    for (int k = 0; tarn_methods[k]; k++) {
        push_row(L, tarn_methods[k]);
        lua_rawseti(L, -2, k + 1);
    }
    return 1;
}

static const tarn_binding row = {
    {"merge.methods", "merge.methods() -> list of {name, summary, paper, detail, example, version, tier, base, least, most, params, statistics}",
     "Every merge method as data, in the order of the reference. base is \"required\", \"optional\" or \"none\"; least and most "
     "count the models besides it, most is nil where there is no limit. params is a list of {name, type, default, min, max, choices, "
     "per_model, uniform, doc}: type is number, integer, boolean or choice; default is nil where a value is required; min and max "
     "are nil where there is no bound; uniform parameters have one value for all tensors (no by.…). statistics is a list of {name, of_base, required, doc}: models given beside the others. "
     "`tarn methods` prints them.",
     "for _, row in ipairs(merge.methods()) do\n"
     "  if row.name == \"ties\" then print(row.base, row.params[2].name, row.params[2].default) end\nend\n"
     "-- > required\tdensity\t0.2"}, l_methods};

void tarn_bind_method_rows(tarn_host *h) { tarn_bind_rows(h, "merge", &row, 1); }
