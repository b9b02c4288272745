// SPDX-License-Identifier: Apache-2.0
// Further functions of tensors, each a composition of rows, so that all work on values in memory, on
// planned tensors and inside recorded functions: running sums, picking and adding by index, repeating,
// and Einstein's summation, which is permutations, reshapes and one batched matrix product for each
// further operand.
#include <string.h>

#include "stdlib/bind/tensor.h"

static int axis_at(lua_State *L, int idx, int rank, const char *function) {
    return tarn_bind_axis(L, tarn_bind_integer(L, idx, function, "a dimension"), rank, function);
}

// ---- running sums ----

static int l_cumsum(lua_State *L) {
    const char *f = "tensor:cumsum";
    tarn_desc d;
    int64_t order[TARN_MAX_RANK], from_end = 0;
    tarn_attr a = {.ni = 1, .i = &from_end};
    tarn_bind_desc(L, 1, f, &d);
    int axis = axis_at(L, 2, d.rank, f);
    if (axis == d.rank - 1) {
        return tarn_bind_unary(L, &tarn_op_cumsum, 1, &a);
    }
    for (int k = 0; k < d.rank; k++) {
        order[k] = k;
    }
    order[axis] = d.rank - 1;
    order[d.rank - 1] = axis;
    tarn_bind_permute(L, 1, order);
    tarn_bind_unary(L, &tarn_op_cumsum, -1, &a);
    return tarn_bind_permute(L, -1, order);
}

// ---- filling, picking, adding by index ----

static int l_masked_fill(lua_State *L) {
    static const int idx[3] = {2, 3, 1};
    const char *f = "tensor:masked_fill";
    tarn_desc d, mask, out;
    lua_settop(L, 3);
    tarn_bind_desc(L, 1, f, &d);
    tarn_bind_desc(L, 2, f, &mask);
    if (mask.dtype != TARN_BOOL) {
        return tarn_lua_error(L, "%s: the mask is %s; expected a bool tensor (t:gt(0) makes one)", f,
                              tarn_dtype_get(mask.dtype)->name);
    }
    tarn_bind_apply(L, &tarn_op_where, 3, idx, NULL);
    tarn_bind_desc(L, -1, f, &out);
    if (!tarn_shape_equal(out.rank, out.shape, d.rank, d.shape)) {
        return tarn_lua_error(L, "%s: mask and value make the shape %s of %s; they have to fit into it", f,
                              tarn_bind_shape_text(L, out.rank, out.shape),
                              tarn_bind_shape_text(L, d.rank, d.shape));
    }
    return 1;
}

// The integer tensor at idx, counted from 0, on top; its description in *d.
static void push_index(lua_State *L, int idx, const char *function, tarn_desc *d) {
    tarn_bind_desc(L, idx, function, d);
    if (!tarn_bind_to_tensor(L, idx) || tarn_dtype_get(d->dtype)->kind != TARN_KIND_INT) {
        tarn_lua_error(L, "%s: the index is %s; expected an integer tensor (t:to(\"i64\"))", function,
                       tarn_dtype_get(d->dtype)->name);
    }
    tarn_bind_shift(L, idx, -1);
}

static int l_take_along(lua_State *L) {
    const char *f = "tensor:take_along";
    tarn_desc d, i;
    int64_t x_shape[TARN_MAX_RANK], i_shape[TARN_MAX_RANK];
    tarn_bind_desc(L, 1, f, &d);
    int64_t axis = axis_at(L, 2, d.rank, f);
    push_index(L, 3, f, &i);
    int index = lua_gettop(L);
    if (i.rank != d.rank) {
        return tarn_lua_error(L, "%s: an index of rank %d for a tensor of rank %d; expected the same", f, i.rank,
                              d.rank);
    }
    for (int k = 0; k < d.rank; k++) {
        int64_t n = d.shape[k], m = i.shape[k], both = n == 1 ? m : n;
        if (k != axis && n != m && n != 1 && m != 1) {
            return tarn_lua_error(L, "%s: dimension %d has %lld places, the index %lld", f, k + 1, (long long)n,
                                  (long long)m);
        }
        x_shape[k] = k == axis ? n : both;
        i_shape[k] = k == axis ? m : both;
    }
    int at[2] = {index + 1, index + 2};
    tarn_bind_broadcast(L, 1, d.rank, x_shape);
    tarn_bind_broadcast(L, index, d.rank, i_shape);
    tarn_attr a = {.ni = 1, .i = &axis};
    return tarn_bind_apply(L, &tarn_op_gather, 2, at, &a);
}

