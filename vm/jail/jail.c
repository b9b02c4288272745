// SPDX-License-Identifier: Apache-2.0
// The parent's side of a jail: starting the child, watching it, learning how it ended. A program that
// is started anew, rather than a fork of this one, has no threads, no secrets in its memory, and knows
// nothing of where things lie in the memory of its parent. The question lies in a sealed file without a
// name, so that no child can block its parent by not reading.
#include "vm/jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 50, GRACE_MS = 1000 };  // how often the stop flag is looked at; from last word to end

typedef struct {
    int question, answer[2], said[2];  // descriptors; -1: none
    pid_t pid;
    int status;  // as waitpid has it
} child;

static void close_one(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static tarn_status no_jail(const char *what, int why, tarn_error *err) {
    TARN_RAISE(err, "NoJail", "cannot make a process for a script that is not trusted: %s: %s", what,
               strerror(why));
}

// ---- starting ----

static tarn_status write_question(child *c, const char *text, size_t len, tarn_error *err) {
    c->question = memfd_create("question", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (c->question < 0) {
        return no_jail("memfd_create", errno, err);
    }
    for (size_t at = 0; at < len;) {
        ssize_t n = write(c->question, text + at, len - at);
        if (n < 0 && errno != EINTR) {
            return no_jail("writing the question", errno, err);
        }
        at += n > 0 ? (size_t)n : 0;
    }
    if (lseek(c->question, 0, SEEK_SET) != 0 ||
        fcntl(c->question, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
        return no_jail("sealing the question", errno, err);
    }
    return TARN_OK;
}

static tarn_status make_pipes(child *c, tarn_error *err) {
    if (pipe2(c->answer, O_CLOEXEC) != 0 || pipe2(c->said, O_CLOEXEC) != 0 ||
        fcntl(c->answer[0], F_SETFL, O_NONBLOCK) != 0 || fcntl(c->said[0], F_SETFL, O_NONBLOCK) != 0) {
        return no_jail("pipe", errno, err);
    }
    return TARN_OK;
}

static int set_descriptors(posix_spawn_file_actions_t *a, const child *c) {
    // Descriptor 3 last: it may be one of those that are copied before.
    int why = posix_spawn_file_actions_adddup2(a, c->question, TARN_JAIL_QUESTION);
    why = why ? why : posix_spawn_file_actions_adddup2(a, c->said[1], TARN_JAIL_SAID);
    why = why ? why : posix_spawn_file_actions_adddup2(a, c->said[1], STDERR_FILENO);
    why = why ? why : posix_spawn_file_actions_adddup2(a, c->answer[1], TARN_JAIL_ANSWER);
    return why ? why : posix_spawn_file_actions_addclosefrom_np(a, TARN_JAIL_ANSWER + 1);
}

// The environment holds what the loader needs to find the libraries, where that was set, and no more.
static tarn_status start(child *c, const char *const *argv, tarn_error *err) {
    char libraries[4096], *env[2] = {NULL, NULL};
    static const char name[] = "LD_LIBRARY_PATH=";
    const char *path = getenv("LD_LIBRARY_PATH");
    if (path && strlen(path) < sizeof libraries - sizeof name) {
        memcpy(libraries, name, sizeof name - 1);
        strcpy(libraries + sizeof name - 1, path);
        env[0] = libraries;
    }
    posix_spawn_file_actions_t actions;
    int why = posix_spawn_file_actions_init(&actions);
    if (why == 0) {
        why = set_descriptors(&actions, c);
        why = why ? why : posix_spawn(&c->pid, "/proc/self/exe", &actions, NULL,
                                      (char *const *)(uintptr_t)argv, env);
        posix_spawn_file_actions_destroy(&actions);
    }
    if (why != 0) {
        c->pid = -1;
        return no_jail("/proc/self/exe", why, err);
    }
    close_one(&c->question);
    close_one(&c->answer[1]);
    close_one(&c->said[1]);
    return TARN_OK;
}

// ---- watching ----

// Takes what is there; *open is false at the end of the pipe.
static tarn_status take(int fd, tarn_text *text, size_t most, bool *open, const char *what,
                        tarn_error *err) {
    char piece[1 << 14];
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n <= 0) {
            *open = n < 0 && (errno == EAGAIN || errno == EINTR);
            return TARN_OK;
        }
        if (text->len + (size_t)n > most) {
            TARN_RAISE(err, "OutputTooLarge", "%s more than %zu bytes", what, most);
        }
        tarn_text_add(text, piece, (size_t)n);
        if (text->failed) {
            return tarn_raise_nomem(err, "what a script printed", text->len + (size_t)n);
        }
    }
}

static tarn_status take_said(const child *c, const tarn_jail *j, tarn_text *said, bool *open,
                             tarn_error *err) {
    return take(c->said[0], said, j->said, open, "it printed", err);
}

// Until the answer has ended.
static tarn_status watch(const child *c, const tarn_jail *j, tarn_text *answer, tarn_text *said,
                         tarn_error *err) {
    long long until = now_ms() + (long long)(1000 * j->seconds);
    bool more = true, talks = true;
    while (more) {
        struct pollfd p[] = {{.fd = c->answer[0], .events = POLLIN},
                             {.fd = talks ? c->said[0] : -1, .events = POLLIN}};
        long long left = until - now_ms();
        if (left <= 0) {
            TARN_RAISE(err, "TimeLimit", "it took more than %g s", j->seconds);
        }
        if (poll(p, 2, left < TICK_MS ? (int)left : TICK_MS) < 0 && errno != EINTR) {
            return no_jail("poll", errno, err);
        }
        TARN_TRY(j->cancel ? tarn_cancel_check(j->cancel, err) : TARN_OK);
        if (talks) {
            TARN_TRY(take_said(c, j, said, &talks, err));
        }
        TARN_TRY(take(c->answer[0], answer, j->answer, &more, "its answer has", err));
    }
    return TARN_OK;
}

// ---- its end ----

// A child that has said its last word gets a moment to go by itself, so that it can be told how it ended.
static void reap(child *c, bool patient) {
    long long until = now_ms() + GRACE_MS;
    bool gone = false;
    while (patient && !gone && now_ms() < until) {
        gone = waitpid(c->pid, &c->status, WNOHANG) == c->pid;
        if (!gone) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    if (!gone) {
        kill(c->pid, SIGKILL);
        while (waitpid(c->pid, &c->status, 0) < 0 && errno == EINTR) {
        }
    }
    c->pid = -1;
}

static tarn_status how_it_ended(const child *c, const tarn_jail *j, tarn_error *err) {
    int sig = WIFSIGNALED(c->status) ? WTERMSIG(c->status) : 0;
    if (sig == SIGSYS) {
        TARN_RAISE(err, "Forbidden", "it was ended when it tried a system call that it may not use");
    }
    if (sig == SIGXCPU) {
        TARN_RAISE(err, "TimeLimit", "it took more than %g s of processor time", j->seconds);
    }
    if (sig != 0) {
        TARN_RAISE(err, "ChildDied", "its process died: %s", strsignal(sig));
    }
    if (WEXITSTATUS(c->status) != 0) {
        TARN_RAISE(err, "ChildDied", "its process ended with code %d and without an answer",
                   WEXITSTATUS(c->status));
    }
    return TARN_OK;
}

tarn_status tarn_jail_run(const tarn_jail *j, const char *question, size_t len, tarn_text *answer,
                          tarn_text *said, tarn_error *err) {
    child c = {.question = -1, .answer = {-1, -1}, .said = {-1, -1}, .pid = -1};
    tarn_status s = write_question(&c, question, len, err);
    s = s == TARN_OK ? make_pipes(&c, err) : s;
    s = s == TARN_OK ? start(&c, j->argv, err) : s;
    if (s == TARN_OK) {
        s = watch(&c, j, answer, said, err);
        reap(&c, s == TARN_OK);
        bool open;
        s = s == TARN_OK ? take_said(&c, j, said, &open, err) : s;
        s = s == TARN_OK ? how_it_ended(&c, j, err) : s;
    }
    close_one(&c.question);
    for (int i = 0; i < 2; i++) {
        close_one(&c.answer[i]);
        close_one(&c.said[i]);
    }
    return s;
}
