// SPDX-License-Identifier: Apache-2.0
// An estimate of the time that a plan takes, on request: everything else that plans say comes from
// headers, this comes from trying.
#ifndef TARN_PLAN_MEASURE_H
#define TARN_PLAN_MEASURE_H

#include "merge/plan/plan.h"

typedef struct tarn_measure {
    double seconds;   // the estimate: the sum of the four below
    double reading;   // what the disk adds to reading inputs that are not in memory
    double running;   // the passes over the data, from memory
    double writing, hashing;
    double read_rate, run_rate, write_rate;  // bytes per second: inputs as they lie, passes, output
    double sampled;   // share of the work whose cost was tried, not scaled
} tarn_measure;

// Reads and computes some of p's jobs and writes a nameless file where `folder` is or would be, for
// about `seconds` (more when the cheapest job alone takes longer). p holds expressions (tarn_plan_make).
tarn_status tarn_plan_measure(tarn_plan *p, const char *folder, double seconds, tarn_measure *out,
                              tarn_error *err);

#endif
