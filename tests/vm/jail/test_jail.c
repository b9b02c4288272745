// SPDX-License-Identifier: Apache-2.0
// A compromised child, played by this program started again: it walks through what an attacker would try
// once he runs code of his own. Each attack is tried behind all walls, behind each single wall that should
// stop it, and behind none, where it has to succeed: so every wall is seen to stand and to matter.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support.h"
#include "vm/jail/jail.h"

enum { LIMITS = TARN_JAIL_LIMITS, FILTER = TARN_JAIL_FILTER, LANDLOCK = TARN_JAIL_LANDLOCK, ALL = TARN_JAIL_ALL };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

// ---- what the child is told ----

typedef struct {
    char secret[128], fresh[128], socket[64];  // a file to read, one to make, an abstract socket
    int port;
    pid_t parent;
    const char *word;  // in the parent's memory
} target;

static char answer_of_parent[] = "word of the parent";

// ---- attacks: 0 when one succeeded, else errno ----

static int a_nothing(const target *t) { return 0; }

static int open_and_tell(const char *path) {
    char text[64];
    int fd = open(path, O_RDONLY);
    return fd < 0 || read(fd, text, sizeof text) < 0 ? errno : 0;
}

static int a_read_file(const target *t) { return open_and_tell(t->secret); }

static int a_read_proc(const target *t) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)t->parent);
    return open_and_tell(path);
}

static int a_read_self(const target *t) { return open_and_tell("/proc/self/maps"); }

static int a_device(const target *t) { return open_and_tell("/dev/urandom"); }

static int a_make_file(const target *t) {
    int fd = open(t->fresh, O_WRONLY | O_CREAT, 0600);
    return fd < 0 || write(fd, "x", 1) != 1 ? errno : 0;
}

static int a_make_link(const target *t) { return symlink(t->secret, t->fresh) != 0 ? errno : 0; }

static int a_make_fifo(const target *t) { return mkfifo(t->fresh, 0600) != 0 ? errno : 0; }

static int a_remove_file(const target *t) { return unlink(t->secret) != 0 ? errno : 0; }

static int a_network(const target *t) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)t->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ? errno : 0;
}

static socklen_t name_socket(struct sockaddr_un *a, const char *name) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path + 1, name);  // a zero byte first: no path
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static int a_local_socket(const target *t) {
    struct sockaddr_un to;
    socklen_t n = name_socket(&to, t->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 || connect(fd, (struct sockaddr *)&to, n) != 0 ? errno : 0;
}

static int a_fork(const target *t) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    return pid < 0 ? errno : 0;
}

static int a_exec(const target *t) {
    execl("/bin/sh", "sh", "-c", "printf done >&3", (char *)NULL);
    return errno;
}

static int a_read_memory(const target *t) {
    char text[sizeof answer_of_parent];
    struct iovec here = {text, sizeof text}, there = {(void *)(uintptr_t)t->word, sizeof text};
    return process_vm_readv(t->parent, &here, 1, &there, 1, 0) < 0 ? errno : 0;
}

static int a_ptrace(const target *t) { return ptrace(PTRACE_SEIZE, t->parent, 0, 0) < 0 ? errno : 0; }

static int a_kill(const target *t) { return kill(t->parent, SIGUSR1) != 0 ? errno : 0; }

static int a_huge_allocation(const target *t) { return malloc((size_t)2 << 30) ? 0 : errno; }

static int a_huge_mapping(const target *t) {
    void *p = mmap(NULL, (size_t)1 << 40, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}

static int a_new_code(const target *t) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}

static int a_old_data_as_code(const target *t) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED || mprotect(p, 4096, PROT_READ | PROT_EXEC) != 0 ? errno : 0;
}

static int a_memory_file(const target *t) { return memfd_create("x", 0) < 0 ? errno : 0; }

static int a_namespace(const target *t) {
    return syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */) != 0 ? errno : 0;
}

static int a_sleep(const target *t) {
    struct timespec s = {.tv_nsec = 1000000};
    return nanosleep(&s, NULL) != 0 ? errno : 0;
}

