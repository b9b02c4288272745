// SPDX-License-Identifier: Apache-2.0
// What a run would do, from headers alone, and the constructor of whole-model reductions.
#include <stdlib.h>
#include <string.h>

#include "vm/stream/layout.h"

// Bytes of the parts of whole-model reductions that job i is the first to show. seen: [gids + 1].
static uint64_t barrier_bytes(const tarn_job *job, const tarn_layout *l, uint64_t workers,
                              uint64_t members, bool *seen) {
    uint64_t bytes = 0;
    for (int k = 0; k < l->count; k++) {
        const tarn_node *n = job->graph->nodes[k];
        int64_t gid = l->spot[k].kind ? tarn_gid(n) : 0;
        if (gid && !seen[gid]) {
            seen[gid] = true;
            bytes += n->op->reducer->part * (n->op->reducer->exact ? workers : members);
        }
    }
    return bytes;
}

static int64_t largest_gid(int64_t n, const tarn_job *jobs) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k <= jobs[i].root->id; k++) {
            int64_t gid = tarn_gid(jobs[i].graph->nodes[k]);
            most = gid > most ? gid : most;
        }
    }
    return most;
}

tarn_status tarn_stream_plan_of(tarn_context *cx, int64_t n, const tarn_job *jobs,
                                tarn_stream_plan *total, tarn_job_plan *plans, tarn_error *err) {
    memset(total, 0, sizeof *total);
    uint64_t workers = (uint64_t)tarn_pool_size(cx->pool), most = 0, barriers = 0;
    bool *seen = calloc((size_t)largest_gid(n, jobs) + 1, sizeof *seen);
    if (!seen) {
        return tarn_raise_nomem(err, "a plan", 0);
    }
    for (int64_t i = 0; i < n; i++) {
        tarn_layout l;
        tarn_job_plan p = {0};
        tarn_status s = tarn_stream_layout_make(jobs[i].graph, 1, &jobs[i].root, NULL, &l, err);
        if (s != TARN_OK) {
            free(seen);
            return s;
        }
        barriers += barrier_bytes(&jobs[i], &l, workers, (uint64_t)n, seen);
        p.passes = l.passes > 0 ? l.passes : 1;
        bool large = l.largest > TARN_BLOCK || l.whole_bytes > ((uint64_t)1 << 20);
        p.held = l.passes - l.stages > 1 && l.source_bytes <= cx->hold / (large ? 1 : 8);
        p.hold = p.held ? l.source_bytes : 0;
        p.more = l.again && (!p.held || l.stages > 0);
        p.reads = p.held ? l.source_bytes * (uint64_t)(1 + l.stages) : l.reads;
        p.writes = tarn_dtype_bytes(jobs[i].store, tarn_desc_numel(&jobs[i].root->desc));
        p.workspace = l.whole_bytes;
        uint64_t each = l.scratch + l.worker_parts, job = p.hold + p.workspace + l.shared_parts;
        uint64_t here = large ? job + each * workers : (job + each) * workers;
        most = here > most ? here : most;
        total->passes = p.passes > total->passes ? p.passes : total->passes;
        total->barriers = l.stages > total->barriers ? l.stages : total->barriers;
        total->reads += p.reads;
        total->more = total->more || p.more;
        total->writes += p.writes;
        if (plans) {
            plans[i] = p;
        }
        tarn_stream_layout_free(&l);
    }
    free(seen);
    total->peak = most + barriers + ((uint64_t)1 << 20);
    return TARN_OK;
}

const tarn_node *tarn_reduce_global(tarn_graph *g, const tarn_op *op, int nin,
                                    const tarn_node *const *in, int64_t gid, int64_t start,
                                    const tarn_attr *rest) {
    int64_t i[8] = {0, gid};
    double f[8];
    int ni = 2, nf = 0;
    for (int k = 2; rest && k < rest->ni && k < 8; k++) {
        i[ni++] = rest->i[k];
    }
    for (int k = 0; rest && k < rest->nf && k < 7; k++) {
        f[nf++] = rest->f[k];
    }
    f[nf++] = (double)start;
    tarn_attr a = {.ni = ni, .i = i, .nf = nf, .f = f};
    return tarn_node_make(g, op, nin, in, &a);
}
