// SPDX-License-Identifier: Apache-2.0
// The axis tracer for the library: while a network is recorded, what its graph says of parameters and of
// values inside it, as a table. Nothing of the recording is computed, and nothing here knows a network.
#include "stdlib/bind/align.h"

#include <string.h>

#include "stdlib/bind/align_assign.h"
#include "stdlib/bind/align_zip.h"
#include "stdlib/bind/recording.h"
#include "vm/op/symmetry.h"

static void release_axes(void *self) {
    tarn_axes *t = self;
    if (t->slot) {
        tarn_axes_free(t);
    }
}

// Nodes of the tensors in the list at idx, in memory that is pushed.
static const tarn_node **nodes_of(lua_State *L, int idx, tarn_graph *g, int *n) {
    *n = (int)lua_rawlen(L, idx);
    const tarn_node **node = tarn_bind_scratch(L, ((size_t)*n + 1) * sizeof *node);
    for (int k = 0; k < *n; k++) {
        lua_rawgeti(L, idx, k + 1);
        node[k] = tarn_bind_node(L, lua_gettop(L), g);
        lua_pop(L, 1);
    }
    return node;
}

// Pushes the axis as a list of segments: {offset =, size =, dual =, {size =, class =, dual =}, …}.
static void push_axis(lua_State *L, const tarn_axis_view *v) {
    lua_createtable(L, v->segments, 0);
    for (int k = 0; k < v->segments; k++) {
        const tarn_segment *s = &v->segment[k];
        bool dual = false, seen = false;
        lua_createtable(L, s->n, 3);
        for (int i = 0; i < s->n; i++) {
            const tarn_factor *f = &v->factor[s->first + i];
            lua_createtable(L, 0, 3);
            tarn_bind_set_integer(L, "size", f->size);
            if (f->id >= 0) {
                tarn_bind_set_integer(L, "class", f->id + 1);
                lua_pushboolean(L, f->dual);
                lua_setfield(L, -2, "dual");
                dual = seen ? dual : f->dual;
                seen = true;
            }
            lua_rawseti(L, -2, i + 1);
        }
        tarn_bind_set_integer(L, "offset", s->offset);
        tarn_bind_set_integer(L, "size", s->size);
        lua_pushboolean(L, dual);
        lua_setfield(L, -2, "dual");
        lua_rawseti(L, -2, k + 1);
    }
}

// Sets element k of the table on top to the axes of a node.
static void set_axes(lua_State *L, const tarn_symmetry *s, const tarn_node *n, int k) {
    tarn_axis_view v;
    lua_createtable(L, n->desc.rank, 0);
    for (int d = 0; d < n->desc.rank; d++) {
        tarn_symmetry_axis(s, n, d, &v);
        push_axis(L, &v);
        lua_rawseti(L, -2, d + 1);
    }
    lua_rawseti(L, -2, k + 1);
}

static void push_classes(lua_State *L, const tarn_symmetry *s) {
    lua_createtable(L, s->n, 0);
    for (int k = 0; k < s->n; k++) {
        const tarn_symmetry_class *c = &s->classes[k];
        lua_createtable(L, 0, 4);
        tarn_bind_set_integer(L, "size", c->size);
        tarn_bind_set_text(L, "kind", tarn_group_name(c->group));
        lua_pushboolean(L, c->anchored);
        lua_setfield(L, -2, "anchored");
        lua_createtable(L, c->nunder, 0);
        for (int i = 0; i < c->nunder; i++) {
            lua_pushinteger(L, c->under[i] + 1);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "under");
        lua_rawseti(L, -2, k + 1);
    }
}

// Leaves and what is made of nothing (positions, random numbers) that are no parameters.
static const tarn_node **constants(lua_State *L, tarn_graph *g, int nparams, const tarn_node *const *params, int *n) {
    const tarn_node **pinned = tarn_bind_scratch(L, (size_t)g->count * sizeof *pinned);
    unsigned char *moves = tarn_bind_scratch(L, (size_t)g->count);
    for (int k = 0; k < nparams; k++) {
        moves[params[k]->id] = 1;
    }
    *n = 0;
    for (int i = 0; i < g->count; i++) {
        if (g->nodes[i]->nin == 0 && !moves[i]) {
            pinned[(*n)++] = g->nodes[i];
        }
    }
    return pinned;
}

// axes({output, …}, {parameter, …}, {value inside, …}) -> {{size =, kind =, anchored =, under = {…}}, …}, axes of
// each parameter, axes of each value. Inside a recording.
static int l_axes(lua_State *L) {
    tarn_graph *g = tarn_bind_recording(L);
    tarn_error err;
    int nroots, nparams, nvalues, npinned;
    if (!g) {
        return tarn_lua_error(L, "axes: nothing is being recorded");
    }
    lua_settop(L, 3);
    luaL_checkstack(L, 24, "axes");
    const tarn_node **roots = nodes_of(L, 1, g, &nroots), **params = nodes_of(L, 2, g, &nparams);
    const tarn_node **values = nodes_of(L, 3, g, &nvalues), **pinned = constants(L, g, nparams, params, &npinned);
    tarn_axes *t = tarn_lua_new(L, "axes", sizeof *t);
    tarn_symmetry s;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_axes_trace(g, nroots, roots, npinned, pinned, t, &err), &err);
    TARN_LUA_TRY(L, tarn_symmetry_of(t, nparams, params, &s, &err), &err);
    push_classes(L, &s);
    lua_createtable(L, nparams, 0);
    for (int k = 0; k < nparams; k++) {
        set_axes(L, &s, params[k], k);
    }
    lua_createtable(L, nvalues, 0);
    for (int k = 0; k < nvalues; k++) {
        set_axes(L, &s, values[k], k);
    }
    tarn_axes_free(t);
    return 3;
}

const luaL_Reg tarn_bind_align_functions[] = {{"axes", l_axes}, {"assign", tarn_bind_align_assign},
                                               {"transport", tarn_bind_align_transport}, {"zip", tarn_bind_align_zip}, {NULL, NULL}};

void tarn_bind_align_types(lua_State *L) {
    static const tarn_lua_class class = {"axes", release_axes, NULL};
    tarn_lua_type(L, &class);
}
