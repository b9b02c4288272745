// SPDX-License-Identifier: Apache-2.0
// Stopping a script. While it runs there is no hook (a count hook costs a factor of two to three).
// A stop sets the context's flag and starts the host's timer, which ticks on the host's own thread;
// each tick arms a hook on the coroutine that runs at that moment, every 20 ms until somebody saw
// it, so a switch of coroutines cannot lose it. The hook marks the host fatal and unwinds; pcall and
// its relatives (protect.c) pass a fatal error on whatever the script wants.
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm/lua/state.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { TICK_NS = 20 * 1000 * 1000 };

// The key of the value thrown while unwinding: made beforehand, so that throwing takes no memory.
static const char unwinding;

static void count_hook(lua_State *L, lua_Debug *ar) {
    tarn_host *h = tarn_host_of(L);
    tarn_error why;
    if (h->fatal) {
        // Already unwinding: code in Lua (a __close that loops) ends at its next instruction; a C
        // function that releases something may run.
        if (ar->event == LUA_HOOKCOUNT) {
            tarn_fatal(L, &h->fatal_error);
        }
        return;
    }
    if (tarn_cancel_check(&h->cx->cancel, &why) == TARN_OK) {
        lua_sethook(L, NULL, 0, 0);  // the stop was taken back
        return;
    }
    tarn_fatal(L, &why);
}

void tarn_stop_arm(tarn_host *h, lua_State *L) {
    if (L) {
        lua_sethook(L, count_hook, h->fatal ? LUA_MASKCOUNT : LUA_MASKCOUNT | LUA_MASKCALL, 1);
    }
}

static bool past_deadline(const tarn_host *h) {
    struct timespec now;
    if (!h->has_deadline) {
        return false;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > h->deadline.tv_sec ||
           (now.tv_sec == h->deadline.tv_sec && now.tv_nsec >= h->deadline.tv_nsec);
}

// A stop that comes while stops are held is written down, the first of them; the deadline comes again
// with each tick.
static bool must_wait(tarn_host *h, tarn_stop_reason why) {
    int none = TARN_STOP_NONE;
    return atomic_load(&h->holding) > 0 &&
           (atomic_compare_exchange_strong(&h->waiting, &none, (int)why) || why == TARN_STOP_DEADLINE);
}

// The timer runs for one of two reasons: a stop, or the deadline.
static void on_tick(int sig, siginfo_t *info, void *context) {
    (void)sig;
    (void)context;
    if (info->si_code != SI_TIMER || !info->si_value.sival_ptr) {
        return;
    }
    tarn_host *h = info->si_value.sival_ptr;
    if (past_deadline(h)) {
        if (!must_wait(h, TARN_STOP_DEADLINE)) {
            tarn_cancel_set(&h->cx->cancel, TARN_STOP_DEADLINE);  // the first reason stays
        }
    }
    if (tarn_cancel_reason(&h->cx->cancel) != TARN_STOP_NONE) {
        tarn_stop_arm(h, atomic_load(&h->current));
        for (tarn_host *g = atomic_load(&h->guests); g; g = g->next_guest) {
            tarn_stop_arm(g, atomic_load(&g->current));
        }
    }
}

static void set_timer(tarn_host *h, bool on, bool at_deadline) {
    struct itimerspec t;
    memset(&t, 0, sizeof t);
    if (on) {
        t.it_interval.tv_nsec = TICK_NS;
        t.it_value.tv_nsec = 1;
        if (at_deadline) {
            t.it_value = h->deadline;
        }
    }
    timer_settime(h->timer, at_deadline ? TIMER_ABSTIME : 0, &t, NULL);
}

void tarn_stop_prepare(lua_State *L) {
    lua_pushliteral(L, "the run is being stopped");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &unwinding);
}

tarn_status tarn_stop_open(tarn_host *h, double seconds, tarn_error *err) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on_tick;
    a.sa_flags = SA_SIGINFO;  // no SA_RESTART: a script that waits for input is woken
    sigemptyset(&a.sa_mask);
    struct sigevent e;
    memset(&e, 0, sizeof e);
    e.sigev_notify = SIGEV_THREAD_ID;
    e.sigev_signo = SIGRTMIN;
    e.sigev_value.sival_ptr = h;
    e.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (sigaction(SIGRTMIN, &a, NULL) != 0 || timer_create(CLOCK_MONOTONIC, &e, &h->timer) != 0) {
        TARN_RAISE(err, "Timer", "cannot make a timer for stopping scripts: %s", strerror(errno));
    }
    h->timed = true;
    if (seconds > 0) {
        tarn_host_limit(h, seconds);
    }
    return TARN_OK;
}

