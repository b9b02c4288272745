// SPDX-License-Identifier: Apache-2.0
// Which nodes are computed together. Nodes are taken in order; an element-wise node joins the group
// that makes an operand, if all else it needs is there before that group runs, or a group that
// reads the same memory, else it opens one. A group stands where it was opened, so order needs no
// further thought. Afterwards nodes that only a later group reads sink into that group where this
// moves no more bytes through memory: the slopes of a backward pass are computed where they are
// used.
#include <string.h>

#include "vm/base/size.h"
#include "vm/op/exec_parts.h"

bool tarn_exec_tiled(const exec_maker *m, const tarn_node *n) {
    return n->op->cls == TARN_CLASS_POINT ||
           (n->op->cls == TARN_CLASS_VIEW && !m->layout[n->id]);
}

bool tarn_exec_streams(const exec_maker *m, const tarn_node *x, const tarn_node *n) {
    int origin = m->stream[x->id];
    return n->op->cls == TARN_CLASS_POINT && origin >= 0 && m->numel[x->id] == m->numel[n->id] &&
           m->phase[x->id] == m->phase[n->id] && m->step[origin] == m->step[n->id];
}

static tarn_status nomem(exec_maker *m) {
    return tarn_raise_nomem(m->err, "a recorded function", (size_t)m->count * 64);
}

static void contiguous(const tarn_desc *d, tarn_tensor *t) {
    memset(t, 0, sizeof *t);
    t->dtype = d->dtype;
    t->weak = d->weak;
    t->rank = d->rank;
    memcpy(t->shape, d->shape, sizeof t->shape);
    int64_t step = tarn_desc_numel(d) > 0 ? 1 : 0;
    for (int k = d->rank - 1; k >= 0; k--) {
        t->stride[k] = step;
        step *= d->shape[k];
    }
}

static bool set_layout(exec_maker *m, int id, const tarn_tensor *t) {
    tarn_tensor *copy = tarn_arena_copy(m->a, t, sizeof *t);
    if (copy) {
        copy->storage = NULL;
    }
    m->layout[id] = copy;
    return copy != NULL;
}

static int open_step(exec_maker *m, const tarn_node *n, bool group) {
    m->proto[m->nproto] = (exec_proto){m->phase[n->id], group ? NULL : n, m->numel[n->id], 0};
    return m->nproto++;
}

static bool fits(const exec_maker *m, int step, int least, const tarn_node *n) {
    return step >= least && !m->proto[step].node && m->proto[step].numel == m->numel[n->id] &&
           m->proto[step].phase == m->phase[n->id];
}

// small[numel]: the last group over so few elements, by phase.
static void join(exec_maker *m, const tarn_node *n, int *small) {
    int least = 0, home = -1;
    bool point = n->op->cls == TARN_CLASS_POINT;
    for (int k = 0; k < n->nin; k++) {
        int x = n->in[k]->id, origin = m->stream[x];
        if (m->step[x] < 0 || m->phase[x] != m->phase[n->id]) {
            continue;  // there before anything runs
        }
        if (point && origin >= 0 && m->numel[x] == m->numel[n->id]) {
            if (m->step[origin] >= least) {
                least = home = m->step[origin];
            }
        } else if (m->step[x] >= least) {
            least = m->step[x] + 1;
            home = -1;
        }
    }
    for (int k = 0; home < 0 && k < n->nin; k++) {
        int seen = m->seen[m->holder[n->in[k]->id]];
        home = seen >= 0 && fits(m, seen, least, n) ? seen : -1;
    }
    int *last = m->numel[n->id] <= TARN_TILE
                    ? &small[(m->phase[n->id] - 1) * (TARN_TILE + 1) + m->numel[n->id]]
                    : NULL;
    if (home < 0 && last && *last >= 0 && fits(m, *last, least, n)) {
        home = *last;
    }
    home = home < 0 ? open_step(m, n, true) : home;
    if (last) {
        *last = home;
    }
    m->step[n->id] = home;
    m->stream[n->id] = n->id;
    m->proto[home].members++;
    for (int k = 0; k < n->nin; k++) {
        if (!tarn_exec_streams(m, n->in[k], n) && m->numel[n->in[k]->id] > 1) {
            m->seen[m->holder[n->in[k]->id]] = home;
        }
    }
}

