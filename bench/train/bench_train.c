// SPDX-License-Identifier: Apache-2.0
// How fast training is, as ratios to PyTorch on the same processor in one run. Each row is a script
// of tarn and its twin for PyTorch, one process each, that live through all repetitions and take
// turns: what a row reports are ratios of neighbours in time, minimum and median. The twins print
// what their last step computed, and a row whose twins disagree is marked. A PAIR is two scripts of
// tarn, or one with other arguments: the price of one thing in another. Memory is the most that was
// resident, and how far that rose after the script was ready: data and weights are there by then, and
// most of the library.
//
//   bench_train --torch PYTHON [--tarn build/tarn] [--scripts bench/train] [--runs 9] [--threads 1,2] [--only ROW]
//
// PYTHON is that of a virtual environment with torch. Ratios of processor time are reported beside
// those of wall time: on a busy machine they say more, for one thread.
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/train/twin.h"

enum { RUNS = 64 };

typedef struct {
    const char *name, *script, *a, *b;  // arguments of both scripts
    int steps;                          // in one repetition
    double goal;                        // ratio
    const char *other;                  // a of the other script of a pair, or null: the twin is Python
} row;

static const row rows[] = {
#define ROW(name, script, a, b, steps, goal) {name, script, a, b, steps, goal, NULL},
#define PAIR(name, script, a, other, b, steps, goal) {name, script, a, b, steps, goal, other},
#include "rows.h"
};

typedef struct {
    const char *tarn, *torch, *scripts, *only, *threads;
    int runs;
} options;

// A line of /proc/PID/status, in MB.
static double memory_of(const twin *t, const char *line) {
    char path[64], text[256];
    double kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)t->pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(text, sizeof text, f)) {
        if (strncmp(text, line, strlen(line)) == 0) {
            kb = strtod(text + strlen(line), NULL);
        }
    }
    if (f) {
        fclose(f);
    }
    return kb / 1024;
}

static void forget_peak(const twin *t) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/clear_refs", (int)t->pid);
    FILE *f = fopen(path, "w");
    if (f) {
        fputs("5", f);
        fclose(f);
    }
}

typedef struct {
    double ready, peak, rise;  // MB resident: at the start, at most, and between these
} memory;

static memory ready(const twin *t) {
    forget_peak(t);
    return (memory){.ready = memory_of(t, "VmRSS:")};
}

static void settle(twin *t, memory *m) {
    m->peak = memory_of(t, "VmHWM:");
    m->rise = m->peak - m->ready;
    stop(t);
}

static void measure(const options *o, const row *r, const char *threads) {
    char lua[4096], py[4096];
    snprintf(lua, sizeof lua, "%s/%s.lua", o->scripts, r->script);
    snprintf(py, sizeof py, "%s/%s.py", o->scripts, r->script);
    const char *ours[] = {o->tarn, "--quiet", "--threads", threads, lua, r->a, r->b, NULL};
    const char *theirs[] = {o->torch, py, threads, r->a, r->b, NULL};
    const char *pair[] = {o->tarn, "--quiet", "--threads", threads, lua, r->other, r->b, NULL};
    twin a = start((char *const *)(uintptr_t)ours), b = start((char *const *)(uintptr_t)(r->other ? pair : theirs));
    memory m = ready(&a), n = ready(&b);
    double wall[RUNS], cpu[RUNS], mine[RUNS];
    steps_of(&a, r->steps);
    steps_of(&b, r->steps);
    bool same = true;
    for (int i = 0; i < o->runs; i++) {
        cost x = steps_of(&a, r->steps), y = steps_of(&b, r->steps);
        double p = strtod(a.said, NULL), q = strtod(b.said, NULL);
        same = same && fabs(p - q) <= 1e-3 * fabs(q) + 1e-4;
        wall[i] = x.wall / y.wall;
        cpu[i] = x.cpu / y.cpu;
        mine[i] = x.wall;
    }
    double step = median(mine, o->runs), w = median(wall, o->runs), c = median(cpu, o->runs);
    settle(&a, &m);
    settle(&b, &n);
    printf("%-18s %7s %10.3f ms %7.2f %7.2f %7.2f %7.2f %7.2f %7.0f %7.0f %7.0f %7.0f%s\n", r->name,
           threads, step * 1e3, wall[0], w, cpu[0], c, r->goal, m.peak, n.peak, m.rise, n.rise,
           same ? "" : "  results differ");
    fflush(stdout);
}

int main(int argc, char **argv) {
    options o = {.tarn = "build/tarn", .scripts = "bench/train", .threads = "1,2", .runs = 9};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *v = argv[i + 1];
        if (strcmp(argv[i], "--tarn") == 0) {
            o.tarn = v;
        } else if (strcmp(argv[i], "--torch") == 0) {
            o.torch = v;
        } else if (strcmp(argv[i], "--scripts") == 0) {
            o.scripts = v;
        } else if (strcmp(argv[i], "--only") == 0) {
            o.only = v;
        } else if (strcmp(argv[i], "--threads") == 0) {
            o.threads = v;
        } else if (strcmp(argv[i], "--runs") == 0) {
            o.runs = atoi(v);
        }
    }
    if (!o.torch || o.runs < 1 || o.runs > RUNS) {
        fprintf(stderr, "usage: bench_train --torch PYTHON [--tarn PATH] [--scripts FOLDER] [--runs 9] "
                        "[--threads 1,2] [--only ROW]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    printf("%-18s %7s %13s %7s %7s %7s %7s %7s %7s %7s %7s %7s\n", "row", "threads", "step", "x other",
           "median", "x cpu", "median", "goal", "MB", "other", "rise", "other");
    char *list = strdup(o.threads);
    for (char *t = list ? strtok(list, ",") : NULL; t; t = strtok(NULL, ",")) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            if (!o.only || strcmp(o.only, rows[i].name) == 0) {
                measure(&o, &rows[i], t);
            }
        }
    }
    free(list);
    return 0;
}