void tarn_host_limit(tarn_host *h, double seconds) {
    h->has_deadline = false;
    set_timer(h, false, false);
    if (seconds > 0) {
        double limit = seconds < 1e9 ? seconds : 1e9;
        clock_gettime(CLOCK_MONOTONIC, &h->deadline);
        long long ns = h->deadline.tv_nsec + (long long)((limit - floor(limit)) * 1e9);
        h->deadline.tv_sec += (time_t)floor(limit) + (time_t)(ns / 1000000000);
        h->deadline.tv_nsec = (long)(ns % 1000000000);
        h->has_deadline = true;
        set_timer(h, true, true);
    }
}

// A tick that is under way reaches this thread before timer_delete returns to it.
void tarn_stop_close(tarn_host *h) {
    if (h->timed) {
        set_timer(h, false, false);
        timer_delete(h->timer);
        h->timed = false;
    }
}

void tarn_host_stop(tarn_host *h, tarn_stop_reason why) {
    int saved = errno;
    if (!must_wait(h, why)) {
        tarn_cancel_set(&h->cx->cancel, why);
        set_timer(h, true, false);
    }
    errno = saved;
}

void tarn_host_hold(tarn_host *h) { atomic_fetch_add(&h->holding, 1); }

bool tarn_host_held(const tarn_host *h) { return atomic_load(&h->waiting) != TARN_STOP_NONE; }

void tarn_host_release(tarn_host *h) {
    if (atomic_fetch_sub(&h->holding, 1) == 1) {
        tarn_stop_reason why = (tarn_stop_reason)atomic_exchange(&h->waiting, TARN_STOP_NONE);
        if (why != TARN_STOP_NONE) {
            tarn_host_stop(h, why);
        }
    }
}

void tarn_host_resume_work(tarn_host *h) {
    set_timer(h, false, false);
    tarn_cancel_clear(&h->cx->cancel);
    lua_sethook(h->L, NULL, 0, 0);
    h->fatal = false;
    h->note[0] = '\0';
    tarn_error_clear(&h->fatal_error);
    if (past_deadline(h)) {
        h->has_deadline = false;  // it was told once; the prompt goes on without
    } else if (h->has_deadline) {
        set_timer(h, true, true);
    }
}

void tarn_host_note(tarn_host *h, const char *text) {
    snprintf(h->note, sizeof h->note, "%s", text ? text : "");
}

void tarn_set_fatal(tarn_host *h, const tarn_error *why) {
    if (h->fatal) {
        return;
    }
    h->fatal_error = *why;
    h->fatal = true;
    if (why->status == TARN_CANCELLED && h->note[0]) {
        size_t n = strlen(h->fatal_error.message);
        snprintf(h->fatal_error.message + n, sizeof h->fatal_error.message - n, "; %s", h->note);
    }
}

_Noreturn void tarn_fatal(lua_State *L, const tarn_error *why) {
    tarn_host *h = tarn_host_of(L);
    tarn_set_fatal(h, why);
    tarn_stop_arm(h, L);  // what runs while this coroutine unwinds
    lua_rawgetp(L, LUA_REGISTRYINDEX, &unwinding);
    lua_error(L);
    for (;;) {
    }
}

void tarn_poll(lua_State *L) {
    tarn_host *h = tarn_host_of(L);
    if (tarn_cancel_reason(&h->cx->cancel) != TARN_STOP_NONE) {
        tarn_error why;
        tarn_cancel_check(&h->cx->cancel, &why);
        tarn_fatal(L, &why);
    }
}

void tarn_rethrow_fatal(lua_State *L, int status) {
    tarn_host *h = tarn_host_of(L);
    if (h->fatal) {
        tarn_fatal(L, &h->fatal_error);
    }
    tarn_poll(L);
    if (status == LUA_ERRMEM && h->trust == TARN_TRUST_RECIPE) {
        tarn_error why;
        tarn_raise_status(&why, TARN_NOMEM, "OutOfMemory",
                          "out of memory: the script needs more than the budget of %zu bytes",
                          h->cx->budget.limit);
        tarn_fatal(L, &why);
    }
}
