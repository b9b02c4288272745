// SPDX-License-Identifier: Apache-2.0
// The one place of the program with mutable file-level state: a signal handler has no other way to
// find its host. Handlers are installed without SA_RESTART, so a script that waits for input wakes.
#include "vm/cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic(tarn_host *) running;
static atomic_llong asked_at;       // CLOCK_MONOTONIC, ms, of the Ctrl-C that was not answered yet
static atomic_bool pipe_closed;

enum { PATIENCE_MS = 1000 };

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void tell(const char *s) {
    ssize_t n = write(STDERR_FILENO, s, strlen(s));
    (void)n;
}

// The stop flag still stands since the first Ctrl-C: nothing has answered yet.
static void insist(void) {
    if (now_ms() - atomic_load(&asked_at) >= PATIENCE_MS) {
        tell("\ntarn: ended at once; temporary files may be left behind\n");
        _exit(130);
    }
    tell("\ntarn: stopping (Ctrl-C again in a second ends the program at once)\n");
}

static void on_signal(int sig) {
    int saved = errno;
    tarn_host *h = atomic_load(&running);
    if (!h) {
        _exit(128 + sig);
    }
    lua_State *L = tarn_host_state(h);
    if (sig == SIGINT && tarn_cancel_reason(&tarn_host_context(L)->cancel) == TARN_STOP_INT) {
        insist();
    } else if (sig == SIGINT) {
        atomic_store(&asked_at, now_ms());
    } else if (sig == SIGPIPE) {
        atomic_store(&pipe_closed, true);
    }
    tarn_host_stop(h, sig == SIGINT ? TARN_STOP_INT : sig == SIGHUP ? TARN_STOP_HUP
                                                                     : TARN_STOP_TERM);
    errno = saved;
}

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
enum { CAUGHT = sizeof caught / sizeof *caught };

static void set(int sig, void (*handler)(int)) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = handler;
    sigemptyset(&a.sa_mask);
    sigaction(sig, &a, NULL);
}

void tarn_signals_install(tarn_host *h) {
    atomic_store(&running, h);
    for (int i = 0; i < CAUGHT; i++) {
        struct sigaction old;
        // What the parent told us to ignore (nohup, a background job) stays ignored; an ignored
        // SIGPIPE would only turn a quiet end into an error.
        if (caught[i] == SIGPIPE ||
            (sigaction(caught[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)) {
            set(caught[i], on_signal);
        }
    }
}

void tarn_signals_remove(void) {
    for (int i = 0; i < CAUGHT; i++) {
        struct sigaction old;
        if (sigaction(caught[i], NULL, &old) == 0 && old.sa_handler == on_signal) {
            set(caught[i], SIG_DFL);
        }
    }
    atomic_store(&running, NULL);
}

bool tarn_signals_pipe_closed(void) { return atomic_load(&pipe_closed); }