// (t, dim, index, src, {alpha = 1})
static int l_index_add(lua_State *L) {
    static const char *const names[] = {"alpha", NULL};
    const char *f = "tensor:index_add";
    tarn_desc d, i, s;
    lua_settop(L, 5);
    tarn_bind_desc(L, 1, f, &d);
    int axis = axis_at(L, 2, d.rank, f);
    tarn_bind_desc(L, 4, f, &s);
    tarn_lua_check_options(L, 5, f, names, false);
    bool scaled = tarn_lua_opt_number(L, 5, f, "alpha", 1) != 1;
    push_index(L, 3, f, &i);
    bool fits = i.rank == 1 && s.rank == d.rank && s.shape[axis] == i.shape[0];
    int64_t shape[TARN_MAX_RANK], to[TARN_MAX_RANK + 1] = {axis};
    for (int k = 0; k < d.rank; k++) {
        fits = fits && (k == axis || s.shape[k] == d.shape[k]);
        shape[k] = k == axis ? i.shape[0] : 1;
        to[k + 1] = d.shape[k];
    }
    if (!fits) {
        return tarn_lua_error(L, "%s: expected a vector of indices and as many slices, of the tensor's shape "
                              "but for dimension %d", f, axis + 1);
    }
    tarn_bind_reshape(L, -1, d.rank, shape);
    tarn_bind_broadcast(L, -1, d.rank, s.shape);
    int index = lua_gettop(L), src = 4;
    if (scaled) {
        lua_getfield(L, 5, "alpha");
        int product[2] = {4, lua_gettop(L)};
        tarn_bind_apply(L, &tarn_op_mul, 2, product, NULL);
        src = lua_gettop(L);
    }
    int in[2] = {index, src};
    tarn_attr a = {.ni = d.rank + 1, .i = to};
    tarn_bind_apply(L, &tarn_op_scatter_add, 2, in, &a);
    int sum[2] = {1, lua_gettop(L)};
    return tarn_bind_apply(L, &tarn_op_add, 2, sum, NULL);
}

// ---- repeating ----

// The counts at idx, one for each of n slices, as an index (from 1) that repeats each slice; pushed.
static void push_repeated(lua_State *L, int idx, int64_t n, const char *f) {
    int64_t total = 0, at = 0;
    tarn_error err;
    if ((int64_t)lua_rawlen(L, idx) != n) {
        tarn_lua_error(L, "%s: %d counts for %lld slices", f, (int)lua_rawlen(L, idx), (long long)n);
    }
    for (int pass = 0; pass < 2; pass++) {
        tarn_lua_tensor *u = NULL;
        if (pass == 1) {
            tarn_lua_account(L, (size_t)total * 8);
            u = tarn_bind_new_tensor(L);
            if (tarn_tensor_new(tarn_host_context(L), TARN_I64, 1, &total, &u->t, &err) != TARN_OK) {
                tarn_lua_raise(L, &err);
            }
        }
        for (int64_t k = 0; k < n; k++) {
            lua_rawgeti(L, idx, k + 1);
            int64_t count = tarn_bind_integer(L, -1, f, "a count");
            lua_pop(L, 1);
            if (count < 0 || __builtin_add_overflow(total, pass == 0 ? count : 0, &total)) {
                tarn_lua_error(L, "%s: count %lld is %lld; expected 0 or more", f, (long long)k + 1,
                               (long long)count);
            }
            for (int64_t c = 0; u && c < count; c++) {
                if (at % TARN_BIND_POLL == 0) {
                    tarn_bind_poll(L);
                }
                ((int64_t *)u->t.storage->data)[at++] = k + 1;
            }
        }
    }
}