static const struct {
    const char *name;
    int (*run)(const target *t);
    unsigned walls;  // each of which stops it
} attacks[] = {
    {"nothing", a_nothing, 0},
    {"read_file", a_read_file, LIMITS | FILTER | LANDLOCK},
    {"read_proc", a_read_proc, LIMITS | FILTER | LANDLOCK},
    {"read_self", a_read_self, LIMITS | FILTER | LANDLOCK},
    {"device", a_device, LIMITS | FILTER | LANDLOCK},
    {"make_file", a_make_file, LIMITS | FILTER | LANDLOCK},
    {"make_link", a_make_link, FILTER | LANDLOCK},
    {"make_fifo", a_make_fifo, FILTER | LANDLOCK},
    {"remove_file", a_remove_file, FILTER | LANDLOCK},
    {"network", a_network, LIMITS | FILTER | LANDLOCK},
    {"local_socket", a_local_socket, LIMITS | FILTER | LANDLOCK},
    {"fork", a_fork, LIMITS | FILTER},
    {"exec", a_exec, LIMITS | FILTER | LANDLOCK},  // with no files the new program finds no library
    {"read_memory", a_read_memory, FILTER | LANDLOCK},
    {"ptrace", a_ptrace, FILTER | LANDLOCK},
    {"kill", a_kill, FILTER | LANDLOCK},
    {"huge_allocation", a_huge_allocation, LIMITS},
    {"huge_mapping", a_huge_mapping, LIMITS},
    {"new_code", a_new_code, FILTER},
    {"old_data_as_code", a_old_data_as_code, FILTER},
    {"memory_file", a_memory_file, FILTER | LIMITS},
    {"namespace", a_namespace, FILTER},
    {"sleep", a_sleep, FILTER},
};
enum { ATTACKS = sizeof attacks / sizeof *attacks };

// ---- children that end otherwise than by an answer ----

static void e_loop(void) {
    for (volatile unsigned i = 0;; i++) {
    }
}
static void e_die(void) {
    signal(SIGSEGV, SIG_DFL);  // a sanitizer would have a word
    raise(SIGSEGV);
}
static void e_leave(void) { _exit(7); }
static void e_silent(void) {
    close(TARN_JAIL_ANSWER);
    e_loop();
}
static void e_deaf(void) {  // does not even want to be told
    for (;;) {
        pause();
    }
}

static void pour(int fd, size_t n) {
    static char piece[1 << 16];
    memset(piece, 'x', sizeof piece);
    for (size_t at = 0; at < n; at += sizeof piece) {
        if (write(fd, piece, sizeof piece) < 0) {
            _exit(9);
        }
    }
    _exit(0);
}
static void e_flood(void) { pour(TARN_JAIL_ANSWER, (size_t)4 << 20); }
static void e_talk(void) { pour(TARN_JAIL_SAID, (size_t)4 << 20); }
static void e_flood_forever(void) { pour(TARN_JAIL_ANSWER, SIZE_MAX / 2); }

static const struct {
    const char *name;
    void (*run)(void);
} ends[] = {{"loop", e_loop}, {"die", e_die}, {"leave", e_leave}, {"silent", e_silent}, {"deaf", e_deaf},
            {"flood", e_flood}, {"talk", e_talk}, {"flood_forever", e_flood_forever}};
enum { ENDS = sizeof ends / sizeof *ends };

// ---- the child ----

