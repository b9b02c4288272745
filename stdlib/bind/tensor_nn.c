// SPDX-License-Identifier: Apache-2.0
// Methods of tensors that networks are made of: softmax and its kin, losses, norms, activations,
// attention, embeddings, dropout. Each is an expression of vm/op/fused.h: recorded and planned where an
// operand is, else computed at once. Names, defaults and meaning are PyTorch's; dimensions count from 1,
// class and token numbers from 0, as data sets store them.
#include <limits.h>
#include <math.h>
#include <string.h>

#include "stdlib/bind/recording.h"
#include "stdlib/bind/tensor.h"
#include "vm/op/fused.h"

// Where the options are: at `at`, or at stack index 2 when they take the place of the first argument.
static int options_at(lua_State *L, int at) {
    return lua_istable(L, 2) && lua_isnoneornil(L, at) ? 2 : at;
}
static int present(lua_State *L, int idx) { return lua_isnoneornil(L, idx) ? 0 : idx; }

static int one(lua_State *L, const char *function, int n, const int *idx, tarn_bind_builder build,
               const void *arg) {
    return tarn_bind_build(L, function, n, idx, 1, build, arg);
}
// A Lua integer at idx becomes an integer tensor of rank 0, with all of its 64 bits.
static void whole(lua_State *L, int idx) {
    tarn_error err;
    if (!lua_isinteger(L, idx)) {
        return;
    }
    lua_Integer v = lua_tointeger(L, idx);
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    tarn_error_clear(&err);
    if (tarn_tensor_new(tarn_host_context(L), TARN_I64, 0, NULL, &u->t, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    memcpy(u->t.storage->data, &v, sizeof v);
    lua_replace(L, idx);
}
#define BUILD(name)                                                                        \
    static void name(tarn_graph *g, const tarn_node *const *x, const void *arg,            \
                     const tarn_node **out)

// ---- softmax and its kin ----

typedef const tarn_node *(*along_axis)(tarn_graph *g, const tarn_node *x, int axis);
typedef struct {
    along_axis f;
    int axis;
} axis_call;
BUILD(build_axis) {
    const axis_call *c = arg;
    out[0] = c->f(g, x[0], c->axis);
}
static int axis_function(lua_State *L, const char *function, along_axis f) {
    tarn_desc d;
    tarn_bind_count(L, function, 2);
    lua_settop(L, 2);
    tarn_bind_desc(L, 1, function, &d);
    lua_Integer dim = lua_isnil(L, 2) ? -1 : tarn_bind_integer(L, 2, function, "a dimension");
    axis_call c = {f, tarn_bind_axis(L, dim, d.rank, function)};
    return one(L, function, 1, (const int[]){1}, build_axis, &c);
}
static int l_softmax(lua_State *L) { return axis_function(L, "tensor:softmax", tarn_softmax); }
static int l_log_softmax(lua_State *L) {
    return axis_function(L, "tensor:log_softmax", tarn_log_softmax);
}
static int l_entropy(lua_State *L) { return axis_function(L, "tensor:entropy", tarn_entropy); }

BUILD(build_logsumexp) {
    const tarn_bind_reduction *r = arg;
    out[0] = tarn_logsumexp(g, x[0], r->n, r->n ? r->i + 2 : NULL, r->i[0] != 0);
}
static int l_logsumexp(lua_State *L) {
    tarn_desc d;
    tarn_bind_reduction r;
    tarn_bind_desc(L, 1, "tensor:logsumexp", &d);
    tarn_bind_read_reduction(L, "tensor:logsumexp", d.rank, &r);
    return one(L, "tensor:logsumexp", 1, (const int[]){1}, build_logsumexp, &r);
}

// ---- losses ----

typedef enum { MEAN, SUM, NONE } reduction;
static reduction read_reduction_option(lua_State *L, int idx, const char *function) {
    static const char *const names[] = {"mean", "sum", "none", NULL};
    const char *s = tarn_lua_opt_string(L, idx, function, "reduction", "mean");
    for (int k = 0; names[k]; k++) {
        if (strcmp(s, names[k]) == 0) {
            return (reduction)k;
        }
    }
    tarn_lua_error(L, "%s: reduction is \"mean\", \"sum\" or \"none\", not \"%s\"", function, s);
    return NONE;
}
// The values as they are, their sum, or their sum over `count` (NULL: over how many there are).
static const tarn_node *reduced(tarn_graph *g, const tarn_node *x, reduction how,
                                const tarn_node *count) {
    if (!x || how == NONE) {
        return x;
    }
    int64_t n = tarn_desc_numel(&x->desc);
    x = tarn_total(g, &tarn_op_sum, x);
    return how == SUM ? x : tarn_div(g, x, count ? count : tarn_num(g, (double)n));
}

typedef struct {
    tarn_ce_options o;
    reduction how;
    bool soft;
} ce_call;
BUILD(build_ce) {
    const ce_call *c = arg;
    const tarn_node *count = NULL;
    if (!c->soft && c->o.has_ignore && c->how == MEAN) {
        const tarn_node *used = tarn_ne(g, x[1], tarn_num(g, (double)c->o.ignore));
        count = tarn_total(g, &tarn_op_sum, used);
    }
    out[0] = c->soft ? tarn_cross_entropy_soft(g, x[0], x[1], c->o.smoothing)
                     : tarn_cross_entropy(g, x[0], x[1], &c->o);
    out[0] = reduced(g, out[0], c->how, count);
}
static int l_cross_entropy(lua_State *L) {
    static const char *const names[] = {"label_smoothing", "ignore_index", "reduction", NULL};
    const char *function = "tensor:cross_entropy";
    tarn_desc x, y;
    tarn_bind_count(L, function, 3);
    lua_settop(L, 3);
    whole(L, 2);
    tarn_bind_desc(L, 1, function, &x);
    tarn_bind_desc(L, 2, function, &y);
    tarn_lua_check_options(L, 3, function, names, false);
    ce_call c = {.how = read_reduction_option(L, 3, function),
                 .soft = tarn_dtype_is_float(tarn_dtype_compute(y.dtype)) && !y.weak};
    c.o.smoothing = tarn_lua_opt_number(L, 3, function, "label_smoothing", 0);
    if (!(c.o.smoothing >= 0 && c.o.smoothing <= 1)) {
        return tarn_lua_error(L, "%s: label_smoothing is a number from 0 to 1", function);
    }
    bool ignores = !lua_isnil(L, 3) && lua_getfield(L, 3, "ignore_index") != LUA_TNIL;
    c.o.has_ignore = !c.soft || ignores;
    c.o.ignore = tarn_lua_opt_integer(L, 3, function, "ignore_index", -100);
    lua_settop(L, 3);
    if (c.soft && !tarn_shape_equal(x.rank, x.shape, y.rank, y.shape)) {
        return tarn_lua_error(L, "%s: labels are %s %s; expected class numbers in an integer dtype "
                              "(:to(\"i64\")), or probabilities of the shape %s", function,
                              tarn_dtype_get(y.dtype)->name, tarn_bind_shape_text(L, y.rank, y.shape),
                              tarn_bind_shape_text(L, x.rank, x.shape));
    }
    if (c.soft && c.o.has_ignore) {
        return tarn_lua_error(L, "%s: ignore_index is for class numbers, not probabilities", function);
    }
    return one(L, function, 2, (const int[]){1, 2}, build_ce, &c);
}

BUILD(build_bce) {
    out[0] = reduced(g, tarn_bce_with_logits(g, x[0], x[1], x[2]), *(const reduction *)arg, NULL);
}
static int l_bce(lua_State *L) {
    static const char *const names[] = {"pos_weight", "reduction", NULL};
    const char *function = "tensor:bce_with_logits";
    tarn_bind_count(L, function, 3);
    lua_settop(L, 3);
    tarn_lua_check_options(L, 3, function, names, false);
    reduction how = read_reduction_option(L, 3, function);
    if (lua_isnil(L, 3)) {
        lua_pushnil(L);
    } else {
        lua_getfield(L, 3, "pos_weight");
    }
    int idx[3] = {1, 2, present(L, 4)};
    return one(L, function, 3, idx, build_bce, &how);
}

BUILD(build_mse) {
    out[0] = reduced(g, tarn_squared_error(g, x[0], x[1]), *(const reduction *)arg, NULL);
}
BUILD(build_kl) { out[0] = reduced(g, tarn_kl_div(g, x[0], x[1]), *(const reduction *)arg, NULL); }
static int pair_loss(lua_State *L, const char *function, tarn_bind_builder build) {
    static const char *const names[] = {"reduction", NULL};
    tarn_bind_count(L, function, 3);
    lua_settop(L, 3);
    tarn_lua_check_options(L, 3, function, names, false);
    reduction how = read_reduction_option(L, 3, function);
    return one(L, function, 2, (const int[]){1, 2}, build, &how);
}
static int l_mse(lua_State *L) { return pair_loss(L, "tensor:mse_loss", build_mse); }
static int l_kl(lua_State *L) { return pair_loss(L, "tensor:kl_div", build_kl); }

// ---- norms ----

BUILD(build_norm) { out[0] = tarn_norm(g, x[0], x[1], x[2], arg); }

static void check_channels(lua_State *L, const char *function, int idx, const char *what,
                           int64_t channels) {
    tarn_desc d;
    if (!present(L, idx)) {
        return;
    }
    tarn_bind_desc(L, idx, function, &d);
    if (tarn_desc_numel(&d) != channels) {
        tarn_lua_error(L, "%s: %s has the shape %s; expected %lld element%s", function, what,
                       tarn_bind_shape_text(L, d.rank, d.shape), (long long)channels,
                       channels == 1 ? "" : "s");
    }
}
// eps: a number, or the option of a table, at idx.
static double read_eps(lua_State *L, int idx, const char *function, const char *const *names, double d) {
    if (lua_type(L, idx) != LUA_TNUMBER) {
        tarn_lua_check_options(L, idx, function, names, false);
        d = tarn_lua_opt_number(L, idx, function, "eps", d);
    } else {
        d = lua_tonumber(L, idx);
    }
    if (!(d >= 0)) {
        tarn_lua_error(L, "%s: eps is a number from 0 on", function);
    }
    return d;
}
// The statistics of each row: over as many last dimensions as w has, or as the option `dims` says.
static int row_norm(lua_State *L, const char *function, bool centred, double eps) {
    static const char *const names[] = {"eps", "dims", NULL};
    int most = centred ? 4 : 3;
    tarn_desc d, w = {.rank = 1};
    tarn_bind_count(L, function, most);
    lua_settop(L, most);
    tarn_bind_desc(L, 1, function, &d);
    tarn_norm_shape n = {.a = 1, .s = 1, .g = 1, .k = 1, .centred = centred};
    n.eps = read_eps(L, most, function, names, eps);
    if (present(L, 2)) {
        tarn_bind_desc(L, 2, function, &w);
    } else if (lua_istable(L, most)) {
        w.rank = (int)tarn_lua_opt_integer(L, most, function, "dims", 1);
    }
    if (w.rank < 1 || w.rank > d.rank ||
        (present(L, 2) && !tarn_shape_equal(w.rank, w.shape, w.rank, d.shape + (d.rank - w.rank)))) {
        return tarn_lua_error(L, "%s: x has the shape %s; expected weights of the shape of its last "
                              "dimensions, or { dims = how many }", function,
                              tarn_bind_shape_text(L, d.rank, d.shape));
    }
    for (int k = 0; k < d.rank; k++) {
        *(k < d.rank - w.rank ? &n.a : &n.k) *= d.shape[k];
    }
    int idx[3] = {1, present(L, 2), centred ? present(L, 3) : 0};
    if (centred) {
        check_channels(L, function, 3, "the bias", n.k);
    }
    return one(L, function, 3, idx, build_norm, &n);
}
static int l_layer_norm(lua_State *L) { return row_norm(L, "tensor:layer_norm", true, 1e-5); }
static int l_rms_norm(lua_State *L) { return row_norm(L, "tensor:rms_norm", false, 1e-6); }

static const char *const eps_names[] = {"eps", NULL};

static int l_group_norm(lua_State *L) {
    const char *function = "tensor:group_norm";
    tarn_desc d;
    tarn_bind_count(L, function, 5);
    lua_settop(L, 5);
    tarn_bind_desc(L, 1, function, &d);
    int64_t groups = tarn_bind_integer(L, 2, function, "groups");
    if (d.rank < 2 || groups < 1 || d.shape[d.rank - 1] % groups != 0) {
        return tarn_lua_error(L, "%s: x [n, .., channels] has the shape %s; %lld groups do not divide its "
                              "channels", function, tarn_bind_shape_text(L, d.rank, d.shape),
                              (long long)groups);
    }
    tarn_norm_shape n = {.a = d.shape[0], .s = 1, .g = groups, .k = d.shape[d.rank - 1] / groups,
                         .centred = true, .eps = read_eps(L, 5, function, eps_names, 1e-5)};
    for (int k = 1; k < d.rank - 1; k++) {
        n.s *= d.shape[k];
    }
    check_channels(L, function, 3, "the weight", n.g * n.k);
    check_channels(L, function, 4, "the bias", n.g * n.k);
    int idx[3] = {1, present(L, 3), present(L, 4)};
    return one(L, function, 3, idx, build_norm, &n);
}

// (x - mean) * (w / sqrt(var + eps)) + b
BUILD(build_batch_norm) {
    const double *eps = arg;
    const tarn_node *r = tarn_unary(g, &tarn_op_rsqrt, tarn_add(g, x[4], tarn_num(g, *eps)));
    r = x[1] ? tarn_mul(g, r, x[1]) : r;
    out[0] = tarn_mul(g, tarn_sub(g, x[0], x[3]), r);
    out[0] = x[2] ? tarn_add(g, out[0], x[2]) : out[0];
}
static int64_t channels_of(lua_State *L, const char *function, tarn_desc *d) {
    tarn_bind_desc(L, 1, function, d);
    if (d->rank < 2) {
        tarn_lua_error(L, "%s: x has the shape %s; expected [.., channels]", function,
                       tarn_bind_shape_text(L, d->rank, d->shape));
    }
    return d->shape[d->rank - 1];
}
static int l_batch_norm(lua_State *L) {
    const char *function = "tensor:batch_norm";
    tarn_desc d;
    tarn_bind_count(L, function, 6);
    lua_settop(L, 6);
    int64_t c = channels_of(L, function, &d);
    static const char *const what[] = {"the weight", "the bias", "the mean", "the variance"};
    for (int k = 0; k < 4; k++) {
        check_channels(L, function, k + 2, what[k], c);
    }
    double eps = read_eps(L, 6, function, eps_names, 1e-5);
    int idx[5] = {1, present(L, 2), present(L, 3), 4, 5};
    return one(L, function, 5, idx, build_batch_norm, &eps);
}

BUILD(build_batch_norm_train) {
    const tarn_norm_shape *n = arg;
    const tarn_node *stats = tarn_norm_stats(g, x[0], n);
    out[0] = tarn_norm(g, x[0], x[1], x[2], n);
    for (int k = 0; k < 2; k++) {
        const tarn_node *part = tarn_reshape(g, tarn_slice(g, stats, 0, k, 1), 1, &n->g);
        out[1 + k] = out[0] ? tarn_cast(g, part, out[0]->desc.dtype) : NULL;
    }
}
static int l_batch_norm_train(lua_State *L) {
    const char *function = "tensor:batch_norm_train";
    tarn_desc d;
    tarn_bind_count(L, function, 4);
    lua_settop(L, 4);
    int64_t c = channels_of(L, function, &d);
    tarn_norm_shape n = {.a = 1, .s = 1, .g = c, .k = 1, .centred = true,
                         .eps = read_eps(L, 4, function, eps_names, 1e-5)};
    for (int k = 0; k < d.rank - 1; k++) {
        n.s *= d.shape[k];
    }
    check_channels(L, function, 2, "the weight", c);
    check_channels(L, function, 3, "the bias", c);
    int idx[3] = {1, present(L, 2), present(L, 3)};
    tarn_bind_build(L, function, 3, idx, 3, build_batch_norm_train, &n);
    lua_pushinteger(L, n.s);
    return 4;
}

// ---- activations ----

static int l_gelu(lua_State *L) {
    tarn_bind_count(L, "tensor:gelu", 2);
    const char *form = luaL_optstring(L, 2, "none");
    bool by_tanh = strcmp(form, "tanh") == 0;
    if (!by_tanh && strcmp(form, "none") != 0) {
        return tarn_lua_error(L, "tensor:gelu: the form is \"none\" (by erf) or \"tanh\", not \"%s\"", form);
    }
    return tarn_bind_unary(L, by_tanh ? &tarn_op_gelu_tanh : &tarn_op_gelu, 1, NULL);
}
BUILD(build_softplus) {
    const double *p = arg;
    out[0] = tarn_softplus(g, x[0], p[0], p[1]);
}
static int l_softplus(lua_State *L) {
    static const char *const names[] = {"beta", "threshold", NULL};
    tarn_bind_count(L, "tensor:softplus", 3);
    lua_settop(L, 3);
    double p[2] = {1, 20};
    if (lua_istable(L, 2)) {
        tarn_lua_check_options(L, 2, "tensor:softplus", names, false);
        p[0] = tarn_lua_opt_number(L, 2, "tensor:softplus", "beta", 1);
        p[1] = tarn_lua_opt_number(L, 2, "tensor:softplus", "threshold", 20);
    } else {
        p[0] = luaL_optnumber(L, 2, 1);
        p[1] = luaL_optnumber(L, 3, 20);
    }
    if (!(p[0] > 0)) {
        return tarn_lua_error(L, "tensor:softplus: beta is a number above 0");
    }
    return one(L, "tensor:softplus", 1, (const int[]){1}, build_softplus, p);
}
BUILD(build_leaky) { out[0] = tarn_leaky_relu(g, x[0], *(const double *)arg); }
static int l_leaky_relu(lua_State *L) {
    tarn_bind_count(L, "tensor:leaky_relu", 2);
    double slope = luaL_optnumber(L, 2, 0.01);
    return one(L, "tensor:leaky_relu", 1, (const int[]){1}, build_leaky, &slope);
}

BUILD(build_dropout) {
    const tarn_node *key = tarn_reshape(g, x[1], 0, &(int64_t){0});
    out[0] = tarn_dropout(g, x[0], key, *(const double *)arg);
}
static int l_dropout(lua_State *L) {
    const char *function = "tensor:dropout";
    tarn_desc key;
    tarn_bind_count(L, function, 3);
    lua_settop(L, 3);
    double p = luaL_checknumber(L, 2);
    if (!(p >= 0 && p <= 1)) {
        return tarn_lua_error(L, "%s: p is a probability, from 0 to 1", function);
    }
    whole(L, 3);
    if (!tarn_bind_to_tensor(L, 3)) {
        return tarn_lua_error(L, "%s: the key is an integer or an integer tensor of one element", function);
    }
    tarn_bind_desc(L, 3, function, &key);
    if (tarn_desc_numel(&key) != 1 || tarn_dtype_compute(key.dtype) != TARN_I64) {
        return tarn_lua_error(L, "%s: the key is %s %s; expected an integer or an integer tensor of one "
                              "element", function, tarn_dtype_get(key.dtype)->name,
                              tarn_bind_shape_text(L, key.rank, key.shape));
    }
    return one(L, function, 2, (const int[]){1, 3}, build_dropout, &p);
}

// ---- attention, rotary positions, embeddings ----

BUILD(build_attention) { out[0] = tarn_attention(g, x[0], x[1], x[2], x[3], arg); }
static int l_attention(lua_State *L) {
    static const char *const names[] = {"causal", "mask", "scale", NULL};
    const char *function = "tensor:attention";
    tarn_desc q;
    tarn_bind_count(L, function, 4);
    lua_settop(L, 4);
    tarn_bind_desc(L, 1, function, &q);
    tarn_lua_check_options(L, 4, function, names, false);
    double size = q.rank > 0 && q.shape[q.rank - 1] > 0 ? (double)q.shape[q.rank - 1] : 1;
    tarn_attention_options o = {.causal = tarn_lua_opt_boolean(L, 4, function, "causal", false),
                                .scale = tarn_lua_opt_number(L, 4, function, "scale", 1 / sqrt(size))};
    if (lua_isnil(L, 4)) {
        lua_pushnil(L);
    } else {
        lua_getfield(L, 4, "mask");
    }
    int idx[4] = {1, 2, 3, present(L, 5)};
    return one(L, function, 4, idx, build_attention, &o);
}

typedef struct {
    int n;  // of turns: the base, and divisors of the pairs
    double *turns;
    bool adjacent, counted;
    int64_t start, places;
} rope_call;
BUILD(build_rope) {
    const rope_call *c = arg;
    const tarn_node *at = c->counted ? tarn_iota(g, c->places) : x[1];
    if (c->counted && c->start != 0) {
        at = tarn_add(g, at, tarn_cast(g, tarn_num(g, (double)c->start), TARN_I64));
    }
    out[0] = tarn_rope(g, x[0], at, c->n, c->turns, c->adjacent);
}
// The base, and the list `factors` behind it.
static void read_turns(lua_State *L, int options, const char *function, rope_call *c) {
    bool some = !lua_isnoneornil(L, options) && lua_getfield(L, options, "factors") != LUA_TNIL;
    if (some && !lua_istable(L, -1)) {
        tarn_lua_error(L, "%s: factors is a list of numbers, one for each pair", function);
    }
    lua_Integer n = some ? luaL_len(L, -1) : 0;
    int list = lua_gettop(L);
    if (n > INT_MAX - 1 || (some && n < 1)) {
        tarn_lua_error(L, "%s: factors has %lld numbers", function, (long long)n);
    }
    luaL_checkstack(L, 4, function);
    c->n = (int)n + 1;
    c->turns = tarn_bind_scratch(L, (size_t)c->n * sizeof *c->turns);
    c->turns[0] = tarn_lua_opt_number(L, options, function, "base", 10000);
    for (int i = 1; i < c->n; i++) {
        lua_rawgeti(L, list, i);
        c->turns[i] = lua_tonumber(L, -1);  // 0, which is refused, where it is none
        lua_pop(L, 1);
    }
}
static int l_rope(lua_State *L) {
    static const char *const names[] = {"base", "style", "factors", NULL};
    const char *function = "tensor:rope";
    tarn_desc d;
    tarn_bind_count(L, function, 3);
    lua_settop(L, 3);
    tarn_bind_desc(L, 1, function, &d);
    int options = options_at(L, 3), at = options == 2 ? 0 : present(L, 2);
    tarn_lua_check_options(L, options, function, names, false);
    rope_call c = {0};
    read_turns(L, options, function, &c);
    const char *style = tarn_lua_opt_string(L, options, function, "style", "halves");
    c.adjacent = strcmp(style, "adjacent") == 0;
    if (!c.adjacent && strcmp(style, "halves") != 0) {
        return tarn_lua_error(L, "%s: style is \"halves\" or \"adjacent\", not \"%s\"", function, style);
    }
    if (at == 0 || lua_type(L, at) == LUA_TNUMBER) {
        c.start = at ? tarn_bind_integer(L, at, function, "the first position") : 0;
        c.counted = true;
        c.places = d.rank > 1 ? d.shape[d.rank - 2] : 0;
        at = 0;
    }
    return one(L, function, 2, (const int[]){1, at}, build_rope, &c);
}

BUILD(build_embedding) {
    (void)arg;
    out[0] = tarn_embedding(g, x[0], x[1]);
}
static int l_embedding(lua_State *L) {
    tarn_bind_count(L, "tensor:embedding", 2);
    lua_settop(L, 2);
    whole(L, 2);
    return one(L, "tensor:embedding", 2, (const int[]){1, 2}, build_embedding, NULL);
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor:softmax", "t:softmax(dim) -> tensor", "exp(t) / sum(exp(t)) along dim (the last when left out), without overflow. Nothing but -infinity gives NaN.",
      "print(tensor { 0, 0 }:softmax())\n-- > f32[2]\n-- > [0.5000, 0.5000]"}, l_softmax},
    {{"tensor:log_softmax", "t:log_softmax(dim) -> tensor", "log(softmax(t)) along dim (the last when left out), without overflow.",
      "print(tensor { 0, 0 }:log_softmax()[1] + math.log(2) < 1e-6)\n-- > true"}, l_log_softmax},
    {{"tensor:logsumexp", "t:logsumexp(dim, {keepdim = false}) -> tensor or number", "log(sum(exp(t))) over all elements or over dimensions, without overflow.",
      "print(tensor { 1000, 1000 }:logsumexp() - 1000 - math.log(2) < 1e-6)\n-- > true"}, l_logsumexp},
    {{"tensor:entropy", "t:entropy(dim) -> tensor or number", "The entropy, in nats, of softmax(t) along dim (the last when left out): of the prediction that the logits t stand for.",
      "print(math.abs(tensor { 0, 0 }:entropy() - math.log(2)) < 1e-6)\n-- > true"}, l_entropy},
    {{"tensor:cross_entropy", "logits:cross_entropy(labels, {label_smoothing = 0, ignore_index = -100, reduction = \"mean\"}) -> tensor or number",
      "The cross entropy of logits [.., classes] with labels: integers [..], class numbers from 0 as data sets store them, or class probabilities of the shape of "
      "the logits. Smoothing e puts 1 - e on the label and e / classes on every class. Rows whose label is ignore_index count as 0, and \"mean\" divides by the "
      "number of the others (by all rows for probabilities). reduction: \"mean\", \"sum\" or \"none\" (one value for each row). A label outside the classes is an error.",
      "local labels = tensor({ 0, 1 }, { dtype = \"i64\" })\nprint(tensor { {9, -9}, {-9, 9} }:cross_entropy(labels) < 1e-6)\n-- > true"}, l_cross_entropy},
    {{"tensor:bce_with_logits", "x:bce_with_logits(y, {pos_weight =, reduction = \"mean\"}) -> tensor or number",
      "The binary cross entropy of logits x with y in [0, 1], element by element; pos_weight weighs the part of y.",
      "print(math.abs(tensor { 0, 0 }:bce_with_logits(tensor { 0, 1 }) - math.log(2)) < 1e-6)\n-- > true"}, l_bce},
    {{"tensor:mse_loss", "x:mse_loss(y, {reduction = \"mean\"}) -> tensor or number", "(x - y)^2, as its mean, its sum or (\"none\") each.",
      "print(tensor { 1, 2 }:mse_loss(tensor { 1, 4 }))\n-- > 2.0"}, l_mse},
    {{"tensor:kl_div", "x:kl_div(y, {reduction = \"mean\"}) -> tensor or number", "KL(softmax(x) || softmax(y)) of logits along the last dimension, in nats; "
      "\"mean\" is over rows.", "print(tensor { 1, 2 }:kl_div(tensor { 1, 2 }))\n-- > 0.0"}, l_kl},
    {{"tensor:layer_norm", "x:layer_norm(w, b, eps = 1e-5) -> tensor", "(x - mean) / sqrt(var + eps) * w + b with mean and (biased) variance over as many last dimensions as w has. "
      "w and b may be nil: x:layer_norm(nil, nil, { dims = 1, eps = 1e-5 }).",
      "print(tensor { -1, 1 }:layer_norm(tensor { 2, 2 }, tensor { 1, 1 }, 0))\n-- > f32[2]\n-- > [-1.,  3.]"}, l_layer_norm},
    {{"tensor:rms_norm", "x:rms_norm(w, eps = 1e-6) -> tensor", "x / sqrt(mean(x^2) + eps) * w with the mean over as many last dimensions as w has; w may be nil: x:rms_norm(nil, { dims = 1, eps = 1e-6 }).",
      "print(tensor { -3, 3 }:rms_norm(tensor { 1, 2 }, 0))\n-- > f32[2]\n-- > [-1.,  2.]"}, l_rms_norm},
    {{"tensor:group_norm", "x:group_norm(groups, w, b, eps = 1e-5) -> tensor", "x [n, .., channels] normalised in each group of adjacent channels of each example, then * w + b by channel; w and b may be nil.",
      "print(tensor { {-1, 1, -2, 2} }:group_norm(2, nil, nil, 0))\n-- > f32[1, 4]\n-- > [[-1.,  1., -1.,  1.]]"}, l_group_norm},
    {{"tensor:batch_norm", "x:batch_norm(w, b, mean, var, eps = 1e-5) -> tensor", "(x - mean) / sqrt(var + eps) * w + b by channel (the last dimension) with given mean and variance: the form of evaluation. w and b may be nil.",
      "local one = tensor { 1 }\nprint(tensor { {3}, {5} }:batch_norm(one, nil, one, one * 4, 0))\n-- > f32[2, 1]\n-- > [[1.],\n-- >  [2.]]"}, l_batch_norm},
    {{"tensor:batch_norm_train", "x:batch_norm_train(w, b, eps = 1e-5) -> y, mean, var, n", "Normalised by the mean and the biased variance of each channel (the last dimension) over all others; both are returned, with the number of elements of a channel, n "
      "(the unbiased variance is var * n / (n - 1)). w and b may be nil.",
      "local y, mean, var, n = tensor { {3}, {5} }:batch_norm_train(nil, nil, 0)\nprint(mean, var, n)\n-- > f32[1]\n-- > [4.]\tf32[1]\n-- > [1.]\t2"}, l_batch_norm_train},
    {{"tensor:gelu", "x:gelu(form = \"none\") -> tensor", "x times the standard normal distribution function at x; \"tanh\" is the approximation by tanh.",
      "print(tensor { 0 }:gelu(), tensor { 0 }:gelu(\"tanh\"))\n-- > f32[1]\n-- > [0.]\tf32[1]\n-- > [0.]"}, l_gelu},
    {{"tensor:softplus", "x:softplus(beta = 1, threshold = 20) -> tensor", "log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.",
      "print(tensor { 0 }:softplus()[1] - math.log(2) < 1e-6)\n-- > true"}, l_softplus},
    {{"tensor:leaky_relu", "x:leaky_relu(slope = 0.01) -> tensor", "x where it is above 0, else slope * x.", "print(tensor { -2, 3 }:leaky_relu(0.5))\n-- > f32[2]\n-- > [-1.,  3.]"}, l_leaky_relu},
    {{"tensor:dropout", "x:dropout(p, key) -> tensor", "Zero with probability p, else x / (1 - p). Which elements go follows from the key (an integer, or an integer tensor of one element) and their place alone: "
      "the same key drops the same.", "local x = tensor { 1, 2, 3, 4 }\nprint(tensor.equal(x:dropout(0.5, 7), x:dropout(0.5, 7)), tensor.equal(x:dropout(0, 7), x))\n-- > true\ttrue"}, l_dropout},
    {{"tensor:attention", "q:attention(k, v, {causal = false, mask =, scale = 1 / sqrt(size)}) -> tensor",
      "softmax(scale q k^T + mask) v for each head: q [.., heads, T, size], k and v [.., heads of k, S, size], where heads is a multiple of the heads of k (grouped queries: each head of k serves adjacent heads of q). "
      "causal: query i sees the keys up to i. mask: bool (true: seen) or a float that is added, of a shape that stretches to [.., heads, T, S]. A query that sees nothing gets zeros. "
      "Scores are computed for 64 queries at a time and never stored. Tier B.",
      "local x = tensor { {1, 0}, {0, 1} }:reshape { 1, 2, 2 }\nprint(x:attention(x, x, { causal = true })[{ 1, 1 }])\n-- > f32[2]\n-- > [1., 0.]"}, l_attention},
    {{"tensor:rope", "x:rope(positions = 0, {base = 10000, style = \"halves\", factors =}) -> tensor",
      "Rotary positions: pair i of the last dimension of x [.., T, size] is turned by position * base^(-2 i / size). positions: the first one (they count up), or a tensor of T. "
      "\"halves\" pairs (i, i + size / 2), as in Llama files; \"adjacent\" pairs (2 i, 2 i + 1). factors: a number for each pair that its angle is divided by, for contexts "
      "longer than those of training.",
      "print(tensor { {1, 0}, {1, 0} }:rope()[1])\n-- > f32[2]\n-- > [1., 0.]"}, l_rope},
    {{"tensor:embedding", "w:embedding(index) -> tensor", "Rows of the table w [n, size] by their numbers from 0 (token numbers, as data sets store them): index [..] gives [.., size]. A number outside is an error.",
      "print(tensor { {1, 2}, {3, 4} }:embedding(tensor({ 1, 0 }, { dtype = \"i64\" })))\n-- > f32[2, 2]\n-- > [[3., 4.],\n-- >  [1., 2.]]"}, l_embedding},
};
// clang-format on

void tarn_bind_tensor_nn(tarn_host *h) {
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
}
