// SPDX-License-Identifier: Apache-2.0
// How near a plane of the loss (probe.plane) comes to the matrix products in it: the time of a plane of
// an MLP over 10,000 images, as a ratio to the same products by OpenBLAS alone, and to cells that are
// computed one after the other. The products are called from this program, on as many threads, each with
// cells of its own, chunk by chunk as the loss goes over the data. What is compared takes turns;
// ratios are of neighbours in time.
//
//   bench_plane [--tarn build/tarn] [--scripts bench/train] [--sizes 784-64-32-10] [--points 51] [--runs 5]
//               [--threads 1,2]
//
// For each number of threads a line: seconds of wall and processor time of a plane, then minimum and
// median of the ratios of both times.
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/train/twin.h"

enum { RUNS = 64, LAYERS = 16, IMAGES = 10000, CHUNK = 1000, THREADS = 64 };

typedef void (*sgemm_fn)(int, int, int, int, int, int, float, const float *, int, const float *, int, float,
                         float *, int);

typedef struct {
    int size[LAYERS], n;
    sgemm_fn sgemm;
    float *images;
} network;

typedef struct {
    const network *net;
    int cells;
    pthread_t thread;
} share;

static float *filled(size_t n) {
    float *p = malloc(n * sizeof *p);
    if (!p) {
        die("no memory");
    }
    for (size_t i = 0; i < n; i++) {
        p[i] = (float)(i * 2654435761u % 1000) * 1e-3f - 0.5f;
    }
    return p;
}

// The products of some cells: y = x w' for each chunk and layer.
static void *products(void *arg) {
    const share *s = arg;
    const network *n = s->net;
    float *w[LAYERS], *y[LAYERS];
    for (int l = 0; l + 1 < n->n; l++) {
        w[l] = filled((size_t)n->size[l] * (size_t)n->size[l + 1]);
        y[l] = filled((size_t)CHUNK * (size_t)n->size[l + 1]);
    }
    for (int cell = 0; cell < s->cells; cell++) {
        for (int first = 0; first < IMAGES; first += CHUNK) {
            for (int l = 0; l + 1 < n->n; l++) {
                const float *x = l == 0 ? n->images + (size_t)first * (size_t)n->size[0] : y[l - 1];
                int in = n->size[l], out = n->size[l + 1];
                n->sgemm(101, 111, 112, CHUNK, out, in, 1, x, in, w[l], in, 0, y[l], out);
            }
        }
    }
    for (int l = 0; l + 1 < n->n; l++) {
        free(w[l]);
        free(y[l]);
    }
    return NULL;
}

static cost bare(const network *n, int cells, int threads) {
    share s[THREADS];
    double wall = read_clock(CLOCK_MONOTONIC), cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    for (int t = 0; t < threads; t++) {
        s[t] = (share){.net = n, .cells = cells / threads + (t < cells % threads)};
        if (pthread_create(&s[t].thread, NULL, products, &s[t])) {
            die("no thread");
        }
    }
    for (int t = 0; t < threads; t++) {
        pthread_join(s[t].thread, NULL);
    }
    return (cost){read_clock(CLOCK_MONOTONIC) - wall, read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu};
}

static sgemm_fn open_blas(void) {
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    setenv("OPENBLAS_CORETYPE", avx2 ? "Haswell" : "Prescott", 0);  // as tarn does
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW);
    void *f = lib ? dlsym(lib, "cblas_sgemm") : NULL;
    sgemm_fn sgemm;
    if (!f) {
        die("no OpenBLAS");
    }
    memcpy(&sgemm, &f, sizeof sgemm);
    return sgemm;
}

typedef struct {
    const char *tarn, *scripts, *sizes, *points, *threads;
    int runs;
} options;

typedef struct {
    double wall[RUNS], cpu[RUNS];
} ratios;

static void print_ratios(ratios *r, int n) {
    double wall = median(r->wall, n), cpu = median(r->cpu, n);  // which sorts
    printf("  %6.2f %6.2f %6.2f %6.2f", r->wall[0], wall, r->cpu[0], cpu);
}

static void measure(const options *o, const network *net, const char *threads) {
    char script[4096];
    snprintf(script, sizeof script, "%s/plane.lua", o->scripts);
    const char *cells[] = {o->tarn, "--quiet", "--threads", threads, script, o->sizes, o->points, "cells", NULL};
    const char *serial[] = {o->tarn, "--quiet", "--threads", threads, script, o->sizes, o->points, "serial", NULL};
    twin a = start((char *const *)(uintptr_t)cells), b = start((char *const *)(uintptr_t)serial);
    int points = atoi(o->points), t = atoi(threads);
    double wall[RUNS], cpu[RUNS];
    ratios alone, after;
    for (int i = 0; i < o->runs; i++) {
        cost x = steps_of(&a, 1), y = bare(net, points * points, t), z = steps_of(&b, 1);
        if (strcmp(a.said, b.said) != 0) {
            die("the two planes differ");
        }
        wall[i] = x.wall;
        cpu[i] = x.cpu;
        alone.wall[i] = x.wall / y.wall;
        alone.cpu[i] = x.cpu / y.cpu;
        after.wall[i] = x.wall / z.wall;
        after.cpu[i] = x.cpu / z.cpu;
    }
    stop(&a);
    stop(&b);
    printf("%7s %8.2f %8.2f", threads, median(wall, o->runs), median(cpu, o->runs));
    print_ratios(&alone, o->runs);
    print_ratios(&after, o->runs);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    options o = {.tarn = "build/tarn", .scripts = "bench/train", .sizes = "784-64-32-10", .points = "51",
                 .threads = "1,2", .runs = 5};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *v = argv[i + 1];
        const char **text = strcmp(argv[i], "--tarn") == 0      ? &o.tarn
                            : strcmp(argv[i], "--scripts") == 0 ? &o.scripts
                            : strcmp(argv[i], "--sizes") == 0   ? &o.sizes
                            : strcmp(argv[i], "--points") == 0  ? &o.points
                            : strcmp(argv[i], "--threads") == 0 ? &o.threads
                                                                : NULL;
        if (text) {
            *text = v;
        } else if (strcmp(argv[i], "--runs") == 0) {
            o.runs = atoi(v);
        }
    }
    network net = {.sgemm = open_blas()};
    char *list = strdup(o.sizes), *threads = strdup(o.threads);
    for (char *w = list ? strtok(list, "-") : NULL; w && net.n < LAYERS; w = strtok(NULL, "-")) {
        net.size[net.n++] = atoi(w);
    }
    if (net.n < 2 || net.size[0] != 784 || atoi(o.points) < 2 || o.runs < 1 || o.runs > RUNS) {
        fprintf(stderr, "usage: bench_plane [--tarn PATH] [--scripts FOLDER] [--sizes 784-64-32-10] [--points 51] "
                        "[--runs 5] [--threads 1,2]\n");
        return 2;
    }
    net.images = filled((size_t)IMAGES * 784);
    signal(SIGPIPE, SIG_IGN);
    printf("%7s %8s %8s  %27s  %27s\n%7s %8s %8s  %6s %6s %6s %6s  %6s %6s %6s %6s\n", "", "plane", "",
           "x products alone", "x one cell after the other", "threads", "s", "cpu s", "least", "median", "cpu", "median",
           "least", "median", "cpu", "median");
    for (char *t = threads ? strtok(threads, ",") : NULL; t; t = strtok(NULL, ",")) {
        if (atoi(t) >= 1 && atoi(t) <= THREADS) {
            measure(&o, &net, t);
        }
    }
    free(list);
    free(threads);
    free(net.images);
    return 0;
}