static int l_repeat_interleave(lua_State *L) {
    const char *f = "tensor:repeat_interleave";
    tarn_desc d;
    int64_t shape[TARN_MAX_RANK + 1];
    lua_settop(L, 3);
    tarn_bind_desc(L, 1, f, &d);
    if (lua_isnil(L, 3)) {
        int64_t numel = tarn_desc_numel(&d);
        tarn_bind_reshape(L, 1, 1, &numel);
        lua_replace(L, 1);
        tarn_bind_desc(L, 1, f, &d);
        lua_pushinteger(L, 1);
        lua_replace(L, 3);
    }
    int axis = axis_at(L, 3, d.rank, f);
    if (lua_istable(L, 2)) {
        push_repeated(L, 2, d.shape[axis], f);
        return tarn_bind_take(L, 1, axis, -1, f);
    }
    int64_t n = tarn_bind_integer(L, 2, f, "the number of repeats");
    if (n < 0 || __builtin_mul_overflow(d.shape[axis], n, &shape[0])) {
        return tarn_lua_error(L, "%s: %lld repeats; expected 0 or more", f, (long long)n);
    }
    // In the place of axis: [size, 1], stretched to [size, n], seen as [size n].
    if (d.rank == TARN_MAX_RANK) {
        return tarn_lua_error(L, "%s: tensors of at most %d dimensions", f, TARN_MAX_RANK - 1);
    }
    memcpy(shape, d.shape, (size_t)(axis + 1) * sizeof *shape);
    memcpy(shape + axis + 2, d.shape + axis + 1, (size_t)(d.rank - axis - 1) * sizeof *shape);
    shape[axis + 1] = 1;
    tarn_bind_reshape(L, 1, d.rank + 1, shape);
    shape[axis + 1] = n;
    tarn_bind_broadcast(L, -1, d.rank + 1, shape);
    memcpy(shape, d.shape, sizeof d.shape);
    shape[axis] *= n;
    return tarn_bind_reshape(L, -1, d.rank, shape);
}

// ---- Einstein's summation ----

#define EINSUM "tensor.einsum"

enum { LETTERS = 52, LABELS = LETTERS + TARN_MAX_RANK };  // letters, then the dimensions of "..."

typedef struct {
    int at;  // where its value is on the stack
    int n;
    int label[TARN_MAX_RANK];
} term;

typedef struct {
    int64_t size[LABELS];  // 0 or more; -1: not used
    int uses[LABELS];      // how often it stands in the operands
    bool out[LABELS];
    int order[TARN_MAX_RANK], rank;  // of the output
    int dots;                        // dimensions that "..." stands for, at most
} sizes;

static int letter_of(char c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? 26 + c - 'a' : -1;
}
static const char *show_label(int label, char *text) {
    text[0] = label < 26 ? (char)('A' + label) : label < LETTERS ? (char)('a' + label - 26) : '.';
    text[1] = 0;
    return text;
}

static int place_of(const term *t, int label) {
    for (int k = 0; k < t->n; k++) {
        if (t->label[k] == label) {
            return k;
        }
    }
    return -1;
}

