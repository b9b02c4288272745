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
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

typedef struct {
    pid_t pid;
    FILE *to, *from;
    clockid_t clock;
    char said[128];
    double ready;  // MB resident
} twin;

static void die(const char *what) {
    fprintf(stderr, "bench_train: %s\n", what);
    exit(1);
}

static double read_clock(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void listen_to(twin *t) {
    if (!fgets(t->said, sizeof t->said, t->from)) {
        die("a script ended early; run it by itself to see why");
    }
    t->said[strcspn(t->said, "\n")] = '\0';
}

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

static twin start(char *const argv[]) {
    int down[2], up[2];
    if (pipe(down) || pipe(up)) {
        die("no pipe");
    }
    fcntl(down[1], F_SETFD, FD_CLOEXEC);  // the end of input has to reach each child
    fcntl(up[0], F_SETFD, FD_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(down[0], 0);
        dup2(up[1], 1);
        close(down[1]);
        close(up[0]);
        execvp(argv[0], argv);
        die(argv[0]);
    }
    close(down[0]);
    close(up[1]);
    twin t = {.pid = pid, .to = fdopen(down[1], "w"), .from = fdopen(up[0], "r")};
    if (pid < 0 || !t.to || !t.from || clock_getcpuclockid(pid, &t.clock)) {
        die("no process");
    }
    listen_to(&t);
    forget_peak(&t);
    t.ready = memory_of(&t, "VmRSS:");
    return t;
}

typedef struct {
    double wall, cpu;  // seconds of one step
} cost;

static cost steps_of(twin *t, int n) {
    double wall = read_clock(CLOCK_MONOTONIC), cpu = read_clock(t->clock);
    fprintf(t->to, "%d\n", n);
    fflush(t->to);
    listen_to(t);
    return (cost){(read_clock(CLOCK_MONOTONIC) - wall) / n, (read_clock(t->clock) - cpu) / n};
}

typedef struct {
    double peak, rise;  // MB
} memory;

static memory stop(twin *t) {
    double peak = memory_of(t, "VmHWM:");
    fclose(t->to);
    waitpid(t->pid, NULL, 0);
    fclose(t->from);
    return (memory){peak, peak - t->ready};
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

static void measure(const options *o, const row *r, const char *threads) {
    char lua[4096], py[4096];
    snprintf(lua, sizeof lua, "%s/%s.lua", o->scripts, r->script);
    snprintf(py, sizeof py, "%s/%s.py", o->scripts, r->script);
    const char *ours[] = {o->tarn, "--quiet", "--threads", threads, lua, r->a, r->b, NULL};
    const char *theirs[] = {o->torch, py, threads, r->a, r->b, NULL};
    const char *pair[] = {o->tarn, "--quiet", "--threads", threads, lua, r->other, r->b, NULL};
    twin a = start((char *const *)(uintptr_t)ours);
    twin b = start((char *const *)(uintptr_t)(r->other ? pair : theirs));
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
    memory m = stop(&a), n = stop(&b);
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