// jailed NAME WALLS
static int child_main(char **argv) {
    tarn_budget budget;
    tarn_text question;
    tarn_error err = {0};
    target t = {0};
    tarn_budget_init(&budget, (size_t)1 << 30);
    tarn_text_init(&question, &budget);
    if (tarn_jail_question(&question, &err) != TARN_OK) {
        return 3;
    }
    if (question.len == sizeof t) {
        memcpy(&t, question.data, sizeof t);
    }
    if (strcmp(argv[2], "inside") == 0) {  // nothing of the parent's is here
        char text[64];
        int open_ones = 0;
        for (int fd = 4; fd < 1024; fd++) {
            open_ones += fcntl(fd, F_GETFD) >= 0;
        }
        snprintf(text, sizeof text, "%d descriptors, secret %s", open_ones, getenv("SECRET") ? "there" : "absent");
        tarn_jail_answer(text, strlen(text));
        return 0;
    }
    // The limit of processes does not hold for root.
    if (strcmp(argv[2], "fork") == 0 && geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) {
        return 3;
    }
    if (tarn_jail_enter((unsigned)atoi(argv[3]), 1, (size_t)256 << 20, &err) != TARN_OK) {
        fprintf(stderr, "%s", err.message);
        return 4;
    }
    for (int i = 0; i < ENDS; i++) {
        if (strcmp(argv[2], ends[i].name) == 0) {
            ends[i].run();
        }
    }
    for (int i = 0; i < ATTACKS; i++) {
        if (strcmp(argv[2], attacks[i].name) == 0) {
            int why = attacks[i].run(&t);
            char text[64];
            snprintf(text, sizeof text, why ? "refused: %d" : "done", why);
            tarn_jail_answer(text, strlen(text));
            _exit(0);
        }
    }
    return 5;
}

// ---- the parent ----

typedef struct {
    tarn_budget budget;
    tarn_text answer, said;
    tarn_error err;
    double took;
} result;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static tarn_status run(result *r, const char *name, unsigned walls, const tarn_jail *how, const target *t) {
    char number[16];
    snprintf(number, sizeof number, "%u", walls);
    const char *argv[] = {"test", "jailed", name, number, NULL};
    tarn_jail j = *how;
    j.argv = argv;
    memset(r, 0, sizeof *r);
    tarn_budget_init(&r->budget, (size_t)1 << 30);
    tarn_text_init(&r->answer, &r->budget);
    tarn_text_init(&r->said, &r->budget);
    r->took = now();
    tarn_status s = tarn_jail_run(&j, t ? (const char *)t : "", t ? sizeof *t : 0, &r->answer, &r->said, &r->err);
    r->took = now() - r->took;
    return s;
}

static void drop(result *r) {
    tarn_text_free(&r->answer);
    tarn_text_free(&r->said);
}

static const tarn_jail usual = {.seconds = 20, .answer = 1 << 20, .said = 1 << 20};

static atomic_int signals;
static void on_signal(int sig) { atomic_fetch_add(&signals, 1); }

typedef struct {
    target t;
    char folder[64];
    int net, local;
} world;

static void write_secret(const world *w) {
    int fd = open(w->t.secret, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "secret", 6), 6);
    close(fd);
}

static int set_up(void **state) {
    world *w = calloc(1, sizeof *w);
    strcpy(w->folder, "/tmp/tarn-jail-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    assert_int_equal(chmod(w->folder, 0777), 0);
    snprintf(w->t.secret, sizeof w->t.secret, "%s/secret", w->folder);
    snprintf(w->t.fresh, sizeof w->t.fresh, "%s/fresh", w->folder);
    snprintf(w->t.socket, sizeof w->t.socket, "tarn-jail-%d", (int)getpid());
    w->t.parent = getpid();
    w->t.word = answer_of_parent;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    w->net = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(w->net, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(w->net, 8), 0);
    assert_int_equal(getsockname(w->net, (struct sockaddr *)&a, &n), 0);
    w->t.port = ntohs(a.sin_port);
    struct sockaddr_un u;
    n = name_socket(&u, w->t.socket);
    w->local = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(w->local, (struct sockaddr *)&u, n), 0);
    assert_int_equal(listen(w->local, 8), 0);
    signal(SIGUSR1, on_signal);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    unlink(w->t.secret);
    unlink(w->t.fresh);
    rmdir(w->folder);
    close(w->net);
    close(w->local);
    free(w);
    return 0;
}

