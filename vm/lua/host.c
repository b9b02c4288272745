// SPDX-License-Identifier: Apache-2.0
// Opening and closing a host: the state, its allocator that is charged to the budget, the collector
// driven by tensor memory. Lua knows nothing of the bytes behind a tensor handle, so the bindings
// report them (tarn_lua_account) and a full collection runs when they have grown enough.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/lua/state.h"

#if LUA_VERSION_NUM != 504
#error "tarn needs Lua 5.4"
#endif

tarn_host *tarn_host_of(lua_State *L) { return *(tarn_host **)lua_getextraspace(L); }
lua_State *tarn_host_state(tarn_host *h) { return h->L; }
tarn_trust tarn_host_trust(const tarn_host *h) { return h->trust; }
tarn_context *tarn_host_context(lua_State *L) { return tarn_host_of(L)->cx; }

// The budget is shared and its counter atomic, so Lua takes from it a piece at a time.
static bool take(tarn_host *h, size_t bytes) {
    enum { PIECE = 1 << 16 };
    tarn_budget *b = &h->cx->budget;
    if (bytes > h->reserve) {
        size_t need = bytes - h->reserve;
        if (tarn_budget_take(b, need + PIECE)) {
            h->reserve += need + PIECE;
        } else if (tarn_budget_take(b, need)) {
            h->reserve += need;
        } else {
            return false;
        }
    }
    h->reserve -= bytes;
    return true;
}

static void give(tarn_host *h, size_t bytes) {
    enum { MOST = 1 << 17 };
    h->reserve += bytes;
    if (h->reserve > MOST) {
        tarn_budget_give(&h->cx->budget, h->reserve - MOST / 2);
        h->reserve = MOST / 2;
    }
}

// When memory is out, calling a finaliser still needs a small block for the call itself; without it
// the tensor behind the value would never be released. The host keeps a few, outside of the budget.
static void *take_spare(tarn_host *h) {
    for (uint32_t i = 0; i < TARN_SPARES; i++) {
        if (!(h->spare_used >> i & 1)) {
            h->spare_used |= (uint32_t)1 << i;
            return h->spare[i];
        }
    }
    return NULL;
}

static bool is_spare(const tarn_host *h, const void *p) {
    return (uintptr_t)p - (uintptr_t)h->spare < sizeof h->spare;
}

static void give_spare(tarn_host *h, const void *p) {
    size_t i = ((uintptr_t)p - (uintptr_t)h->spare) / TARN_SPARE;
    h->spare_used &= ~((uint32_t)1 << i);
}

// A large growth fails while a stop is wanted: a C function that gathers without end (reading all of
// an endless file) runs no hook, but it asks for memory.
static bool refuse_growth(const tarn_host *h, size_t want) {
    enum { LARGE = 1 << 18 };
    return want >= LARGE && !h->fatal && tarn_cancel_reason(&h->cx->cancel) != TARN_STOP_NONE;
}

// A new block. `kind`: 0 for what is no value of a script (a call record, say).
static void *fresh(tarn_host *h, size_t kind, size_t want) {
    if (!refuse_growth(h, want) && take(h, want)) {
        void *p = malloc(want);
        if (p) {
            return p;
        }
        give(h, want);
    }
    return kind == 0 && want <= TARN_SPARE ? take_spare(h) : NULL;
}

static void drop(tarn_host *h, void *p, size_t had) {
    if (is_spare(h, p)) {
        give_spare(h, p);
    } else if (p) {
        free(p);
        give(h, had);
    }
}

// Lua's allocator. When it refuses, Lua collects garbage and tries again by itself. A shrink never
// fails: the old block serves when the machine cannot give a smaller one.
static void *allocate(void *ud, void *p, size_t had, size_t want) {
    tarn_host *h = ud;
    if (want == 0) {
        drop(h, p, had);
        return NULL;
    }
    if (!p) {
        return fresh(h, had, want);
    }
    if (is_spare(h, p)) {
        void *q = want <= TARN_SPARE ? p : fresh(h, LUA_TUSERDATA, want);
        if (q && q != p) {
            memcpy(q, p, had);
            give_spare(h, p);
        }
        return q;
    }
    if (want > had && (refuse_growth(h, want) || !take(h, want - had))) {
        return NULL;
    }
    void *q = realloc(p, want);
    if (!q && want > had) {
        give(h, want - had);
        return NULL;
    }
    if (want < had) {
        give(h, had - want);
    }
    return q ? q : p;
}

