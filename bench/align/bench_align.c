// SPDX-License-Identifier: Apache-2.0
// How fast assignment is, as ratios to SciPy's linear_sum_assignment on the same matrices in one run, one thread,
// by processor time: uniform random costs, integers with many equal, correlations of 64 numbers (noise 2:
// most rows know their partner; noise 6: they do not), and products i j, on which paths are as long as they get. SciPy gets f64,
// which it wants; assignment the same numbers as f32 or f64. The values have to agree.
//
//   bench_align --python PYTHON [--scripts bench/align] [--runs 5] [--sizes 512,1024,2048,4096]
//
// PYTHON is that of a virtual environment with SciPy.
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "merge/align/assign.h"

enum { DIM = 64, RUNS = 32 };

typedef struct {
    const char *name;
    bool maximise;
    tarn_dtype dtype;
    double noise;
} kind;

static const kind kinds[] = {{"uniform f32", false, TARN_F32, -1},        {"uniform f64", false, TARN_F64, -1},
                             {"correlation, noise 2", true, TARN_F32, 2}, {"correlation, noise 6", true, TARN_F32, 6},
                             {"integers below 100", false, TARN_F32, -2}, {"products", false, TARN_F64, -3}};

static void die(const char *what) {
    fprintf(stderr, "bench_align: %s\n", what);
    exit(1);
}

static void *room(size_t bytes) {
    void *p = malloc(bytes);
    if (!p) {
        die("no memory");
    }
    return p;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Number k of a sequence, in 0 .. 1.
static double uniform(uint64_t seed, uint64_t k) {
    uint64_t z = seed + (k + 1) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static void normalise(double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double *r = x + i * DIM, mean = 0, square = 0;
        for (int d = 0; d < DIM; d++) {
            mean += r[d] / DIM;
        }
        for (int d = 0; d < DIM; d++) {
            r[d] -= mean;
            square += r[d] * r[d];
        }
        for (int d = 0; d < DIM; d++) {
            r[d] /= sqrt(square);
        }
    }
}

static void correlations(int64_t n, double noise, double *c) {
    double *a = room(sizeof *a * (size_t)(n * DIM)), *b = room(sizeof *b * (size_t)(n * DIM));
    for (int64_t k = 0; k < n * DIM; k++) {
        a[k] = uniform(2, (uint64_t)k) - 0.5;
    }
    for (int64_t k = 0; k < n * DIM; k++) {
        b[k] = a[(k / DIM * 5 + 1) % n * DIM + k % DIM] + noise * (uniform(2, (uint64_t)(n * DIM + k)) - 0.5);
    }
    normalise(a, n);
    normalise(b, n);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int d = 0; d < DIM; d++) {
                s += a[i * DIM + d] * b[j * DIM + d];
            }
            c[i * n + j] = s;
        }
    }
    free(a);
    free(b);
}

// The same numbers for both: rounded to f32 where one gets them so.
static void fill(const kind *k, int64_t n, double *c, float *f) {
    if (k->noise > 0) {
        correlations(n, k->noise, c);
    }
    for (int64_t e = 0; e < n * n; e++) {
        if (k->noise < 0) {
            c[e] = k->noise == -3 ? (double)(e / n + 1) * (double)(e % n + 1) : uniform(1, (uint64_t)e);
            c[e] = k->noise == -2 ? floor(100 * c[e]) : c[e];
        }
        f[e] = (float)c[e];
        c[e] = k->dtype == TARN_F32 ? (double)f[e] : c[e];
    }
}

typedef struct {
    FILE *to, *from;
    char path[64];
} peer;

static void hear(peer *p, char *line, int size) {
    if (!fgets(line, size, p->from)) {
        die("the Python script ended early; run it by itself to see why");
    }
}

