// SPDX-License-Identifier: Apache-2.0
// :profile: wall time by function, from a hook at every call and return, so that the work of
// tensors counts where it was asked for. An error leaves functions without a return; they are found
// by their call records, which are used again at the same depth, and closed late. A stop takes the
// hook away: then what was measured so far is shown.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vm/repl/session.h"

enum { FUNCTIONS = 1024, FRAMES = 4096, NAME = 80, SHOWN = 15 };

typedef struct {
    char key[NAME];   // place of a Lua function, name of one in C
    char name[NAME];  // "": not seen yet, as of one that was a tail call
    long calls;
    double self, total;  // seconds
    int active;          // frames of it on the stack: the total counts the outermost
} row;

typedef struct {
    const void *call;  // identity of the call record
    lua_State *L;
    int row;
    double start, inner;  // when it was called; time of what it called
} frame;

struct tarn_profile {
    row rows[FUNCTIONS];  // open addressing by name
    frame frames[FRAMES];
    int depth, lost;      // frames; calls that found no room
};

static const char profile_key;  // registry

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int find_row(tarn_profile *p, const char *key) {
    unsigned h = 5381;
    for (const char *s = key; *s; s++) {
        h = h * 33 + (unsigned char)*s;
    }
    for (unsigned k = 0; k < FUNCTIONS; k++) {
        int i = (int)((h + k) % FUNCTIONS);
        if (!p->rows[i].key[0]) {
            memcpy(p->rows[i].key, key, strlen(key) + 1);
            return i;
        }
        if (strcmp(p->rows[i].key, key) == 0) {
            return i;
        }
    }
    return -1;
}

// The row of a function that is called; -1: there is no room.
static int row_of(tarn_profile *p, lua_State *L, lua_Debug *ar) {
    char key[NAME];
    lua_getinfo(L, "nS", ar);
    bool in_c = *ar->what == 'C', operator_ = ar->name && strcmp(ar->namewhat, "metamethod") == 0;
    const char *name = ar->name ? ar->name : *ar->what == 'm' ? "the entry" : "";
    if (in_c) {
        snprintf(key, sizeof key, "%.60s%s", *name ? name : "(the prompt)",
                 operator_ ? " (operator)" : "");
    } else {
        snprintf(key, sizeof key, "%s:%d", ar->short_src, ar->linedefined);
    }
    int i = find_row(p, key);
    if (i >= 0 && !p->rows[i].name[0]) {
        snprintf(p->rows[i].name, NAME, "%.70s", in_c ? key : name);
    }
    return i;
}

static void leave(tarn_profile *p, double t) {
    frame *f = &p->frames[--p->depth];
    row *r = &p->rows[f->row];
    double took = t - f->start;
    r->self += took - f->inner;
    r->total += --r->active == 0 ? took : 0;
    if (p->depth > 0) {
        p->frames[p->depth - 1].inner += took;
    }
}

// Where the call record stands among the frames, -1: nowhere.
static int find_frame(const tarn_profile *p, lua_State *L, const void *call) {
    int i = p->depth - 1;
    while (i >= 0 && (p->frames[i].call != call || p->frames[i].L != L)) {
        i--;
    }
    return i;
}

static void enter(tarn_profile *p, lua_State *L, lua_Debug *ar, double t) {
    int i = p->depth < FRAMES ? row_of(p, L, ar) : -1;
    if (i < 0) {
        p->lost++;
        return;
    }
    p->rows[i].calls++;
    p->rows[i].active++;
    p->frames[p->depth++] = (frame){ar->i_ci, L, i, t, 0};
}

static void hook(lua_State *L, lua_Debug *ar) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &profile_key);
    tarn_profile *p = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (!p) {  // a coroutine that was made while one was measured
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    double t = now();
    int at = find_frame(p, L, ar->i_ci);
    while (at >= 0 && p->depth > at) {
        leave(p, t);
    }
    if (ar->event != LUA_HOOKRET) {
        enter(p, L, ar, t);
    }
}

static int l_set(lua_State *L) {
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &profile_key);
    return 0;
}

static tarn_status set(tarn_host *h, tarn_profile *p) {
    lua_State *L = tarn_host_state(h);
    tarn_error err;
    if (!lua_checkstack(L, 4)) {
        return TARN_NOMEM;
    }
    lua_pushcfunction(L, l_set);
    if (p) {
        lua_pushlightuserdata(L, p);
    } else {
        lua_pushnil(L);
    }
    return tarn_host_call(h, 1, 0, &err);
}

tarn_profile *tarn_profile_start(tarn_host *h) {
    tarn_budget *b = &tarn_host_context(tarn_host_state(h))->budget;
    tarn_profile *p = tarn_alloc_zero(b, sizeof *p);
    if (p && set(h, p) != TARN_OK) {
        tarn_free(b, p, sizeof *p);
        return NULL;
    }
    if (p) {
        lua_sethook(tarn_host_state(h), hook, LUA_MASKCALL | LUA_MASKRET, 0);
    }
    return p;
}

static int by_self(const void *a, const void *b) {
    const row *x = a, *y = b;
    return x->self != y->self ? (x->self < y->self) - (x->self > y->self) : strcmp(x->key, y->key);
}

void tarn_profile_end(tarn_host *h, tarn_profile *p, bool print) {
    if (lua_gethook(tarn_host_state(h)) == hook) {
        lua_sethook(tarn_host_state(h), NULL, 0, 0);
    }
    set(h, NULL);
    double t = now();
    while (p->depth > 0) {
        leave(p, t);
    }
    qsort(p->rows, FUNCTIONS, sizeof *p->rows, by_self);
    if (print) {
        printf("    self s    total s      calls  function\n");
        for (int i = 0; i < SHOWN && p->rows[i].calls > 0; i++) {
            const row *r = &p->rows[i];
            bool in_c = strcmp(r->key, r->name) == 0;
            printf("%10.4f %10.4f %10ld  %s%s%s%s\n", r->self, r->total, r->calls,
                   *r->name ? r->name : "function", in_c ? "" : " (", in_c ? "" : r->key,
                   in_c ? "" : ")");
        }
        if (p->lost > 0) {
            printf("%d calls were too deep, or of too many functions, to be told apart\n", p->lost);
        }
        fflush(stdout);
    }
    tarn_free(&tarn_host_context(tarn_host_state(h))->budget, p, sizeof *p);
}
