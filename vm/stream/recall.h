// SPDX-License-Identifier: Apache-2.0
// What earlier runs of this process found out: norms, dot products, thresholds. A total reduction over
// expressions of files is known by a digest of its expression and of what its files are (device, inode,
// size, time); where its value is remembered, the run begins with it as a tensor in memory, and what would
// have been read for it is not. So the points of a sweep share what they have in common, whoever wrote it.
// Values are the same to the bit: a reduction has one result. Private to vm/stream.
#ifndef TARN_STREAM_RECALL_H
#define TARN_STREAM_RECALL_H

#include "vm/stream/layout.h"

struct tarn_runner;

// A reduction of one unit (that begins with `job`) that is to be remembered; nodes are counted with what is known
// in place.
typedef struct tarn_recall_one {
    int64_t job;
    int node;
    tarn_known_key key;
} tarn_recall_one;

// One that was known when the run began; nodes are counted as the unit was given or made.
typedef struct tarn_recall_given {
    int64_t job;
    int node;
    double value[4];
} tarn_recall_given;

// A whole-model reduction. It has a key when all its contributions have one.
typedef struct tarn_recall_gid {
    tarn_known_key row, key;  // what its nodes have in common; what it is
    bool keyed, waits, never;  // some contribution has no key yet, or will have none
} tarn_recall_gid;

typedef struct tarn_recall {
    bool any;              // some job reduces, and the run remembers
    tarn_recall_one *one;  // [n] in the order of jobs and nodes
    int64_t n, room;
    tarn_recall_given *given;  // [ngiven] in the order of jobs and nodes
    int64_t ngiven, given_room;
    tarn_recall_gid *gid;  // [gids + 1]
    int64_t gids;
} tarn_recall;

// Finds the keys of whole-model reductions.
tarn_status tarn_recall_open(struct tarn_runner *r, tarn_error *err);
void tarn_recall_close(tarn_recall *r);
// Finds what is known of a unit, in their order, and puts it in place; the same of one that is made again.
tarn_status tarn_recall_find(struct tarn_runner *r, tarn_unit *u, tarn_error *err);
tarn_status tarn_recall_put(struct tarn_runner *r, tarn_unit *u, tarn_error *err);
// The value of a reduction of a job, or of a whole-model one.
void tarn_recall_keep(tarn_context *cx, const tarn_recall *r, int64_t job, int node, const double out[4]);
void tarn_recall_keep_global(tarn_context *cx, const tarn_recall *r, int64_t gid, const double out[4]);

#endif