// A view of what is in memory, or of the tiles of a group; false: its elements have to be copied.
static tarn_status look(exec_maker *m, const tarn_node *n, bool *view) {
    const tarn_node *x = n->in[0];
    tarn_tensor in, out;
    if (m->layout[x->id]) {
        in = *m->layout[x->id];
    } else {
        contiguous(&x->desc, &in);
    }
    *view = n->op->view(&in, &n->attr, &n->desc, &out);
    if (!*view) {
        return TARN_OK;
    }
    out.weak = n->desc.weak;
    m->holder[n->id] = m->holder[x->id];
    m->step[n->id] = m->step[x->id];
    m->stream[n->id] =
        n->op->same_order && m->numel[n->id] == m->numel[x->id] ? m->stream[x->id] : -1;
    if (n->op->late) {  // no group that is open already takes what is made of it
        m->step[n->id] = m->nproto - 1;
        m->stream[n->id] = -1;
    }
    return set_layout(m, n->id, &out) ? TARN_OK : nomem(m);
}

static tarn_status leaf(exec_maker *m, const tarn_node *n) {
    const tarn_tensor *t = m->input[n->id] < 0 ? tarn_node_tensor(n) : NULL;
    tarn_tensor plain;
    if (!t) {
        contiguous(&n->desc, &plain);
        t = &plain;
    }
    if (!set_layout(m, n->id, t)) {
        return nomem(m);
    }
    m->layout[n->id]->offset = 0;  // bases begin where the tensor does
    return TARN_OK;
}

static tarn_status assign(exec_maker *m, int *small) {
    for (int id = 0; id < m->count; id++) {
        const tarn_node *n = m->g->nodes[id];
        if (!m->phase[id]) {
            continue;
        }
        m->numel[id] = tarn_desc_numel(&n->desc);
        m->holder[id] = id;
        bool view = false;
        switch (n->op->cls) {
        case TARN_CLASS_LEAF:
            TARN_TRY(leaf(m, n));
            break;
        case TARN_CLASS_VIEW:
            TARN_TRY(look(m, n, &view));
            if (!view) {
                join(m, n, small);
            }
            break;
        case TARN_CLASS_POINT:
            join(m, n, small);
            break;
        case TARN_CLASS_REDUCE:
        case TARN_CLASS_WHOLE:
        default:
            m->step[id] = open_step(m, n, false);
            m->proto[m->step[id]].members = 1;
        }
    }
    return TARN_OK;
}

// What is made can be counted in bytes, all of it together: sums of sizes are not checked after this.
static tarn_status check_sizes(const exec_maker *m) {
    const uint64_t most = (uint64_t)1 << 61;
    uint64_t all = 0;
    for (int id = 0; id < m->count; id++) {
        uint64_t bytes = 0;
        if (!m->phase[id] || m->layout[id]) {
            continue;
        }
        if (!tarn_mul_u64((uint64_t)m->numel[id], 8, &bytes) || bytes > most || (all += bytes + 64) > most) {
            TARN_RAISE(m->err, "Overflow", "%s: a tensor of %lld elements has no size in bytes",
                       m->g->nodes[id]->op->name, (long long)m->numel[id]);
        }
    }
    return TARN_OK;
}

// ---- sinking ----

static void count_readers(exec_maker *m) {
    for (int id = 0; id < m->count; id++) {
        const tarn_node *n = m->g->nodes[id];
        bool view = n->op->cls == TARN_CLASS_VIEW && m->layout[id];
        for (int k = 0; m->phase[id] && !view && k < n->nin; k++) {
            if (!tarn_exec_streams(m, n->in[k], n)) {
                m->readers[m->holder[n->in[k]->id]]++;
            }
        }
    }
}

