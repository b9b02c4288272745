// SPDX-License-Identifier: Apache-2.0
// How long a plan would take on this machine, from some two seconds of measuring: reading the inputs
// where they lie, running some of the jobs, writing where the output would go, hashing. Jobs of the
// same cost are one class, those that are computed together one job; classes are tried from the cheapest
// on while time is left, and what was not tried is scaled from the dearest that was. A sample is read twice: the second reading comes
// from memory, as the run of a job does after it, so that the difference is what the disk adds.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "merge/plan/measure.h"
#include "vm/base/digest.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Bytes per second; a sample too quick to be timed counts as a microsecond.
static double rate(double bytes, double seconds) { return bytes / fmax(seconds, 1e-6); }

// ---- reading ----

typedef struct {
    const tarn_source *source;
    uint64_t at, bytes;
} piece;

enum { PIECE = 1 << 20, PIECES = 256 };  // of one sample: at most 256 MiB

typedef struct {
    tarn_plan *plan;
    int n;
    piece list[PIECES];
    uint64_t bytes;
} reading;

static void add_sources(reading *r, const tarn_job *job) {
    for (int k = 0; k < job->graph->count; k++) {
        const tarn_source *s = tarn_node_source(job->graph->nodes[k]);
        for (uint64_t at = 0; s && at < s->bytes && r->n < PIECES; at += PIECE) {
            uint64_t n = s->bytes - at < PIECE ? s->bytes - at : PIECE;
            r->list[r->n++] = (piece){s, at, n};
            r->bytes += n;
        }
    }
}

static tarn_status read_piece(void *arg, int64_t task, int worker, tarn_error *err) {
    const reading *r = arg;
    const piece *p = &r->list[task];
    void *buffer = tarn_alloc(&r->plan->cx->budget, PIECE);
    (void)worker;
    if (!buffer) {
        return tarn_raise_nomem(err, "measuring", PIECE);
    }
    tarn_status s = p->source->read(p->source, p->at, p->bytes, buffer, err);
    tarn_free(&r->plan->cx->budget, buffer, PIECE);
    return s;
}

static tarn_status time_reading(reading *r, double *seconds, tarn_error *err) {
    double start = now();
    tarn_context *cx = r->plan->cx;
    TARN_TRY(tarn_pool_run(cx->pool, r->n, read_piece, r, &cx->cancel, err));
    *seconds += now() - start;
    return TARN_OK;
}

// ---- running ----

static tarn_status swallow(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n,
                           tarn_error *err) {
    (void)arg, (void)job, (void)at, (void)p, (void)n, (void)err;
    return TARN_OK;
}

// Jobs that are computed together.
typedef struct {
    tarn_job_plan plan;
    int64_t job;
    int n;
} entry;

static uint64_t traffic(const entry *e) { return e->plan.reads + e->plan.writes; }

static int by_cost(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (traffic(x) != traffic(y)) {
        return (traffic(x) > traffic(y)) - (traffic(x) < traffic(y));
    }
    return (x->plan.workspace > y->plan.workspace) - (x->plan.workspace < y->plan.workspace);
}

static bool streams(const entry *e) { return e->plan.workspace <= traffic(e) / 2; }

// What is done with whole tensors in memory grows faster than their size (a factorisation of an
// n × n matrix with n³); what streams grows with it.
static double scaled(double seconds, const entry *from, const entry *to) {
    double ratio = (double)(traffic(to) + 1) / (double)(traffic(from) + 1);
    return seconds * (streams(to) ? ratio : ratio * sqrt(ratio));
}

// What trying one job costs at most, in seconds: streaming is faster than 200 MB/s wherever this
// runs; small jobs are dearer by the byte, so nothing is scaled up from them here.
static double risk(double each, const entry *tried, const entry *next) {
    return streams(next) ? 5e-9 * (double)traffic(next) : tried ? 2 * scaled(each, tried, next) : 0;
}

typedef struct {
    double bytes, first, again;  // read for samples; seconds
} disk;

// Enough jobs of a class to keep all workers at work, unless they are large.
static int64_t how_many(const tarn_plan *p, const entry *first, int64_t n) {
    int64_t fit = (int64_t)(((uint64_t)32 << 20) / (traffic(first) + 1)) + 1;
    int64_t some = 4 * (int64_t)tarn_pool_size(p->cx->pool);
    some = fit < some ? fit : some;
    return n < some ? n : some;
}

