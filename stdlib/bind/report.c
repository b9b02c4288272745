// SPDX-License-Identifier: Apache-2.0
// merge.report: what a merge did to every tensor, as a Lua table. stdlib/report.lua makes sense of the
// numbers.
#include "merge/plan/anatomy.h"
#include "stdlib/bind/model.h"

// What is freed whatever happens on the way.
typedef struct {
    tarn_model *m, *stored;
    tarn_anatomy *list;
} holder;

static void release(void *self) {
    holder *h = self;
    if (h->m) {
        tarn_anatomy_free(h->m->cx, h->m, h->list);
    }
    tarn_model_release(h->m);
    tarn_model_release(h->stored);
    *h = (holder){0};
}

// What people call an operand: the input behind it, or the operation that made it.
static void push_label(lua_State *L, const tarn_model *m) {
    while (m->nin == 1) {
        m = m->in[0];
    }
    lua_pushstring(L, m->nin == 0 ? tarn_model_label(m) : tarn_model_title(m));
}

static void push_tensor(lua_State *L, const holder *h, int64_t i) {
    const tarn_anatomy *a = &h->list[i];
    const tarn_slot *s = &h->m->slots[i];
    lua_createtable(L, 0, 8);
    lua_pushlstring(L, s->name, s->len);
    lua_setfield(L, -2, "name");
    tarn_bind_set_integer(L, "numel", tarn_slot_numel(s));
    lua_pushboolean(L, h->stored && tarn_model_find(h->stored, s->name, s->len) < 0);
    lua_setfield(L, -2, "gone");
    if (!a->v) {
        return;
    }
    if (a->based) {
        push_label(L, a->base.model);
        lua_setfield(L, -2, "base");
    }
    lua_createtable(L, a->n, 0);
    for (int k = 0; k < a->n; k++) {
        push_label(L, a->x[k].model);
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "models");
    lua_createtable(L, a->count, 0);
    for (int k = 0; k < a->count; k++) {
        lua_pushnumber(L, a->v[k]);
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "v");
}

void tarn_bind_push_report(lua_State *L, tarn_model *m, const tarn_plan_options *o, tarn_model *stored,
                           bool exact) {
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    tarn_error_clear(&err);
    int top = lua_gettop(L);
    // Compiled when it is first needed: start-up does not pay for it.
    if (tarn_host_load_embedded(tarn_host_of(L), "stdlib/report.lua", &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    holder *h = tarn_lua_new(L, "report holder", sizeof *h);
    h->m = tarn_model_retain(m);
    h->stored = stored ? tarn_model_retain(stored) : NULL;
    if (tarn_model_anatomy(cx, m, o, stored, exact, &h->list, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    lua_newtable(L);
    lua_createtable(L, (int)m->n, 0);
    for (int64_t i = 0; i < m->n; i++) {
        push_tensor(L, h, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "tensors");
    lua_pushboolean(L, exact || !stored);
    lua_setfield(L, -2, "exact");
    tarn_bind_set_text(L, "title", tarn_model_title(m));
    *tarn_bind_new_model(L) = tarn_model_retain(m);
    lua_setfield(L, -2, "model");
    release(h);
    lua_replace(L, top + 2);
    lua_settop(L, top + 2);
    lua_call(L, 1, 1);
}

static int l_report(lua_State *L) {
    static const char *const names[] = {"of", "dtype", "rounding", NULL};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    tarn_lua_check_options(L, 1, "merge.report", names, true);
    lua_rawgeti(L, 1, 1);
    lua_getfield(L, 1, "of");
    tarn_model *m = tarn_bind_to_model(L, 2), *stored = tarn_bind_to_model(L, 3);
    if (!m) {
        return tarn_lua_error(L, "merge.report: expected { model, of =, dtype =, rounding = }, got a %s",
                              tarn_bind_kind(L, 2));
    }
    if (!stored && !lua_isnil(L, 3)) {
        return tarn_lua_error(L, "merge.report: of is a %s, not the saved model", tarn_bind_kind(L, 3));
    }
    tarn_plan_options o = {.has_dtype = tarn_lua_opt_string(L, 1, "merge.report", "dtype", NULL) != NULL};
    o.dtype = tarn_bind_dtype(L, 1, "merge.report", TARN_F32);
    bool exact = tarn_lua_opt_boolean(L, 1, "merge.report", "rounding", true);
    tarn_bind_force(L, "merge.report");
    tarn_bind_push_report(L, m, &o, stored, exact);
    return 1;
}

static const tarn_binding row = {
    {"merge.report", "merge.report { m, of =, dtype =, rounding = true } -> report",
     "What a merge did to every tensor, in numbers: one pass over its inputs (and the passes of the merge). Prints itself as a table; "
     "report:json() is all of it as JSON, report:write(path) a file of that. Fields: tensors, layers and whole, "
     "each a record, in layers and whole summed over their tensors; a tensor that comes from one model alone, is no floating one or has "
     "more than 16 models has compared = false and no numbers. With offsets from the base (the base of the method, "
     "else what the algebra subtracts; without one, of the models themselves):\n"
     "  norm, base_norm, change: 2-norms of the result, of the base, and of the result's offset\n"
     "  ratio: norm over the mean norm of the models: below 1 weights have shrunk\n"
     "  spread: the standard deviation of its entries over the mean one of the models\n"
     "  energy: change squared over the mean of the squared norms of the models' offsets\n"
     "  t: the multiple of the mean offset that fits the result's best (of model stock its t)\n"
     "  conflict: share of the entries that some model moved in which two moved opposite ways\n"
     "  changed: share of the entries that differ from the base\n"
     "  cosines: of the models' offsets to each other\n"
     "  models: for each its label, its size (its own norm), the norm of its offset, its cosine with the result's, share (the multiple of it that the result "
     "holds by projection), kept (of the entries that it moved the share that the result moved the same way), same (the result "
     "is this model)\n"
     "  rounding: changed (share of entries that rounding to the output's dtype changed), lost (of the entries that the merge moved the "
     "share that rounding put back on the base), error (the norm of what rounding did, over change)\n"
     "Options: of = the saved model, whose tensors are then the results (else the plan is run); dtype of the output, as in m:save; rounding "
     "= false leaves the last group out, and with `of` the merge does not run again.",
     "local r = merge.report { merge.model_stock { base = base, a, b } }\n"
     "local w = r.whole\nprint(#r.tensors, w.models[1].model, w.cosines[1][2] > 0, w.t > 0 and w.t < 1)\n"
     "-- > 6\tlow\ttrue\ttrue"}, l_report};

tarn_status tarn_bind_report(tarn_host *h, tarn_error *err) {
    static const tarn_lua_class class = {"report holder", release, NULL};
    lua_State *L = tarn_host_state(h);
    tarn_lua_type(L, &class);
    (void)err;
    tarn_bind_rows(h, "merge", &row, 1);
    return TARN_OK;
}