static int64_t bytes_of(const exec_maker *m, int id) {
    return m->numel[id] * tarn_dtype_get(m->g->nodes[id]->desc.dtype)->bits / 8;
}

// The one later group that reads all of n, -1.
static int only_reader(const exec_maker *m, const tarn_node *n) {
    int at = -1;
    for (int u = m->first_user[n->id]; u < m->first_user[n->id + 1]; u++) {
        const tarn_node *user = m->g->nodes[m->user[u]];
        if (user->op->cls != TARN_CLASS_POINT || m->numel[user->id] != m->numel[n->id] ||
            m->phase[user->id] != m->phase[n->id] || (at >= 0 && m->step[user->id] != at)) {
            return -1;
        }
        at = m->step[user->id];
    }
    return at > m->step[n->id] ? at : -1;
}

static void sink(exec_maker *m) {
    for (int id = m->count - 1; id >= 0; id--) {
        const tarn_node *n = m->g->nodes[id];
        if (!m->phase[id] || !tarn_exec_tiled(m, n) || m->is_root[id]) {
            continue;
        }
        int to = only_reader(m, n);
        int64_t cost = 0;
        for (int k = 0; to >= 0 && k < n->nin; k++) {
            int x = m->holder[n->in[k]->id];
            bool again = false;
            for (int j = 0; j < k; j++) {
                again = again || m->holder[n->in[j]->id] == x;
            }
            cost += tarn_exec_streams(m, n->in[k], n) && !again && m->readers[x] == 0
                        ? bytes_of(m, x) : 0;
        }
        if (to < 0 || cost > bytes_of(m, id)) {
            continue;
        }
        for (int k = 0; k < n->nin; k++) {
            m->readers[m->holder[n->in[k]->id]] += tarn_exec_streams(m, n->in[k], n) ? 1 : 0;
        }
        m->proto[m->step[id]].members--;
        m->proto[to].members++;
        m->step[id] = to;
        m->readers[id] = 0;
        for (int k = 0; k < n->nin; k++) {  // what the other group makes already is there as tiles
            m->readers[m->holder[n->in[k]->id]] -= tarn_exec_streams(m, n->in[k], n) ? 1 : 0;
        }
    }
}

static bool list_users(exec_maker *m) {
    size_t count = (size_t)m->count, edges = 0;
    for (size_t i = 0; i < count; i++) {
        edges += m->phase[i] ? (size_t)m->g->nodes[i]->nin : 0;
    }
    m->first_user = tarn_arena_take(m->a, (count + 2) * sizeof *m->first_user);
    m->user = tarn_arena_take(m->a, (edges + 1) * sizeof *m->user);
    if (!m->first_user || !m->user) {
        return false;
    }
    memset(m->first_user, 0, (count + 2) * sizeof *m->first_user);
    for (int pass = 0; pass < 2; pass++) {  // counted two places further: filling moves them by one
        for (int id = 0; id < m->count; id++) {
            for (int k = 0; m->phase[id] && k < m->g->nodes[id]->nin; k++) {
                int x = m->g->nodes[id]->in[k]->id;
                if (pass == 0) {
                    m->first_user[x + 2]++;
                } else {
                    m->user[m->first_user[x + 1]++] = id;
                }
            }
        }
        for (size_t i = 2; pass == 0 && i < count + 2; i++) {
            m->first_user[i] += m->first_user[i - 1];
        }
    }
    return true;
}

tarn_status tarn_exec_group(exec_maker *m, int nroots, const tarn_node *const *roots) {
    enum { SMALL = 2 * (TARN_TILE + 1) };
    int *small = tarn_arena_take(m->a, SMALL * sizeof *small);
    if (!small || !list_users(m)) {
        return nomem(m);
    }
    memset(small, -1, SMALL * sizeof *small);
    TARN_TRY(assign(m, small));
    TARN_TRY(check_sizes(m));
    for (int r = 0; r < nroots; r++) {
        m->is_root[m->holder[roots[r]->id]] = 1;
        m->readers[m->holder[roots[r]->id]]++;
    }
    count_readers(m);
    sink(m);
    return TARN_OK;
}