// Reads one part of the equation up to ',' or "->" or the end; labels of "..." count from `dots` back.
static const char *read_part(lua_State *L, const char *s, int rank, int number, term *t) {
    int letters = 0, before = -1;
    t->n = 0;
    for (const char *c = s; *c && *c != ',' && *c != '-'; c++) {
        letters += letter_of(*c) >= 0;
    }
    int dots = rank < letters ? 0 : rank - letters;
    for (; *s && *s != ',' && *s != '-'; s++) {
        if (*s == ' ') {
            continue;
        }
        bool is_dots = strncmp(s, "...", 3) == 0;
        if (!is_dots && letter_of(*s) < 0) {
            tarn_lua_error(L, EINSUM ": \"%c\" in the equation; expected letters, \"...\", \",\" and \"->\"", *s);
        }
        if (is_dots && before >= 0) {
            tarn_lua_error(L, EINSUM ": \"...\" twice in part %d", number);
        }
        if (t->n + (is_dots ? dots : 1) > TARN_MAX_RANK) {
            tarn_lua_error(L, EINSUM ": part %d has more than %d dimensions", number, TARN_MAX_RANK);
        }
        if (is_dots) {
            before = t->n;
            for (int k = 0; k < dots; k++) {
                t->label[t->n++] = LABELS - dots + k;
            }
            s += 2;
        } else {
            t->label[t->n++] = letter_of(*s);
        }
    }
    if (t->n != rank) {
        tarn_lua_error(L, EINSUM ": part %d of the equation names %d dimensions; the operand has %d", number, letters,
                       rank);
    }
    return s;
}

static void note_sizes(lua_State *L, const term *t, const tarn_desc *d, int number, sizes *z) {
    char text[2];
    for (int k = 0; k < t->n; k++) {
        int l = t->label[k];
        int64_t *size = &z->size[l];
        if (*size > 1 && d->shape[k] != 1 && d->shape[k] != *size) {
            tarn_lua_error(L, EINSUM ": \"%s\" has %lld places in operand %d, %lld before", show_label(l, text),
                           (long long)d->shape[k], number, (long long)*size);
        }
        *size = *size < 0 || *size == 1 ? d->shape[k] : *size;
        z->uses[l]++;
        z->dots = l >= LETTERS && LABELS - l > z->dots ? LABELS - l : z->dots;
    }
}

static void add_output(sizes *z, int label) {
    z->out[label] = true;
    z->order[z->rank++] = label;
}

// After "->", or all labels used once in the order of letters, "..." first.
static void read_output(lua_State *L, const char *s, sizes *z) {
    char text[2];
    for (int k = 0; !s && k < LABELS; k++) {
        int l = (k + LETTERS) % LABELS;
        if (l < LETTERS ? z->uses[l] == 1 : l >= LABELS - z->dots) {
            if (z->rank == TARN_MAX_RANK) {
                tarn_lua_error(L, EINSUM ": the result has more than %d dimensions", TARN_MAX_RANK);
            }
            add_output(z, l);
        }
    }
    if (!s) {
        return;
    }
    for (; *s; s++) {
        bool is_dots = strncmp(s, "...", 3) == 0;
        int l = is_dots ? LABELS - z->dots : letter_of(*s);
        if (*s == ' ') {
            continue;
        }
        if (l < 0) {
            tarn_lua_error(L, EINSUM ": \"%c\" in the output; expected letters and \"...\"", *s);
        }
        for (int k = 0; k < (is_dots ? z->dots : 1); k++, l++) {
            if (z->uses[l] == 0 || z->out[l] || z->rank == TARN_MAX_RANK) {
                tarn_lua_error(L, EINSUM ": \"%s\" of the output %s", show_label(l, text),
                               z->uses[l] == 0 ? "stands in no operand" : z->out[l] ? "stands there twice"
                                                                                    : "is one dimension too many");
            }
            add_output(z, l);
        }
        s += is_dots ? 2 : 0;
    }
}

// ---- steps on one term: each leaves its value at t->at ----

static void put(lua_State *L, const term *t) { lua_replace(L, t->at); }

static void arrange(lua_State *L, term *t, const int *labels) {
    int64_t order[TARN_MAX_RANK];
    bool same = true;
    for (int k = 0; k < t->n; k++) {
        order[k] = place_of(t, labels[k]);
        same = same && order[k] == k;
    }
    if (!same) {
        tarn_bind_permute(L, t->at, order);
        put(L, t);
        memcpy(t->label, labels, (size_t)t->n * sizeof *labels);
    }
}

