// SPDX-License-Identifier: Apache-2.0
// checkpoint(f, …): f(…), of which a derivative keeps only what goes in. See vm/op/checkpoint.c.
#include "stdlib/bind/recording.h"

// What f returns (from idx on) with every recorded tensor behind a checkpoint of what was recorded since `start`.
static void mark(lua_State *L, tarn_graph *g, int idx, int64_t start) {
    const tarn_attr since = {.ni = 1, .i = &start};
    luaL_checkstack(L, 16, "checkpoint");
    lua_newtable(L);
    int list = lua_gettop(L), n = 0;
    lua_pushvalue(L, idx);
    tarn_bind_collect(L, "checkpoint", TARN_RESULTS, list);
    const tarn_bind_part *part = tarn_bind_whole_parts(L, "checkpoint", list, &n);
    const tarn_node **node = tarn_bind_scratch(L, (size_t)n * sizeof *node);
    lua_newtable(L);
    int marked = lua_gettop(L);
    for (int k = 0; k < (int)lua_rawlen(L, list); k++) {
        lua_rawgeti(L, list, k + 1);
        tarn_model *m = part[k].model;
        for (int i = 0; i < part[k].n; i++) {
            const tarn_node *x = m ? tarn_model_recorded(g, m, part[k].slot[i]) : tarn_bind_node(L, -1, g);
            node[part[k].first + i] = tarn_node_make(g, &tarn_op_checkpoint, 1, &x, &since);
        }
        if (g->err.status != TARN_OK) {
            tarn_bind_fail(L, g);
        }
        tarn_bind_push_part(L, &part[k], m ? m->mass : 0, g, node, NULL);
        lua_rawseti(L, marked, k + 1);
        lua_pop(L, 1);
    }
    lua_pushvalue(L, idx);
    tarn_bind_rebuilt(L, "checkpoint", TARN_RESULTS, marked);
    lua_replace(L, idx);
    lua_settop(L, list - 1);
}

static int l_checkpoint(lua_State *L) {
    tarn_bind_check_callable(L, "checkpoint");
    tarn_graph *g = tarn_bind_recording(L);
    int64_t start = g ? g->count : 0;
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    int n = lua_gettop(L);
    for (int k = 1; g && k <= n; k++) {
        mark(L, g, k, start);
    }
    return n;
}

// clang-format off
static const tarn_binding rows[] = {
    {{"checkpoint", "checkpoint(f, …) -> f(…)",
      "Calls f, and inside a recorded function (grad, compile …) notes that derivatives shall compute what happens in f again "
      "instead of keeping it: memory for time, as torch.utils.checkpoint. What f reads, as argument or from outside, and what it "
      "returns is kept. The bits of values and gradients are the same. Around each block of a network it brings "
      "the memory of the activations down to about one block and the values between blocks, for a third more time. It does "
      "not matter what f is, as long as it is pure. Derivatives of the gradient keep what was computed again.",
      "local function block(x) return (x:exp() + 1):log() end\n"
      "local function f(x) return checkpoint(block, checkpoint(block, x)):sum() end\n"
      "print(grad(f, tensor { 0, 1 }))\n-- > f32[2]\n-- > [0.3333, 0.5761]"}, l_checkpoint},
};
// clang-format on

tarn_status tarn_bind_checkpointing(tarn_host *h, tarn_error *err) {
    lua_State *L = tarn_host_state(h);
    (void)err;
    lua_pushcfunction(L, l_checkpoint);
    lua_setglobal(L, "checkpoint");
    tarn_host_docs(h, rows, (int)(sizeof rows / sizeof *rows));
    return TARN_OK;
}