// Whether the attack succeeded behind these walls.
static bool succeeds(const world *w, int k, unsigned walls) {
    result r;
    int before = atomic_load(&signals);
    write_secret(w);
    unlink(w->t.fresh);
    tarn_status s = run(&r, attacks[k].name, walls, &usual, &w->t);
    bool done = s == TARN_OK && r.answer.len == 4 && memcmp(r.answer.data, "done", 4) == 0;
    bool refused = s == TARN_OK && r.answer.len > 8 && memcmp(r.answer.data, "refused:", 8) == 0;
    refused = refused || (strcmp(r.err.code, "ChildDied") == 0 && strstr(r.err.message, "code 127"));
    if (!done && !refused && strcmp(r.err.code, "Forbidden") != 0) {
        fail_msg("%s behind %u: [%s] %s; answered '%s'; said '%s'", attacks[k].name, walls, r.err.code,
                 r.err.message, r.answer.data ? r.answer.data : "", r.said.data ? r.said.data : "");
    }
    // What it says is one thing, what is to be seen another.
    if (!done) {
        assert_int_equal(access(w->t.secret, F_OK), 0);
        assert_int_not_equal(access(w->t.fresh, F_OK), 0);
        assert_int_equal(atomic_load(&signals), before);
    }
    drop(&r);
    return done;
}

static unsigned held_by_kernel(int k) {  // walls that this kernel has in full
    static const char *const newer[] = {"network", "local_socket", "kill"};
    unsigned walls = attacks[k].walls;
    long version = syscall(444, NULL, 0, 1);
    bool young = version < 6;
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) {
        if (version < 1 || (young && strcmp(attacks[k].name, newer[i]) == 0)) {
            walls &= ~(unsigned)LANDLOCK;
        }
    }
    return walls;
}

static void test_attacks(void **state) {
    const world *w = *state;
    for (int k = 0; k < ATTACKS; k++) {
        if (SANITIZED && attacks[k].walls == LIMITS) {
            print_message("%s: skipped, a sanitizer maps memory without end\n", attacks[k].name);
            continue;
        }
        unsigned walls = held_by_kernel(k);
        if (succeeds(w, k, ALL) != (attacks[k].walls == 0)) {
            fail_msg("%s behind all walls", attacks[k].name);
        }
        for (unsigned one = 1; one < ALL; one <<= 1) {
            if ((walls & one) && succeeds(w, k, one)) {
                fail_msg("%s succeeds although wall %u stands", attacks[k].name, one);
            }
        }
        if (!succeeds(w, k, ALL & ~attacks[k].walls)) {
            fail_msg("%s fails although no wall against it stands: the test proves nothing", attacks[k].name);
        }
    }
}

static void expect(result *r, tarn_status s, const char *code, const char *message, double at_least, double at_most) {
    if (s == TARN_OK || strcmp(r->err.code, code) != 0 || !strstr(r->err.message, message)) {
        fail_msg("expected %s '%s', got [%s] %s", code, message, r->err.code, r->err.message);
    }
    if (r->took < at_least - 0.05 || r->took > at_most * (SANITIZED ? 10 : 3)) {
        fail_msg("%s: took %g s, expected %g to %g", code, r->took, at_least, at_most);
    }
    drop(r);
}

// Time is limited twice: processor time by the kernel, the clock by the parent.
static void test_time(void **state) {
    result r;
    tarn_jail soon = usual;
    soon.seconds = 0.3;
    tarn_status s = run(&r, "loop", LIMITS, &usual, NULL);
    expect(&r, s, "TimeLimit", "processor time", 0.9, 6);
    soon.seconds = 1.3;  // without the kernel's limit of one second it would run on
    s = run(&r, "loop", ALL & ~LIMITS, &soon, NULL);
    expect(&r, s, "TimeLimit", "more than 1.3 s", 1.3, 3);
    soon.seconds = 0.3;
    s = run(&r, "deaf", LIMITS, &soon, NULL);  // sleeping costs no processor time
    expect(&r, s, "TimeLimit", "more than 0.3 s", 0.3, 1);
    s = run(&r, "deaf", ALL, &usual, NULL);
    expect(&r, s, "Forbidden", "system call", 0, 1);
}