// A label named twice: the diagonal, as every (n + 1)-th place of the two dimensions seen as one.
static void take_diagonals(lua_State *L, term *t) {
    for (int i = 0; i < t->n; i++) {
        for (int j = i + 1; j < t->n; j++) {
            if (t->label[i] != t->label[j]) {
                continue;
            }
            tarn_desc d;
            int64_t order[TARN_MAX_RANK], shape[TARN_MAX_RANK], range[3 * TARN_MAX_RANK];
            int labels[TARN_MAX_RANK], rank = 0;
            char text[2];
            tarn_bind_desc(L, t->at, EINSUM, &d);
            int64_t n = d.shape[i];
            if (d.shape[j] != n) {
                tarn_lua_error(L, EINSUM ": \"%s\" stands for %lld and for %lld places of one operand",
                               show_label(t->label[i], text), (long long)n, (long long)d.shape[j]);
            }
            for (int k = 0; k < t->n; k++) {
                if (k != i && k != j) {
                    labels[rank] = t->label[k];
                    shape[rank] = d.shape[k];
                    order[rank++] = k;
                }
            }
            labels[rank] = t->label[i];
            shape[rank] = n * n;
            order[rank] = i;
            order[rank + 1] = j;
            rank++;
            for (int k = 0; k < rank; k++) {
                range[3 * k] = 0;
                range[3 * k + 1] = k == rank - 1 ? n : shape[k];
                range[3 * k + 2] = k == rank - 1 ? n + 1 : 1;
            }
            tarn_bind_permute(L, t->at, order);
            tarn_bind_reshape(L, -1, rank, shape);
            tarn_attr a = {.ni = 3 * rank, .i = range};
            tarn_bind_unary(L, &tarn_op_slice, -1, &a);
            put(L, t);
            lua_pop(L, 2);
            t->n = rank;
            memcpy(t->label, labels, (size_t)rank * sizeof *labels);
            j = i;
        }
    }
}

static void sum_out(lua_State *L, term *t, const bool *gone) {
    int64_t i[TARN_MAX_RANK + 2] = {0, 0};
    int n = 0, left = 0;
    for (int k = 0; k < t->n; k++) {
        if (gone[t->label[k]]) {
            i[2 + n++] = k;
        } else {
            t->label[left++] = t->label[k];
        }
    }
    if (n > 0) {
        tarn_attr a = {.ni = n + 2, .i = i};
        tarn_bind_unary(L, &tarn_op_sum, t->at, &a);
        put(L, t);
        t->n = left;
    }
}

// As [product of the first a dimensions, of the next b, of the rest], places of size 1 stretched.
static void as_matrices(lua_State *L, term *t, const sizes *z, int a, int b) {
    int64_t full[TARN_MAX_RANK], shape[3] = {1, 1, 1};
    for (int k = 0; k < t->n; k++) {
        full[k] = z->size[t->label[k]];
        shape[k < a ? 0 : k < a + b ? 1 : 2] *= full[k];
    }
    tarn_bind_broadcast(L, t->at, t->n, full);
    tarn_bind_reshape(L, -1, 3, shape);
    put(L, t);
    lua_pop(L, 1);
}

static int append(const term *t, const bool *in, bool want, int *labels, int n) {
    for (int k = 0; k < t->n; k++) {
        if (in[t->label[k]] == want) {
            labels[n++] = t->label[k];
        }
    }
    return n;
}

