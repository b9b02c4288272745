// SPDX-License-Identifier: Apache-2.0
// Runs every script of tests/sandbox (its README tells the comments they begin with), each in a host
// of its own, and checks how it ends, how soon, what it says and prints, and that no byte is left.
#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

#include "tests/vm/lua/host_support.h"

#define FOLDER TARN_SOURCE_DIR "/tests/sandbox"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 10
#else
#define SLOWER 1
#endif

enum { LINES = 16, LINE = 256 };

typedef struct {
    const char *name;     // the last part of the path
    int trusts[2], trust_count;
    size_t memory;        // MiB
    double seconds, stop, within;  // within: 0 says nothing
    char ends[LINE];
    char says[LINES][LINE];
    int say_count;
    char prints[LINES * LINE];
    int warnings;         // -1: not checked
    bool skip;
} expectation;

static int complaints;

static void complain(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vprint_error(fmt, ap);
    va_end(ap);
    print_error("\n");
    complaints++;
}

static void read_line(expectation *x, char *line) {
    char *value = strchr(line, ':');
    if (strncmp(line, "-- ", 3) != 0 || !value) {
        return;
    }
    *value = '\0';
    value += 2;
    value[strcspn(value, "\n")] = '\0';
    const char *key = line + 3;
    if (strcmp(key, "trust") == 0) {
        x->trusts[0] = strcmp(value, "script") == 0 ? TARN_TRUST_SCRIPT : TARN_TRUST_RECIPE;
        x->trust_count = 1;
    } else if (strcmp(key, "memory") == 0) {
        x->memory = (size_t)atoi(value);
    } else if (strcmp(key, "seconds") == 0) {
        x->seconds = atof(value);
    } else if (strcmp(key, "stop") == 0) {
        x->stop = atof(value);
    } else if (strcmp(key, "within") == 0) {
        x->within = atof(value);
    } else if (strcmp(key, "ends") == 0) {
        snprintf(x->ends, LINE, "%s", value);
    } else if (strcmp(key, "says") == 0) {
        snprintf(x->says[x->say_count++], LINE, "%s", value);
    } else if (strcmp(key, "prints") == 0) {
        strcat(x->prints, value);
        strcat(x->prints, "\n");
    } else if (strcmp(key, "warns") == 0) {
        x->warnings = atoi(value);
    } else if (strcmp(key, "skip") == 0) {
        x->skip = true;
    } else {
        fail_msg("%s: unknown expectation '%s'", x->name, key);
    }
}

static expectation read_expectation(const char *path) {
    expectation x = {.trusts = {TARN_TRUST_SCRIPT, TARN_TRUST_RECIPE}, .trust_count = 2,
                     .memory = 256, .seconds = 10, .warnings = -1};
    char line[2 * LINE];
    const char *slash = strrchr(path, '/');
    x.name = slash ? slash + 1 : path;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) && strncmp(line, "--", 2) == 0) {
        read_line(&x, line);
    }
    fclose(f);
    if (!x.skip && !*x.ends) {
        fail_msg("%s says not how it ends", path);
    }
    return x;
}

// ---- Ctrl-C from another thread ----

typedef struct {
    tarn_host *h;
    double seconds;
    atomic_bool done;
} stopper;

static void *stop_later(void *arg) {
    stopper *s = arg;
    double until = now() + s->seconds;
    while (now() < until && !atomic_load(&s->done)) {
        usleep(1000);
    }
    if (!atomic_load(&s->done)) {
        tarn_host_stop(s->h, TARN_STOP_INT);
    }
    return NULL;
}

// ---- standard output into a file ----

static int capture_start(FILE **file) {
    fflush(stdout);
    int saved = dup(1);
    *file = tmpfile();
    assert_non_null(*file);
    dup2(fileno(*file), 1);
    return saved;
}

static char *capture_end(FILE *file, int saved) {  // at most 64 KiB of it
    enum { ROOM = 1 << 16 };
    char *text = malloc(ROOM);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    rewind(file);
    text[fread(text, 1, ROOM - 1, file)] = '\0';
    fclose(file);
    return text;
}

// ---- one script ----

