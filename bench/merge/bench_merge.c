// SPDX-License-Identifier: Apache-2.0
// How fast merging is, as ratios in one run. The floor reads a row's inputs and writes an output of
// one model's size in 8 MiB blocks, one thread, no arithmetic, through the same file system; each row
// runs in a process of its own. Rows of mergekit are added where its command is given.
//
//   bench_merge FOLDER [--tarn build/tarn] [--runs 5] [--layers 12] [--mergekit mergekit-yaml] [--only ROW] [--slow]
//
// FOLDER holds the family (made when it is not there) and the outputs: a memory file system such as
// /dev/shm measures the program rather than a disk. A warm digest store is assumed: one run before the
// counted ones fills it.
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 8 << 20, RUNS = 64 };

typedef struct {
    const char *folder, *tarn, *mergekit, *only;
    int runs, layers;
    bool slow;
} options;

typedef struct {
    const char *name;
    const char *code;    // of tarn; its argument is the folder
    const char *inputs;  // letters: b base, 1 a, 2 b
    const char *yaml;    // for mergekit, %1$s is the folder; NULL: it has no such method
    bool slow;
} row;

#define CODE(expression)                                                                          \
    "local function o(n) return model.open(arg[1] .. '/' .. n) end local base, a, b = o 'base', o 'a', o 'b' " \
    "local m = " expression " m:save(arg[1] .. '/out', {overwrite = true})"
#define ROW(name, code, inputs, yaml) {name, CODE(code), inputs, yaml, false},
#define SLOW(name, code, inputs) {name, CODE(code), inputs, NULL, true},
static const row rows[] = {
#include "rows.h"
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what) {
    fprintf(stderr, "bench_merge: %s: %s\n", what, strerror(errno));
    exit(1);
}

static const char *path_of(const options *o, const char *name, char *buffer, size_t room) {
    snprintf(buffer, room, "%s/%s/model.safetensors", o->folder, name);
    return buffer;
}

// The floor: the inputs side by side, then a block of output.
static int floor_run(const options *o, const char *inputs) {
    char path[4096];
    int in[4], n = 0;
    for (const char *c = inputs; *c; c++) {
        const char *name = *c == 'b' ? "base" : *c == '1' ? "a" : "b";
        in[n] = open(path_of(o, name, path, sizeof path), O_RDONLY);
        if (in[n++] < 0) {
            die(path);
        }
    }
    snprintf(path, sizeof path, "%s/floor.bin", o->folder);
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    char *buffer = malloc(BLOCK);
    if (out < 0 || !buffer) {
        die(path);
    }
    for (;;) {
        ssize_t got = 0;
        for (int k = 0; k < n; k++) {
            got = read(in[k], buffer, BLOCK);
        }
        if (got <= 0) {
            break;
        }
        for (ssize_t at = 0; at < got;) {
            ssize_t w = write(out, buffer + at, (size_t)(got - at));
            if (w < 0) {
                die(path);
            }
            at += w;
        }
    }
    fsync(out);
    free(buffer);
    return 0;
}

typedef struct {
    double wall, rss;  // seconds, bytes
} result;

static result run(char *const argv[], int (*floor)(const options *, const char *), const options *o,
                  const char *inputs) {
    double start = now();
    pid_t pid = fork();
    if (pid < 0) {
        die("fork");
    }
    if (pid == 0) {
        if (floor) {
            _exit(floor(o, inputs));
        }
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) {
            dup2(null, 1);
        }
        execvp(argv[0], argv);
        die(argv[0]);
    }
    int status;
    struct rusage u;
    if (wait4(pid, &status, 0, &u) < 0) {
        die("wait");
    }
    if (status != 0) {
        fprintf(stderr, "bench_merge: %s failed\n", floor ? "the floor" : argv[0]);
        exit(1);
    }
    return (result){now() - start, (double)u.ru_maxrss * 1024};
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *v, int n) {
    double s[RUNS];
    memcpy(s, v, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, by_value);
    return n % 2 ? s[n / 2] : 0.5 * (s[n / 2 - 1] + s[n / 2]);
}