// a takes the place of a times b, summed over what neither the output nor a later operand needs.
static void contract(lua_State *L, term *a, term *b, const sizes *z, const bool *keep) {
    bool gone[LABELS], batch[LABELS] = {false}, summed[LABELS] = {false}, shared[LABELS] = {false};
    int labels[2 * TARN_MAX_RANK], batches = 0, sums = 0;
    for (int l = 0; l < LABELS; l++) {
        shared[l] = place_of(a, l) >= 0 && place_of(b, l) >= 0;
        gone[l] = !shared[l] && !keep[l];
        batch[l] = shared[l] && keep[l];
        summed[l] = shared[l] && !keep[l];
        batches += batch[l];
        sums += summed[l];
    }
    sum_out(L, a, gone);
    sum_out(L, b, gone);
    if (a->n == 0 || b->n == 0) {  // a number times something
        int in[2] = {a->at, b->at};
        tarn_bind_apply(L, &tarn_op_mul, 2, in, NULL);
        put(L, a);
        memcpy(a->label, a->n == 0 ? b->label : a->label, sizeof a->label);
        a->n += b->n;
        return;
    }
    int own_a = a->n - batches - sums, own_b = b->n - batches - sums;
    if (batches + own_a + own_b > TARN_MAX_RANK) {
        tarn_lua_error(L, EINSUM ": a product on the way has more than %d dimensions", TARN_MAX_RANK);
    }
    int n = append(a, batch, true, labels, 0);
    int lead[TARN_MAX_RANK];
    memcpy(lead, labels, (size_t)n * sizeof *lead);
    append(a, summed, true, labels, append(a, shared, false, labels, n));
    arrange(L, a, labels);
    append(b, shared, false, labels, append(a, summed, true, labels, n));
    arrange(L, b, labels);
    term made = {.at = a->at, .n = batches + own_a + own_b};
    memcpy(made.label, lead, (size_t)batches * sizeof *lead);
    memcpy(made.label + batches, a->label + batches, (size_t)own_a * sizeof *lead);
    memcpy(made.label + batches + own_a, b->label + batches + sums, (size_t)own_b * sizeof *lead);
    as_matrices(L, a, z, batches, own_a);
    as_matrices(L, b, z, batches, sums);
    int in[2] = {a->at, b->at};
    // Nothing to sum over: [.., m, 1] times [.., 1, n] element by element, which keeps integers.
    tarn_bind_apply(L, sums == 0 ? &tarn_op_mul : &tarn_op_matmul, 2, in, NULL);
    int64_t shape[TARN_MAX_RANK];
    for (int k = 0; k < made.n; k++) {
        shape[k] = z->size[made.label[k]];
    }
    tarn_bind_reshape(L, -1, made.n, shape);
    *a = made;
    put(L, a);
    lua_pop(L, 1);
}