// How far the heap grows before the next cycle begins, in per cent of what the last one left: past half
// of the budget by a fifth, else by three quarters. Not by all of it, Lua's default: what has a finaliser
// is freed one cycle after its death and counts as left until then, so that a script that makes nothing
// but tensors would start each cycle later than the one before, for ever (a million operations on one
// number held 300 MB). (With a pause of 100, no growth at all, each 8 KiB of garbage costs a cycle:
// measured fifty times slower with 40 000 live objects.)
enum { PAUSE = 175, PAUSE_TIGHT = 120 };

static void tighten(tarn_host *h, lua_State *L, size_t used) {
    bool tight = used > h->cx->budget.limit / 2;
    if (tight != h->tight) {
        lua_gc(L, LUA_GCINC, tight ? PAUSE_TIGHT : PAUSE, 100, 0);
        h->tight = tight;
    }
}

void tarn_lua_account(lua_State *L, size_t bytes) {
    enum { STEP = 64 << 20 };
    tarn_host *h = tarn_host_of(L);
    tarn_budget *b = &h->cx->budget;
    size_t used = atomic_load(&b->used);
    h->since_gc = bytes > SIZE_MAX - h->since_gc ? SIZE_MAX : h->since_gc + bytes;
    size_t due = h->live_after / 2 > STEP ? h->live_after / 2 : STEP;
    // Near the cap dead tensors are collected early: an emergency collection, which Lua starts when
    // its own heap is refused memory, runs no finalisers and so frees no tensor.
    bool close = bytes > b->limit || used > b->limit - bytes || used + bytes > b->limit / 8 * 7;
    if (h->since_gc > due || (close && h->since_gc > b->limit / 16)) {
        lua_gc(L, LUA_GCCOLLECT);
        h->since_gc = bytes;
        h->live_after = atomic_load(&b->external);
    }
    tighten(h, L, used);
}

// Pieces of one warning are gathered; control messages ("@on") are not for scripts. A flood ends.
static void warned(void *ud, const char *msg, int more) {
    enum { WARNINGS = 1000 };
    tarn_host *h = ud;
    size_t n = strlen(msg);
    size_t room = sizeof h->warning - 1 - h->warning_len;
    n = n < room ? n : room;
    memcpy(h->warning + h->warning_len, msg, n);
    h->warning_len += n;
    h->warning[h->warning_len] = '\0';
    if (!more) {
        if (h->warning[0] != '@' && h->warnings < WARNINGS) {
            bool last = ++h->warnings == WARNINGS;
            tarn_warn(h->cx, "%s", last ? "further warnings of this script are not shown"
                                        : h->warning);
        }
        h->warning_len = 0;
    }
}

static tarn_status open_folder(tarn_host *h, const char *folder, tarn_error *err) {
    if (!folder) {
        return TARN_OK;
    }
    size_t n = strlen(folder) + 1;
    h->folder_name = tarn_alloc(&h->cx->budget, n);
    if (!h->folder_name) {
        return tarn_raise_nomem(err, "the script's folder name", n);
    }
    memcpy(h->folder_name, folder, n);
    h->folder_room = n;
    h->folder = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return TARN_OK;  // a folder that cannot be opened is told when `require` wants it
}

// Where half of this thread's stack is used up; 0 when that is not known.
static uintptr_t stack_middle(void) {
    pthread_attr_t a;
    void *low = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &a) == 0) {
        if (pthread_attr_getstack(&a, &low, &size) != 0) {
            low = NULL;
        }
        pthread_attr_destroy(&a);
    }
    return low ? (uintptr_t)low + size / 2 : 0;
}

