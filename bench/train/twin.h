// SPDX-License-Identifier: Apache-2.0
// Scripts that a benchmark lets do steps: one process each, which lives through all repetitions, says
// "ready", and for each line with a number does that many steps and answers with a line (twin.lua). Who
// measures several lets them take turns and compares neighbours in time.
#ifndef TARN_BENCH_TWIN_H
#define TARN_BENCH_TWIN_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    pid_t pid;
    FILE *to, *from;
    clockid_t clock;
    char said[128];
} twin;

static void die(const char *what) {
    fprintf(stderr, "bench: %s\n", what);
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

static void stop(twin *t) {
    fclose(t->to);
    waitpid(t->pid, NULL, 0);
    fclose(t->from);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

#endif