static tarn_status try_class(tarn_plan *p, entry *list, int64_t n, double *each, disk *d,
                             tarn_error *err) {
    int64_t some = how_many(p, list, n), count = 0;
    size_t bytes = sizeof(reading) + (size_t)some * TARN_JOINED * sizeof(tarn_job);
    reading *r = tarn_alloc_zero(&p->cx->budget, bytes);
    if (!r) {
        return tarn_raise_nomem(err, "measuring", bytes);
    }
    tarn_job *jobs = (tarn_job *)(r + 1);
    r->plan = p;
    for (int64_t k = 0; k < some; k++) {
        const entry *e = &list[k * n / some];
        memcpy(jobs + count, p->jobs + e->job, (size_t)e->n * sizeof *jobs);
        jobs[count].joined = false;
        add_sources(r, &jobs[count]);
        count += e->n;
    }
    tarn_sink sink = {swallow, NULL};
    tarn_stream_options o = {.allow_nonfinite = true};
    tarn_status s = time_reading(r, &d->first, err);
    s = s == TARN_OK ? time_reading(r, &d->again, err) : s;
    d->bytes += (double)r->bytes;
    double start = now();
    s = s == TARN_OK ? tarn_stream_run(p->cx, count, jobs, &sink, &o, err) : s;
    *each = (now() - start) / (double)some;
    tarn_free(&p->cx->budget, r, bytes);
    return s;
}

static tarn_status time_jobs(tarn_plan *p, int64_t count, entry *list, double seconds, tarn_measure *out,
                             tarn_error *err) {
    enum { LEAST = 1 << 20 };  // below it a job is all overhead, and nothing to scale from
    const entry *tried = NULL;
    double each = 0, end = now() + seconds;
    disk d = {0};
    for (int64_t i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && by_cost(&list[i], &list[i + n]) == 0; n++) {
        }
        double guess = tried ? scaled(each, tried, &list[i]) : 0;
        double dear = risk(each, tried, &list[i]) * (double)how_many(p, &list[i], n);
        if (!tried || traffic(tried) < LEAST || now() + dear < end) {
            TARN_TRY(try_class(p, &list[i], n, &each, &d, err));
            tried = &list[i];
            guess = each;
            out->sampled += (double)n * (double)traffic(&list[i]);
        }
        out->running += (double)n * guess;
    }
    out->read_rate = rate(d.bytes, d.first);
    if (d.bytes > 0) {
        out->reading = fmax(0, d.first - d.again) / d.bytes;  // per byte, for now
    }
    return TARN_OK;
}

// ---- writing and hashing ----

static tarn_status cannot_write(const char *folder, tarn_error *err) {
    return tarn_raise(err, "CannotWrite", "%s: cannot try how fast it is written: %s", folder,
                      strerror(errno));
}

// A file without a name in the nearest folder that is there: `path` or what it lies in.
static int open_nameless(const char *path, tarn_error *err) {
    char folder[4096];
    size_t n = strlen(path);
    int fd = -1;
    if (n >= sizeof folder) {
        tarn_raise(err, "CannotWrite", "%s: the path is too long", path);
        return -1;
    }
    memcpy(folder, path, n + 1);
    while ((fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600)) < 0 &&
           (errno == ENOENT || errno == ENOTDIR)) {
        while (n > 0 && folder[n - 1] == '/') {
            n--;
        }
        while (n > 0 && folder[n - 1] != '/') {
            n--;
        }
        if (n == 0 && strcmp(folder, ".") == 0) {
            break;
        }
        memcpy(folder + n, n == 0 ? "." : "", n == 0 ? 2 : 1);
    }
    if (fd < 0) {
        cannot_write(folder, err);
    }
    return fd;
}