static void report(const char *name, const double *wall, const double *floor, double rss, int n) {
    double ratio[RUNS];
    for (int i = 0; i < n; i++) {
        ratio[i] = wall[i] / floor[i];
    }
    double least = ratio[0];
    for (int i = 1; i < n; i++) {
        least = ratio[i] < least ? ratio[i] : least;
    }
    printf("%-26s %8.2f s %8.2f %8.2f", name, median(wall, n), least, median(ratio, n));
    if (rss > 0) {
        printf(" %8.0f MB", rss / 1e6);
    }
    printf("\n");
    fflush(stdout);
}

static void measure(const options *o, const row *r) {
    double floor[RUNS], wall[RUNS], rss = 0;
    int runs = r->slow ? 1 : o->runs;
    char *argv[] = {(char *)(size_t)o->tarn, "--quiet", "-e", (char *)(size_t)r->code, (char *)(size_t)o->folder, NULL};
    if (!r->slow) {
        run(argv, NULL, o, NULL);  // fills the digest store
    }
    for (int i = 0; i < runs; i++) {
        floor[i] = run(NULL, floor_run, o, r->inputs).wall;
        result t = run(argv, NULL, o, NULL);
        wall[i] = t.wall;
        rss = t.rss > rss ? t.rss : rss;
    }
    report(r->name, wall, floor, rss, runs);
    if (!o->mergekit || !r->yaml) {
        return;
    }
    char config[4096], out[4096], name[64];
    snprintf(config, sizeof config, "%s/config.yml", o->folder);
    snprintf(out, sizeof out, "%s/mergekit", o->folder);
    FILE *f = fopen(config, "w");
    if (!f) {
        die(config);
    }
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    fprintf(f, r->yaml, o->folder);
    fclose(f);
    char *peer[] = {(char *)(size_t)o->mergekit, config, out, "--quiet", NULL};
    result t = run(peer, NULL, o, NULL);
    double one = t.wall;
    snprintf(name, sizeof name, "  mergekit %s", r->name);
    report(name, &one, floor, t.rss, 1);
}

static void make_family(const options *o) {
    char path[4096], layers[16];
    if (access(path_of(o, "b", path, sizeof path), R_OK) == 0) {
        return;
    }
    snprintf(layers, sizeof layers, "%d", o->layers);
    char *argv[] = {(char *)(size_t)o->tarn, "bench/merge/family.lua", (char *)(size_t)o->folder, layers, NULL};
    mkdir(o->folder, 0777);
    printf("making the family in %s\n", o->folder);
    run(argv, NULL, o, NULL);
}

int main(int argc, char **argv) {
    options o = {.tarn = "build/tarn", .runs = 5, .layers = 12};
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--tarn") == 0) {
            o.tarn = next, i++;
        } else if (strcmp(argv[i], "--mergekit") == 0) {
            o.mergekit = next, i++;
        } else if (strcmp(argv[i], "--only") == 0) {
            o.only = next, i++;
        } else if (strcmp(argv[i], "--slow") == 0) {
            o.slow = true;
        } else if (strcmp(argv[i], "--runs") == 0) {
            o.runs = atoi(next), i++;
        } else if (strcmp(argv[i], "--layers") == 0) {
            o.layers = atoi(next), i++;
        } else if (argv[i][0] == '-' || o.folder) {
            o.folder = NULL;
            break;
        } else {
            o.folder = argv[i];
        }
    }
    if (!o.folder || o.runs < 1 || o.runs > RUNS) {
        fprintf(stderr, "usage: bench_merge FOLDER [--tarn PATH] [--runs 5] [--layers 12] "
                        "[--mergekit PATH] [--only ROW] [--slow]\n");
        return 2;
    }
    make_family(&o);
    printf("%-26s %10s %8s %8s %11s\n", "row", "median", "x floor", "median", "peak");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (o.only ? strcmp(o.only, rows[i].name) == 0 : o.slow || !rows[i].slow) {
            measure(&o, &rows[i]);
        }
    }
    return 0;
}
