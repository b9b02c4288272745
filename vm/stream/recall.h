// SPDX-License-Identifier: Apache-2.0
// What earlier runs of this process found out: norms, dot products, thresholds. A total reduction over
// expressions of files is known by a digest of its expression and of what its files are (device, inode,
// size, time); where its value is remembered, the run begins with it as a tensor in memory, and what would
// have been read for it is not. So the points of a sweep share what they have in common, whoever wrote it.
// Values are the same to the bit: a reduction has one result. Private to vm/stream.
#ifndef TARN_STREAM_RECALL_H
#define TARN_STREAM_RECALL_H

#include "vm/stream/stream.h"

// A reduction of one job that is to be remembered.
typedef struct tarn_recall_one {
    int64_t job;
    int node;  // of the job's graph
    tarn_known_key key;
} tarn_recall_one;

typedef struct tarn_recall {
    const tarn_job *jobs;  // [njobs] with what is known in place
    tarn_job *own;         // NULL: the jobs as they were given
    tarn_recall_one *one;  // [n] in the order of jobs and nodes
    int64_t n, room;
    tarn_known_key *gid;    // [gids + 1] of whole-model reductions
    bool *has_gid;         // [gids + 1]
    int64_t gids;
} tarn_recall;

tarn_status tarn_recall_open(tarn_context *cx, int64_t n, const tarn_job *jobs, tarn_recall *r, tarn_error *err);
void tarn_recall_close(tarn_recall *r);
// The value of a reduction of a job, or of a whole-model one.
void tarn_recall_keep(tarn_context *cx, const tarn_recall *r, int64_t job, int node, const double out[4]);
void tarn_recall_keep_global(tarn_context *cx, const tarn_recall *r, int64_t gid, const double out[4]);

#endif