// Blocks into a nameless file, until time or what the output needs is up.
static tarn_status time_writing(tarn_plan *p, const char *folder, double most, double seconds,
                                double *per_second, tarn_error *err) {
    enum { BLOCK = 8 << 20 };
    int fd = open_nameless(folder, err);
    if (fd < 0) {
        return err->status;
    }
    char *block = tarn_alloc(&p->cx->budget, BLOCK);
    tarn_status s = block ? TARN_OK : tarn_raise_nomem(err, "measuring", BLOCK);
    double done = 0;
    for (uint64_t k = 0; block && k < BLOCK; k += sizeof k) {
        uint64_t noise = tarn_hash64(k, "", 0);  // nothing that compresses
        memcpy(block + k, &noise, sizeof noise);
    }
    double start = now();
    while (s == TARN_OK && done < most && now() < start + seconds) {
        ssize_t n = write(fd, block, most - done < BLOCK ? (size_t)(most - done) + 1 : BLOCK);
        if (n < 0 && errno != EINTR) {
            s = cannot_write(folder, err);
        }
        done += n > 0 ? (double)n : 0;
    }
    if (s == TARN_OK) {
        fdatasync(fd);
        *per_second = rate(done, now() - start);
    }
    tarn_free(&p->cx->budget, block, BLOCK);
    close(fd);
    return s;
}

static double time_hashing(tarn_plan *p) {
    enum { BLOCK = 4 << 20 };
    char *block = tarn_alloc_zero(&p->cx->budget, BLOCK);
    unsigned char sum[32];
    double start = now();
    if (!block) {
        return 0;
    }
    tarn_sha256_of(block, BLOCK, sum);
    double each = rate(BLOCK, now() - start);
    tarn_free(&p->cx->budget, block, BLOCK);
    return each * tarn_pool_size(p->cx->pool);
}

// ---- together ----

// Bytes of the input tensors that the plan uses, each once.
static double unique_bytes(const tarn_plan *p) {
    double bytes = 0;
    for (int64_t i = 0; i < p->count; i++) {
        for (int k = 0; !p->jobs[i].joined && k < p->jobs[i].graph->count; k++) {
            const tarn_source *s = tarn_node_source(p->jobs[i].graph->nodes[k]);
            bytes += s ? (double)s->bytes : 0;
        }
    }
    return bytes;
}

// Puts what is computed together into one entry; returns how many there are.
static int64_t list_entries(const tarn_plan *p, const tarn_job_plan *plans, entry *list) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->count; i++) {
        if (plans[i].with > 0) {
            list[n - 1].plan.writes += plans[i].writes;
            list[n - 1].n++;
        } else {
            list[n++] = (entry){plans[i], i, 1};
        }
    }
    return n;
}

tarn_status tarn_plan_measure(tarn_plan *p, const char *folder, double seconds, tarn_measure *out,
                              tarn_error *err) {
    memset(out, 0, sizeof *out);
    tarn_context *cx = p->cx;
    tarn_stream_plan total;
    int files = 0;
    uint64_t unhashed = 0;
    size_t bytes = (size_t)p->count * (sizeof(tarn_job_plan) + sizeof(entry)) + 1;
    entry *list = tarn_alloc_zero(&cx->budget, bytes);
    if (!list) {
        return tarn_raise_nomem(err, "measuring", bytes);
    }
    tarn_job_plan *plans = (tarn_job_plan *)(list + p->count);
    tarn_status s = tarn_stream_plan_of(cx, p->count, p->jobs, &total, plans, err);
    s = s == TARN_OK ? tarn_plan_unhashed(p->model, &files, &unhashed, err) : s;
    if (s == TARN_OK) {
        int64_t n = list_entries(p, plans, list);
        qsort(list, (size_t)n, sizeof *list, by_cost);
        s = time_jobs(p, n, list, 0.6 * seconds, out, err);
    }
    tarn_free(&cx->budget, list, bytes);
    TARN_TRY(s);
    TARN_TRY(time_writing(p, folder, (double)total.writes, 0.2 * seconds, &out->write_rate, err));
    out->sampled /= fmax(1, (double)(total.reads + total.writes));
    out->run_rate = rate((double)total.reads, out->running);
    out->reading *= unique_bytes(p);
    out->writing = (double)total.writes / out->write_rate;
    double hash = unhashed > 0 ? time_hashing(p) : 0;
    out->hashing = hash > 0 ? (double)unhashed / hash : 0;
    out->seconds = out->reading + out->running + out->writing + out->hashing;
    return TARN_OK;
}
