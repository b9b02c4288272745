// SPDX-License-Identifier: Apache-2.0
// The child's side of a jail. Three walls, each of which stands alone: limits of the kernel on what a
// process may use, Landlock against paths, and a filter of system calls that leaves memory, time and
// writing on the descriptors that are open. A call that libraries try in good faith (opening a file, asking for its
// size) is refused with EPERM, so that they can say so; any other ends the process.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm/jail/jail.h"

#if defined(__SANITIZE_ADDRESS__)
enum { COUNTS_ADDRESSES = 0 };  // the sanitizer maps terabytes that it does not use
#else
enum { COUNTS_ADDRESSES = 1 };
#endif

static tarn_status no_wall(const char *what, int why, tarn_error *err) {
    TARN_RAISE(err, "NoJail", "cannot shut in a script that is not trusted: %s: %s", what, strerror(why));
}

// ---- limits ----

static size_t mapped(void) {
    char text[64] = "";
    unsigned long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        text[n > 0 ? n : 0] = '\0';
        sscanf(text, "%lu", &pages);
    }
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static tarn_status set_limits(double seconds, size_t memory, tarn_error *err) {
    rlim_t time = (rlim_t)ceil(seconds), room = mapped() + memory;
    const struct {
        __rlimit_resource_t what;
        rlim_t most;
        const char *name;
    } limits[] = {{RLIMIT_CPU, time, "processor time"}, {RLIMIT_AS, room, "memory"},
                  {RLIMIT_NOFILE, 0, "files"}, {RLIMIT_NPROC, 0, "processes"},
                  {RLIMIT_FSIZE, 0, "size of files"}, {RLIMIT_CORE, 0, "core files"},
                  {RLIMIT_MEMLOCK, 0, "locked memory"}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        // The second limit of processor time is SIGKILL, which says less. Nobody may go above one that is there.
        struct rlimit r = {limits[i].most, limits[i].most + (limits[i].what == RLIMIT_CPU)}, there;
        if (getrlimit(limits[i].what, &there) == 0 && there.rlim_max < r.rlim_max) {
            r.rlim_max = there.rlim_max;
            r.rlim_cur = r.rlim_cur < r.rlim_max ? r.rlim_cur : r.rlim_max;
        }
        if ((limits[i].what != RLIMIT_AS || COUNTS_ADDRESSES) && setrlimit(limits[i].what, &r) != 0) {
            return no_wall(limits[i].name, errno, err);
        }
    }
    return TARN_OK;
}

// ---- paths and the network, by Landlock ----

// The kernel's structure; one that it does not know whole must be zero behind what it knows.
typedef struct {
    uint64_t files, network, scope;
} landlock_rules;

// A set of rules that handles everything and allows nothing.
static tarn_status forbid_paths(tarn_error *err) {
    enum { CREATE = 444, RESTRICT = 446, VERSION = 1 };
    long version = syscall(CREATE, NULL, 0, VERSION);
    if (version < 1) {
        return TARN_OK;  // a kernel without it
    }
    int files = version == 1 ? 13 : version == 2 ? 14 : version < 5 ? 15 : 16;
    landlock_rules r = {.files = ((uint64_t)1 << files) - 1, .network = version >= 4 ? 3 : 0,
                        .scope = version >= 6 ? 3 : 0};
    long fd = syscall(CREATE, &r, sizeof r, 0);
    if (fd < 0) {
        return no_wall("landlock_create_ruleset", errno, err);
    }
    long done = syscall(RESTRICT, (int)fd, 0);
    int why = errno;
    close((int)fd);
    return done == 0 ? TARN_OK : no_wall("landlock_restrict_self", why, err);
}

// ---- system calls ----

static const int allowed[] = {
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(close),
    SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
    SCMP_SYS(sched_yield), SCMP_SYS(exit), SCMP_SYS(exit_group),
    SCMP_SYS(timer_settime), SCMP_SYS(timer_delete),  // the timer that stops scripts
    SCMP_SYS(sysinfo),  // qsort asks how much memory there is
#if defined(__SANITIZE_ADDRESS__)
    SCMP_SYS(sigaltstack),  // the sanitizer puts its own away at the end
#endif
};

// What libraries try and can do without.
static const int refused[] = {
    SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(creat), SCMP_SYS(access),
    SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstat),
    SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getcwd),
    SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(rename),
    SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(statfs), SCMP_SYS(fstatfs), SCMP_SYS(lseek),
    SCMP_SYS(ioctl), SCMP_SYS(fcntl), SCMP_SYS(getrandom), SCMP_SYS(sched_getaffinity), SCMP_SYS(uname),
    SCMP_SYS(getpid), SCMP_SYS(gettimeofday), SCMP_SYS(getcpu), SCMP_SYS(getrusage),
};

static int add_rules(scmp_filter_ctx f) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof allowed / sizeof *allowed; i++) {
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    }
    for (size_t i = 0; r == 0 && i < sizeof refused / sizeof *refused; i++) {
        r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
    }
    r = r ? r : seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
                                 SCMP_A0(SCMP_CMP_LE, TARN_JAIL_ANSWER, 0));
    // Memory that is nobody's file and never code.
    r = r ? r : seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                                 SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
    // A compiler of patterns does without where it gets no room for code; who makes data into code is ended.
    r = r ? r : seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
    return r ? r : seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                    SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

static tarn_status forbid_calls(tarn_error *err) {
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!f) {
        return no_wall("seccomp", ENOMEM, err);
    }
    int r = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    r = r ? r : add_rules(f);
    r = r ? r : seccomp_load(f);
    seccomp_release(f);
    return r == 0 ? TARN_OK : no_wall("seccomp", -r, err);
}

tarn_status tarn_jail_enter(unsigned walls, double seconds, size_t memory, tarn_error *err) {
    // Gone with the parent; no rights by running anything.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return no_wall("prctl", errno, err);
    }
    // It may have gone before: then nobody has the other end of the answer.
    struct pollfd parent = {.fd = TARN_JAIL_ANSWER};
    if (poll(&parent, 1, 0) > 0 && (parent.revents & POLLERR)) {
        return no_wall("nobody waits for the answer", EPIPE, err);
    }
    if (walls & TARN_JAIL_LANDLOCK) {
        TARN_TRY(forbid_paths(err));
    }
    if (walls & TARN_JAIL_LIMITS) {
        TARN_TRY(set_limits(seconds, memory, err));
    }
    return walls & TARN_JAIL_FILTER ? forbid_calls(err) : TARN_OK;
}

tarn_status tarn_jail_question(tarn_text *question, tarn_error *err) {
    char piece[1 << 16];
    ssize_t n;
    while ((n = read(TARN_JAIL_QUESTION, piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR)) {
        tarn_text_add(question, piece, n > 0 ? (size_t)n : 0);
    }
    if (question->failed) {
        return tarn_raise_nomem(err, "the question", question->len);
    }
    return n == 0 ? TARN_OK : no_wall("reading the question", errno, err);
}

bool tarn_jail_answer(const char *text, size_t len) {
    while (len > 0) {
        ssize_t n = write(TARN_JAIL_ANSWER, text, len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        text += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}