static void count_warning(void *arg, const char *message) {
    (void)message;
    ++*(int *)arg;
}

static void check_end(const expectation *x, tarn_host *h, tarn_status s, const tarn_error *err) {
    int code = -1, want = -1;
    bool exited = tarn_host_exiting(h, &code);
    bool right = strcmp(x->ends, "ok") == 0            ? s == TARN_OK
                 : strcmp(x->ends, "error") == 0       ? s == TARN_ERROR && *err->message
                 : strcmp(x->ends, "limit") == 0       ? strcmp(err->code, "TimeLimit") == 0
                 : strcmp(x->ends, "interrupted") == 0 ? strcmp(err->code, "Interrupted") == 0
                 : strcmp(x->ends, "memory") == 0      ? s == TARN_NOMEM
                 : sscanf(x->ends, "exit %d", &want) == 1 ? exited && code == want &&
                                                            s == TARN_CANCELLED
                                                          : false;
    if (!right) {
        complain("%s: should end with '%s', got status %d [%s]: %s", x->name, x->ends, (int)s,
                 err->code, s ? err->message : "");
    }
    for (int i = 0; i < x->say_count; i++) {
        if (!strstr(err->message, x->says[i])) {
            complain("%s: the error does not say '%s': %s", x->name, x->says[i], err->message);
        }
    }
}

static void run_script(const expectation *x, const char *path, tarn_trust trust) {
    static const char *const args[] = {"one", "\033[2J\xff"};
    world w;
    tarn_error err = {0};
    FILE *file;
    int warnings = 0;
    open_world(&w, trust, x->memory << 20, x->seconds * (x->seconds > 1 ? SLOWER : 1), FOLDER);
    w.cx.warn = count_warning;
    w.cx.warn_arg = &warnings;
    stopper st = {.h = w.h, .seconds = x->stop};
    pthread_t thread;
    if (x->stop > 0) {
        assert_int_equal(pthread_create(&thread, NULL, stop_later, &st), 0);
    }
    int saved = capture_start(&file);
    double t = now();
    tarn_status s = tarn_host_run_file(w.h, path, 2, args, NULL, &err);
    t = now() - t;
    char *printed = capture_end(file, saved);
    if (x->stop > 0) {
        atomic_store(&st.done, true);
        pthread_join(thread, NULL);
    }
    check_end(x, w.h, s, &err);
    if (*x->prints && strcmp(printed, x->prints) != 0) {
        complain("%s: printed '%s', expected '%s'", x->name, printed, x->prints);
    }
    free(printed);
    if (x->warnings >= 0) {
        if (warnings != x->warnings) {
            complain("%s: %d warnings, expected %d", x->name, warnings, x->warnings);
        }
    }
    double limit = x->within > 0 ? x->within * SLOWER
                   : x->stop > 0 ? x->stop + 0.5 * SLOWER
                                 : x->seconds * (x->seconds > 1 ? SLOWER : 1) + 0.5 * SLOWER;
    if (t > limit) {
        complain("%s: took %.2f s, allowed %.2f s", x->name, t, limit);
    }
    close_world(&w);
}

static int is_lua(const struct dirent *e) {
    size_t n = strlen(e->d_name);
    return n > 4 && strcmp(e->d_name + n - 4, ".lua") == 0;
}

static void test_scripts(void **state) {
    struct dirent **list;
    int n = scandir(FOLDER, &list, is_lua, alphasort), ran = 0;
    assert_true(n > 50);
    for (int i = 0; i < n; i++) {
        char path[1024];
        snprintf(path, sizeof path, FOLDER "/%s", list[i]->d_name);
        expectation x = read_expectation(path);
        const char *only = getenv("TARN_TEST_ONLY");
        for (int k = 0; k < x.trust_count && !x.skip && (!only || strstr(x.name, only)); k++) {
            double t = now();
            run_script(&x, path, (tarn_trust)x.trusts[k]);
            if (getenv("TARN_TEST_VERBOSE")) {
                print_message("%-40s %d %.3f s\n", x.name, x.trusts[k], now() - t);
            }
            ran++;
        }
        free(list[i]);
    }
    free(list);
    assert_true(ran > 0);
    assert_int_equal(complaints, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scripts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