static peer start(const char *python, const char *scripts) {
    int down[2], up[2];
    char script[4096], line[64];
    snprintf(script, sizeof script, "%s/assign.py", scripts);
    if (pipe(down) || pipe(up)) {
        die("no pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        setenv("OPENBLAS_NUM_THREADS", "1", 1);
        dup2(down[0], 0);
        dup2(up[1], 1);
        close(down[1]);
        close(up[0]);
        execlp(python, python, script, (char *)NULL);
        die(python);
    }
    close(down[0]);
    close(up[1]);
    peer p = {fdopen(down[1], "w"), fdopen(up[0], "r"), "/tmp/bench_align_XXXXXX"};
    int file = mkstemp(p.path);
    if (pid < 0 || file < 0 || !p.to || !p.from) {
        die("no process or no temporary file");
    }
    close(file);
    hear(&p, line, sizeof line);
    return p;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(tarn_context *cx, peer *p, const kind *k, int64_t n, int runs) {
    double *c = room(sizeof *c * (size_t)(n * n)), mine[RUNS], ratio[RUNS], value = 0, theirs = 0, other = 0;
    float *f = room(sizeof *f * (size_t)(n * n));
    int32_t *match = room(sizeof *match * (size_t)n);
    char line[128];
    fill(k, n, c, f);
    FILE *file = fopen(p->path, "wb");
    if (!file || fwrite(c, sizeof *c, (size_t)(n * n), file) != (size_t)(n * n) || fclose(file)) {
        die("cannot write the temporary file");
    }
    tarn_assignment a = {.rows = n, .cols = n, .dtype = k->dtype, .maximise = k->maximise,
                         .cost = k->dtype == TARN_F32 ? (const void *)f : c};
    for (int r = 0; r < runs; r++) {
        tarn_error err = {0};
        double begin = seconds();
        if (tarn_assign(cx, &a, match, NULL, NULL, &value, &err) != TARN_OK) {
            die(err.message);
        }
        mine[r] = seconds() - begin;
        fprintf(p->to, "%s %lld %d\n", p->path, (long long)n, k->maximise);
        fflush(p->to);
        hear(p, line, sizeof line);
        if (sscanf(line, "%lf %lf", &theirs, &other) != 2) {
            die(line);
        }
        ratio[r] = theirs / mine[r];
    }
    qsort(mine, (size_t)runs, sizeof *mine, by_value);
    qsort(ratio, (size_t)runs, sizeof *ratio, by_value);
    printf("%-22s %6lld %10.2f ms %10.2f %10.2f%s\n", k->name, (long long)n, 1e3 * mine[runs / 2], ratio[0],
           ratio[runs / 2], fabs(value - other) <= 1e-9 * fabs(other) ? "" : "  values differ");
    fflush(stdout);
    free(match);
    free(f);
    free(c);
}

int main(int argc, char **argv) {
    const char *python = NULL, *scripts = "bench/align";
    char sizes[256] = "512,1024,2048,4096";
    int runs = 5;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--python") == 0) {
            python = argv[i + 1];
        } else if (strcmp(argv[i], "--scripts") == 0) {
            scripts = argv[i + 1];
        } else if (strcmp(argv[i], "--runs") == 0) {
            runs = atoi(argv[i + 1]);
        } else if (strcmp(argv[i], "--sizes") == 0) {
            snprintf(sizes, sizeof sizes, "%s", argv[i + 1]);
        }
    }
    if (!python || runs < 1 || runs > RUNS) {
        fprintf(stderr, "usage: bench_align --python PYTHON [--scripts FOLDER] [--runs 5] [--sizes 512,1024,2048,4096]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    tarn_context cx;
    tarn_error err = {0};
    if (tarn_context_init(&cx, &(tarn_options){.threads = 1}, &err) != TARN_OK) {
        die(err.message);
    }
    peer p = start(python, scripts);
    printf("%-22s %6s %13s %10s %10s\n", "costs", "n", "median", "x faster", "median");
    for (char *s = strtok(sizes, ","); s; s = strtok(NULL, ",")) {
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            measure(&cx, &p, &kinds[k], atoll(s), runs);
        }
    }
    fclose(p.to);
    fclose(p.from);
    unlink(p.path);
    while (wait(NULL) > 0) {
    }
    tarn_context_free(&cx);
    return 0;
}
