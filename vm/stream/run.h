// SPDX-License-Identifier: Apache-2.0
// One run of jobs, as its parts see it. Private to vm/stream: survey.c looks at each job before the run,
// run.c goes through stages and jobs, job.c through the passes of a job, block.c through the blocks of a pass.
#ifndef TARN_STREAM_RUN_H
#define TARN_STREAM_RUN_H

#include <pthread.h>

#include "vm/stream/program.h"
#include "vm/stream/recall.h"

// A whole-model reduction.
typedef struct tarn_barrier {
    bool done;
    const tarn_node *node;  // one of its nodes: the row and its attributes
    tarn_graph *graph;      // that holds it
    int stage;              // number of whole-model reductions below it, in a chain, and itself
    int64_t total;          // elements over all jobs
    int64_t members;        // jobs that contribute
    int64_t *base;          // [jobs] until it is done: where the job's tensor starts in the whole model
    int64_t *place;         // [jobs] its place among the members by start; -1: contributes nothing
    char *state;
    char *parts;            // per place, or per worker when exact; NULL before and after its stage
    size_t bytes;           // of parts
    bool *opened;
    double out[4];
} tarn_barrier;

typedef struct tarn_runner {
    tarn_context *cx;
    int64_t njobs;
    tarn_job *jobs;             // [njobs] as they were given, with what is known in place; not joined where
                                // there is no room for it
    const tarn_maker *maker;    // of those without a graph
    pthread_mutex_t making;
    const tarn_sink *sink;
    const tarn_stream_options *options;
    tarn_recall recall;
    int nbarriers;   // gids run from 1 to nbarriers
    tarn_barrier *barriers;
    bool *known;     // [nbarriers + 1]
    int stage;       // the stage being run; == stages: the last, which writes
    int stages;
    int64_t *large, *small;  // first jobs of units
    tarn_job_size *side;     // the largest first
    int64_t nlarge, nsmall, nside;
} tarn_runner;

// Fills what a run knows of its jobs: sizes, whole-model reductions, what is remembered of them.
tarn_status tarn_survey(tarn_runner *r, tarn_error *err);
// The unit that begins with job i, with its expressions, which are to be dropped again; fresh: without what is
// known in place.
tarn_status tarn_unit_take(tarn_runner *r, int64_t i, tarn_unit *u, tarn_error *err);
tarn_status tarn_unit_fresh(tarn_runner *r, int64_t i, tarn_unit *u, tarn_error *err);
void tarn_unit_drop(tarn_unit *u);

// A list with room for one more than n elements of so many bytes, in the place of `list`; NULL: no memory.
void *tarn_run_grow(void *list, int64_t n, int64_t *room, size_t size);

// Runs a program over all its elements, in blocks over the pool; pool NULL: on this worker, whose
// number is worker_base. job: the first of its unit.
tarn_status tarn_program_run(tarn_runner *r, int64_t job, tarn_program *p, tarn_pool *pool,
                             int worker_base, tarn_error *err);
// Runs what the current stage asks of a unit; pool NULL: on this worker.
tarn_status tarn_job_run(tarn_runner *r, int64_t job, tarn_pool *pool, int worker, tarn_error *err);
// NonFinite, naming the job, when the stored elements hold NaN or infinity and may not.
tarn_status tarn_check_finite(const tarn_runner *r, int64_t job, tarn_dtype dtype, int64_t n,
                              const void *p, tarn_error *err);

#endif