static void test_ends(void **state) {
    result r;
    tarn_status s = run(&r, "die", LIMITS, &usual, NULL);
    expect(&r, s, "ChildDied", "Segmentation fault", 0, 1);
    s = run(&r, "leave", ALL, &usual, NULL);
    expect(&r, s, "ChildDied", "code 7", 0, 1);
    s = run(&r, "silent", ALL & ~LIMITS, &usual, NULL);
    expect(&r, s, "ChildDied", "Killed", 0, 3);
}

static void test_floods(void **state) {
    result r;
    tarn_jail wide = usual;
    wide.answer = wide.said = (size_t)8 << 20;
    tarn_status s = run(&r, "flood", ALL, &usual, NULL);
    assert_true(r.answer.len <= usual.answer);
    expect(&r, s, "OutputTooLarge", "its answer has", 0, 1);
    s = run(&r, "talk", ALL, &usual, NULL);
    assert_true(r.said.len <= usual.said);
    expect(&r, s, "OutputTooLarge", "it printed", 0, 1);
    s = run(&r, "flood_forever", ALL, &usual, NULL);
    expect(&r, s, "OutputTooLarge", "its answer has", 0, 1);
    // Without the bound the parent takes all of it.
    assert_int_equal(run(&r, "flood", ALL, &wide, NULL), TARN_OK);
    assert_int_equal(r.answer.len, (size_t)4 << 20);
    drop(&r);
    assert_int_equal(run(&r, "talk", ALL, &wide, NULL), TARN_OK);
    assert_int_equal(r.said.len, (size_t)4 << 20);
    drop(&r);
}

static void test_stop(void **state) {
    result r;
    tarn_cancel stop = {0};
    tarn_jail j = usual;
    j.cancel = &stop;
    tarn_cancel_set(&stop, TARN_STOP_INT);
    tarn_status s = run(&r, "loop", ALL, &j, NULL);
    assert_int_equal(s, TARN_CANCELLED);
    assert_true(r.took < (SANITIZED ? 10 : 2));
    drop(&r);
}

static void test_inside(void **state) {
    result r;
    int spare = dup(STDIN_FILENO);  // without FD_CLOEXEC, as a careless library would leave it
    assert_true(spare >= 0);
    setenv("SECRET", "x", 1);
    assert_int_equal(run(&r, "inside", ALL, &usual, NULL), TARN_OK);
    assert_string_equal(r.answer.data, "0 descriptors, secret absent");
    drop(&r);
    close(spare);
}

// Every system call there is, but for those that the filter lets through, ends in EPERM or in the end.
static void test_all_calls(void **state) {
    static const int through[] = {SYS_write, SYS_close, SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex,
                                  SYS_clock_gettime, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall,
                                  SYS_sched_yield, SYS_exit, SYS_exit_group, SYS_timer_settime, SYS_timer_delete, SYS_sysinfo,
                                  SYS_mprotect};
    int killed = 0;
    for (int n = 0; n < 480; n++) {
        bool skip = n >= 335 && n < 424;  // no such numbers
        skip = skip || (SANITIZED && n == SYS_sigaltstack);
        for (size_t i = 0; i < sizeof through / sizeof *through; i++) {
            skip = skip || through[i] == n;
        }
        if (skip) {
            continue;
        }
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            if (tarn_jail_enter(FILTER, 1, 0, NULL) != TARN_OK) {
                _exit(2);
            }
            long r = syscall(n, 0, 0, 0, 0, 0, 0);
            _exit(r == -1 && errno == EPERM ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        bool ended = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
        if (!ended && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
            fail_msg("system call %d got through the filter (status %x)", n, (unsigned)status);
        }
        killed += ended;
    }
    assert_true(killed > 300);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "jailed") == 0) {
        return child_main(argv);
    }
    const char *preloaded = getenv("LD_PRELOAD");
    if (preloaded && strstr(preloaded, "vgpreload")) {
        print_message("skipped: valgrind starts no program again, and its system calls are not for the filter\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_attacks, set_up, tear_down),
        cmocka_unit_test(test_time), cmocka_unit_test(test_ends), cmocka_unit_test(test_floods),
        cmocka_unit_test(test_stop), cmocka_unit_test(test_inside), cmocka_unit_test(test_all_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