static int l_einsum(lua_State *L) {
    const char *equation = luaL_checkstring(L, 1), *s = equation;
    int n = lua_gettop(L) - 1;
    luaL_checkstack(L, 16, EINSUM);
    term *t = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *t, 0);
    sizes *z = lua_newuserdatauv(L, sizeof *z, 0);
    memset(z, 0, sizeof *z);
    for (int l = 0; l < LABELS; l++) {
        z->size[l] = -1;
    }
    for (int i = 0; i < n; i++) {
        tarn_desc d;
        tarn_bind_desc(L, i + 2, EINSUM, &d);
        s = read_part(L, s, d.rank, i + 1, &t[i]);
        t[i].at = i + 2;
        note_sizes(L, &t[i], &d, i + 1, z);
        if (i + 1 < n && *s != ',') {
            return tarn_lua_error(L, EINSUM ": \"%s\" has %d part%s for %d operands", equation, i + 1,
                                  i == 0 ? "" : "s", n);
        }
        s += i + 1 < n ? 1 : 0;
    }
    if (n == 0 || *s == ',' || (*s == '-' && s[1] != '>')) {
        return tarn_lua_error(L, EINSUM ": \"%s\" does not fit %d operand%s: one part for each, between commas, "
                              "then \"->\" and the output", equation, n, n == 1 ? "" : "s");
    }
    read_output(L, *s == '-' ? s + 2 : NULL, z);
    for (int i = 0; i < n; i++) {
        take_diagonals(L, &t[i]);
    }
    bool keep[LABELS], gone[LABELS];
    for (int i = 1; i < n; i++) {
        memcpy(keep, z->out, sizeof keep);
        for (int j = i + 1; j < n; j++) {
            for (int k = 0; k < t[j].n; k++) {
                keep[t[j].label[k]] = true;
            }
        }
        contract(L, &t[0], &t[i], z, keep);
    }
    for (int l = 0; l < LABELS; l++) {
        gone[l] = !z->out[l];
    }
    sum_out(L, &t[0], gone);
    arrange(L, &t[0], z->order);
    lua_settop(L, 2);
    return 1;
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor:cumsum", "t:cumsum(dim) -> tensor", "Running sums along dim: each element is the sum of those up to it. Added in order, in f64 (integers stay integers). "
      "It streams along the last dimension of a planned tensor.",
      "print(tensor { 1, 2, 3 }:cumsum(1))\n-- > f32[3]\n-- > [1., 3., 6.]"}, l_cumsum},
    {{"tensor:masked_fill", "t:masked_fill(mask, value) -> tensor", "t with value where the bool tensor mask is true; mask and value stretch to the shape of t.",
      "local t = tensor { 1, -2 }\nprint(t:masked_fill(t:lt(0), 0))\n-- > f32[2]\n-- > [1., 0.]"}, l_masked_fill},
    {{"tensor:take_along", "t:take_along(dim, index) -> tensor", "t:gather(dim, index) where dimensions of size 1, of t or of the integer tensor index, stretch to each other: what "
      "argsort and argmax (kept) name is taken from t.",
      "local t = tensor { {3, 1, 2}, {4, 6, 5} }\nprint(t:take_along(2, t:argsort(2)))\n-- > f32[2, 3]\n-- > [[1., 2., 3.],\n-- >  [4., 5., 6.]]"}, l_take_along},
    {{"tensor:index_add", "t:index_add(dim, index, src, {alpha = 1}) -> tensor", "t with the slices of src, times alpha, added at the places along dim that the integer vector index names (counted "
      "from 1). Places may repeat; additions happen in the order of src.",
      "local i = tensor({ 1, 3, 1 }, { dtype = \"i64\" })\nprint(tensor.zeros(3):index_add(1, i, tensor { 1, 2, 4 }))\n-- > f32[3]\n-- > [5., 0., 2.]"}, l_index_add},
    {{"tensor:repeat_interleave", "t:repeat_interleave(n, dim) -> tensor", "Each slice along dim n times in place; n may be a list with one count for each slice. Without dim t is flattened first.",
      "print(tensor { 1, 2 }:repeat_interleave(2))\n-- > f32[4]\n-- > [1., 1., 2., 2.]\nprint(tensor { 1, 2 }:repeat_interleave({ 1, 3 }, 1))\n-- > f32[4]\n-- > [1., 2., 2., 2.]"}, l_repeat_interleave},
    {{"tensor.einsum", "tensor.einsum(equation, a, b, …) -> tensor or number", "Einstein's summation: each part of the equation names the dimensions of an operand by letters, those of the result stand "
      "behind \"->\"; letters that are not there are summed over. \"...\" stands for further dimensions, which stretch to each other; so do dimensions of size 1. A "
      "letter twice in a part is the diagonal. Without \"->\" the result has \"...\" and then the letters that occur once, in order of letters (capitals first). Operands are contracted from left to right, each by one batched "
      "matrix product (tier B; sums of products of integers become f32).",
      "local a, b = tensor { {1, 2}, {3, 4} }, tensor { {1, 0}, {1, 1} }\nprint(tensor.einsum(\"ij,jk->ik\", a, b))\n-- > f32[2, 2]\n-- > [[3., 2.],\n-- >  [7., 4.]]\n"
      "print(tensor.einsum(\"ii\", a), tensor.einsum(\"ij->j\", a))\n-- > 5.0\tf32[2]\n-- > [4., 6.]"}, l_einsum},
};
// clang-format on

void tarn_bind_tensor_more(tarn_host *h) {
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
}
