// SPDX-License-Identifier: Apache-2.0
// tensor.sinkhorn: transport with entropy, as an expression (vm/op/sinkhorn.h).
#include "stdlib/bind/tensor.h"
#include "vm/op/sinkhorn.h"

static void build(tarn_graph *g, const tarn_node *const *x, const void *arg, const tarn_node **out) {
    tarn_sinkhorn_nodes s = tarn_sinkhorn(g, x[0], x[1], x[2], arg);
    out[0] = s.plan;
    out[1] = s.f;
    out[2] = s.g;
}

static int l_sinkhorn(lua_State *L) {
    static const char *const names[] = {"reg", "iterations", "tolerance", "a", "b", NULL};
    static const char f[] = "tensor.sinkhorn";
    tarn_bind_count(L, f, 2);
    lua_settop(L, 2);
    tarn_lua_check_options(L, 2, f, names, false);
    tarn_sinkhorn_options o = {.reg = tarn_lua_opt_number(L, 2, f, "reg", 1),
                               .iterations = tarn_lua_opt_integer(L, 2, f, "iterations", 1000),
                               .tolerance = tarn_lua_opt_number(L, 2, f, "tolerance", 1e-9)};
    int idx[3] = {1, 0, 0};
    for (int k = 1; k < 3 && !lua_isnil(L, 2); k++) {
        if (lua_getfield(L, 2, names[k + 2]) != LUA_TNIL) {
            idx[k] = lua_gettop(L);
        }
    }
    return tarn_bind_build(L, f, 3, idx, 3, build, &o);
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor.sinkhorn", "tensor.sinkhorn(cost [, {reg = 1, a =, b =, iterations = 1000, tolerance = 1e-9}]) -> plan, f, g",
      "Optimal transport with entropy: of all matrices of positive numbers whose rows add up to a and whose columns add up to b the plan has the least sum of "
      "plan * cost + reg * plan * (log(plan) - 1). a [n] and b [m] have equal totals and no zeros; left out, each row adds up to 1 and each column to n / m, so that a square plan is a "
      "soft permutation, which a small reg makes hard. cost is a matrix or a batch [.., n, m]; infinite costs forbid. plan = exp((f + g - cost) / reg) with the potentials f [.., n], of mean 0, and g [.., m]. "
      "Sinkhorn's iteration (Cuturi 2013) in the log domain and in f64, rows then columns, ends after so many rounds or when no row is off by a larger share than tolerance; "
      "columns are exact. The rounds needed grow as 1 / reg. Differentiable to any order by the equations of the limit, so let it converge; a gradient by a and b is one up to a constant, "
      "as their totals are equal.",
      "local plan = tensor.sinkhorn(tensor { {0, 1}, {1, 0} }, { reg = 0.1 })\nprint(plan:round())\n-- > f32[2, 2]\n-- > [[1., 0.],\n-- >  [0., 1.]]"}, l_sinkhorn},
};
// clang-format on

void tarn_bind_tensor_sinkhorn(tarn_host *h) {
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
}
