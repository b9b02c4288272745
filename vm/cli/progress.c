// SPDX-License-Identifier: Apache-2.0
// The progress bar. Threads report after every chunk, so the way through here is a clock and one
// comparison; ten times a second one of them draws. What begins and ends is known by the counts: a
// count that fell, another total or label, or a second of silence is new work.
#include "vm/cli/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vm/base/text.h"

#define MS 1000000LL  // ns
enum { LINE = 512 };
static const int64_t first_after = 1000 * MS, again_after = 100 * MS, json_after = 500 * MS;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void put(const char *s, size_t n) {
    while (n > 0) {
        ssize_t w = write(STDERR_FILENO, s, n);
        if (w <= 0) {
            return;
        }
        s += w;
        n -= (size_t)w;
    }
}

static void wipe(tarn_bar *b) {
    if (b->drawn && b->how == TARN_SHOW_BAR) {
        put("\r\033[K", 4);
    }
    b->drawn = false;
}

static const char *show_seconds(double s, char *buf, size_t room) {
    if (s < 60) {
        snprintf(buf, room, "%.0f s", s);
    } else if (s < 3600) {
        snprintf(buf, room, "%d:%02d min", (int)s / 60, (int)s % 60);
    } else {
        snprintf(buf, room, "%.1f h", s < 1e7 ? s / 3600 : 1e7 / 3600);
    }
    return buf;
}

static int columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

// "merging [=======>        ]  42 %  1.10 GB of 2.60 GB  812 MB/s  2 s left"
static void draw_bar(tarn_bar *b, double seconds) {
    enum { CELLS = 24 };
    char line[LINE], cells[CELLS + 1], done_text[32], total_text[32], rate_text[32], left_text[32];
    double done = (double)(b->last - b->first), rate = seconds > 0 ? done / seconds : 0;
    tarn_show_bytes((unsigned long long)done, done_text);
    tarn_show_bytes((unsigned long long)rate, rate_text);
    int n = snprintf(line, sizeof line, "%s%s", b->what ? b->what : "", b->what ? " " : "");
    if (done <= (double)b->total) {  // a reduction may ask for more sweeps than were planned
        double part = done / (double)b->total;
        int full = (int)(part * CELLS);
        memset(cells, ' ', CELLS);
        memset(cells, '=', (size_t)full);
        cells[full < CELLS ? full : CELLS - 1] = full < CELLS ? '>' : '=';
        cells[CELLS] = '\0';
        double left = rate > 0 ? ((double)b->total - done) / rate : 0;
        snprintf(line + n, sizeof line - (size_t)n, "[%s] %3.0f %%  %s of %s  %s/s  %s left", cells,
                 part * 100, done_text, tarn_show_bytes(b->total, total_text), rate_text,
                 show_seconds(left > 0 ? left : 0, left_text, sizeof left_text));
    } else {
        snprintf(line + n, sizeof line - (size_t)n, "%s  %s/s", done_text, rate_text);
    }
    size_t len = strlen(line), room = (size_t)columns() - 1;
    char out[LINE + 8];
    int m = snprintf(out, sizeof out, "\r%.*s\033[K", (int)(len < room ? len : room), line);
    put(out, (size_t)m);
}

static void draw_json(const tarn_bar *b, double seconds) {
    char line[LINE];
    uint64_t done = b->last - b->first;
    int n = snprintf(line, sizeof line,
                     "{\"progress\":{\"what\":\"%s\",\"done\":%llu,\"total\":%llu,"
                     "\"seconds\":%.1f}}\n",
                     b->what ? b->what : "", (unsigned long long)done,
                     (unsigned long long)(b->total > done || !b->total ? b->total : done), seconds);
    put(line, (size_t)n);
}

static bool is_over(const tarn_progress *p) {
    return !p->what && p->total == 0 && atomic_load_explicit(&p->done, memory_order_relaxed) == 0;
}

// The lock is held.
static void look(tarn_bar *b, const tarn_progress *p, int64_t now) {
    uint64_t done = atomic_load_explicit(&p->done, memory_order_relaxed);
    bool over = is_over(p);
    if (over || done < b->last || p->total != b->total || p->what != b->what ||
        now - b->seen > first_after) {
        wipe(b);
        b->begun = now;
        b->what = p->what;
        b->total = p->total;
        b->first = p->total > 0 ? 0 : done;
    }
    b->seen = now;
    b->last = done;
    if (!over && now - b->begun >= first_after) {
        double seconds = (double)(now - b->begun) * 1e-9;
        if (b->how == TARN_SHOW_BAR) {
            draw_bar(b, seconds);
        } else {
            draw_json(b, seconds);
        }
        b->drawn = true;
    }
    int64_t pause = b->how == TARN_SHOW_JSON ? json_after : again_after;
    atomic_store_explicit(&b->due, over ? 0 : now + pause, memory_order_relaxed);
}

static void show(tarn_progress *p) {
    tarn_bar *b = p->arg;
    int64_t now = now_ns();
    if ((is_over(p) || now >= atomic_load_explicit(&b->due, memory_order_relaxed)) &&
        pthread_mutex_trylock(&b->lock) == 0) {
        look(b, p, now);
        pthread_mutex_unlock(&b->lock);
    }
}

static bool can_draw(void) {
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

void tarn_bar_open(tarn_bar *b, tarn_context *cx, bool quiet, bool json) {
    memset(b, 0, sizeof *b);
    pthread_mutex_init(&b->lock, NULL);
    b->how = quiet ? TARN_SHOW_NOTHING : json ? TARN_SHOW_JSON
             : can_draw()                     ? TARN_SHOW_BAR
                                              : TARN_SHOW_NOTHING;
    cx->progress.arg = b;
    cx->progress.show = b->how == TARN_SHOW_NOTHING ? NULL : show;
}

void tarn_bar_clear(tarn_bar *b) {
    pthread_mutex_lock(&b->lock);
    wipe(b);
    pthread_mutex_unlock(&b->lock);
}

void tarn_bar_close(tarn_bar *b, tarn_context *cx) {
    tarn_bar_clear(b);
    cx->progress.show = NULL;
    cx->progress.arg = NULL;
    pthread_mutex_destroy(&b->lock);
}