static tarn_status setup(tarn_host *h, const tarn_host_options *o, tarn_error *err) {
    TARN_TRY(open_folder(h, o->folder, err));
    h->L = lua_newstate(allocate, h);
    if (!h->L) {
        return tarn_raise_nomem(err, "the Lua state", 0);
    }
    *(tarn_host **)lua_getextraspace(h->L) = h;
    lua_setwarnf(h->L, warned, h);
    lua_gc(h->L, LUA_GCINC, PAUSE, 100, 0);
    lua_pushcfunction(h->L, tarn_env_open);
    int status = lua_pcall(h->L, 0, 0, 0);
    if (status != LUA_OK) {
        return tarn_take_error(h, status, err);
    }
    TARN_TRY(tarn_stop_open(h, o->seconds, err));
    atomic_store(&h->current, h->L);
    return TARN_OK;
}

tarn_status tarn_host_open(tarn_context *cx, const tarn_host_options *o, tarn_host **out,
                           tarn_error *err) {
    *out = NULL;
    tarn_host *h = tarn_alloc_zero(&cx->budget, sizeof *h);
    if (!h) {
        return tarn_raise_nomem(err, "the Lua host", sizeof *h);
    }
    h->cx = cx;
    h->trust = o->trust;
    h->stack_floor = stack_middle();
    h->folder = -1;
    tarn_arena_init(&h->arena, &cx->budget);
    tarn_text_init(&h->traceback, &cx->budget);
    tarn_status s = setup(h, o, err);
    if (s != TARN_OK) {
        tarn_host_close(h);
        return s;
    }
    *out = h;
    return TARN_OK;
}

tarn_status tarn_host_open_guest(tarn_host *h, const tarn_host_options *o, tarn_host **out,
                                 tarn_error *err) {
    tarn_status s = tarn_host_open(h->cx, o, out, err);
    if (s == TARN_OK) {
        (*out)->owner = h;
        (*out)->next_guest = atomic_load(&h->guests);
        atomic_store(&h->guests, *out);
    }
    return s;
}

// A tick that comes in the middle sees the list with the guest or without it.
static void leave_owner(tarn_host *h) {
    if (!h->owner) {
        return;
    }
    if (atomic_load(&h->owner->guests) == h) {
        atomic_store(&h->owner->guests, h->next_guest);
        return;
    }
    for (tarn_host *g = atomic_load(&h->owner->guests); g; g = g->next_guest) {
        if (g->next_guest == h) {
            g->next_guest = h->next_guest;
        }
    }
}

void tarn_host_close(tarn_host *h) {
    if (!h) {
        return;
    }
    tarn_context *cx = h->cx;
    leave_owner(h);
    if (h->L) {
        lua_setwarnf(h->L, NULL, NULL);  // a finaliser that finds no memory now says nothing useful
        lua_settop(h->L, 0);
        lua_gc(h->L, LUA_GCCOLLECT);
        lua_close(h->L);  // the limits stay armed until here
    }
    tarn_budget_give(&cx->budget, h->reserve);
    atomic_store(&h->current, NULL);
    tarn_stop_close(h);
    if (h->folder >= 0) {
        close(h->folder);
    }
    tarn_free(&cx->budget, h->folder_name, h->folder_room);
    tarn_free(&cx->budget, h->docs, (size_t)h->doc_room * sizeof *h->docs);
    tarn_text_free(&h->traceback);
    tarn_arena_free(&h->arena);
    tarn_free(&cx->budget, h, sizeof *h);
}

static tarn_type_hooks *hooks_of(tarn_host *h, const char *type) {
    for (int i = 0; i < h->type_count; i++) {
        if (strcmp(h->types[i].type, type) == 0) {
            return &h->types[i];
        }
    }
    return NULL;
}

static tarn_type_hooks *hooks_for(tarn_host *h, const char *type) {
    tarn_type_hooks *t = hooks_of(h, type);
    if (!t) {
        if (h->type_count == TARN_HOST_TYPES || strlen(type) >= TARN_TYPE_NAME) {
            luaL_error(h->L, "too many userdata types (or a name too long): %s", type);
        }
        t = &h->types[h->type_count++];
        strcpy(t->type, type);
    }
    return t;
}

void tarn_host_printer(tarn_host *h, const char *type, tarn_lua_printer show) {
    hooks_for(h, type)->show = show;
}

void tarn_host_completer(tarn_host *h, const char *type, tarn_lua_completer complete) {
    hooks_for(h, type)->complete = complete;
}
