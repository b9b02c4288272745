// SPDX-License-Identifier: Apache-2.0
// The prompt through a pseudo-terminal: the transcripts of tests/repl, and what only a terminal
// with a cursor has: completion, bracketed paste, history.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"

enum { SCREEN = 1 << 16, WAIT_MS = 10000, SETTLE_MS = 120 };

typedef struct {
    pid_t child;
    int fd;
    char screen[SCREEN];  // everything written, without carriage returns and cursor movements
    bool escape;          // inside "ESC [ …"
    size_t len, seen;     // bytes; bytes that expect() has passed
} session;

static char home[] = "/tmp/tarn-repl-XXXXXX";

static int make_home(void **state) { return mkdtemp(home) ? 0 : -1; }

static int remove_home(void **state) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command);
}

static void start_at(session *s, const char *term, unsigned short columns) {
    struct winsize size = {.ws_row = 40, .ws_col = columns};
    memset(s, 0, sizeof *s);
    s->child = forkpty(&s->fd, NULL, NULL, &size);
    assert_true(s->child >= 0);
    if (s->child == 0) {
        setenv("TERM", term, 1);
        setenv("NO_COLOR", "1", 1);
        setenv("HOME", home, 1);
        setenv("XDG_STATE_HOME", home, 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        execl(TARN_BINARY_DIR "/tarn", "tarn", "--threads", "1", (char *)NULL);
        _exit(127);
    }
}

static void start(session *s, const char *term) { start_at(s, term, 100); }

// Reads what comes within `ms`; false at the end.
static bool pump(session *s, int ms) {
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    char piece[4096];
    if (poll(&p, 1, ms) != 1) {
        return true;
    }
    ssize_t n = read(s->fd, piece, sizeof piece);
    for (ssize_t i = 0; i < n; i++) {
        char c = piece[i];
        if (s->escape || c == '\033') {
            s->escape = c == '\033' || c == '[' || c < '@';
        } else if (c != '\r' && s->len + 1 < SCREEN) {
            s->screen[s->len++] = c;
        }
    }
    s->screen[s->len] = '\0';
    return n > 0;
}

// Waits until the new part of the screen holds `text`.
static void expect(session *s, const char *text) {
    for (int waited = 0; waited < WAIT_MS; waited += 20) {
        char *at = strstr(s->screen + s->seen, text);
        if (at) {
            s->seen = (size_t)(at - s->screen) + strlen(text);
            return;
        }
        if (!pump(s, 20)) {
            break;
        }
    }
    kill(s->child, SIGKILL);
    fail_msg("expected \"%s\" after \"%s\"", text, s->screen + s->seen);
}

// Waits until the last line of the screen is the prompt.
static void expect_prompt(session *s, const char *prompt) {
    size_t n = strlen(prompt);
    for (int waited = 0; waited < WAIT_MS; waited += 20) {
        size_t at = s->len - (s->len < n ? s->len : n);
        if (at >= s->seen && at > 0 && s->screen[at - 1] == '\n' &&
            strcmp(s->screen + at, prompt) == 0) {
            s->seen = s->len;
            return;
        }
        if (!pump(s, 20)) {
            break;
        }
    }
    kill(s->child, SIGKILL);
    fail_msg("no prompt \"%s\" after \"%s\"", prompt, s->screen + s->seen);
}

static void type(session *s, const char *text) {
    assert_int_equal(write(s->fd, text, strlen(text)), (ssize_t)strlen(text));
}

static int finish(session *s) {
    int status = 0, waited = 0;
    while (pump(s, 20) && waited < WAIT_MS) {
        waited += 20;
    }
    if (waited >= WAIT_MS) {
        kill(s->child, SIGKILL);
        fail_msg("the session does not end; it shows:\n%s", s->screen);
    }
    waitpid(s->child, &status, 0);
    close(s->fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// ---- transcripts ----

static char *read_transcript(const char *path) {
    char *text = calloc(1, SCREEN), line[4096];
    FILE *f = fopen(path, "r");
    assert_non_null(text);
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (line[0] != '#') {
            strncat(text, line, SCREEN - strlen(text) - 1);
        }
    }
    fclose(f);
    return text;
}

// Types a line of the transcript when it is one that a person typed.
static void type_line(session *s, const char *line, size_t n) {
    bool first = n >= 2 && memcmp(line, "> ", 2) == 0;
    bool more = n >= 4 && memcmp(line, "... ", 4) == 0;
    bool stop = n >= 2 && memcmp(line + n - 2, "^C", 2) == 0;
    if (!first && !more && !stop) {
        return;
    }
    if (first || more) {
        expect_prompt(s, first ? "> " : "... ");
    }
    char text[4096];
    size_t skip = first ? 2 : more ? 4 : 0;
    snprintf(text, sizeof text, "%.*s%s", (int)(n - skip - (stop ? 2 : 0)), line + skip,
             stop ? "" : "\n");
    type(s, text);
    expect(s, stop ? text : "\n");
    if (stop) {
        pump(s, SETTLE_MS);  // the work has begun
        usleep(SETTLE_MS * 1000);
        type(s, "\003");
        expect(s, "^C");
    }
}

static void replay(const char *path) {
    session s;
    char *want = read_transcript(path);
    start(&s, "dumb");
    expect(&s, "\n");  // the banner
    size_t banner = s.seen;
    for (const char *line = want; *line;) {
        size_t n = strcspn(line, "\n");
        type_line(&s, line, n);
        line += n + (line[n] == '\n');
    }
    if (!strstr(want, ":quit")) {
        expect_prompt(&s, "> ");
        type(&s, "\004");
        strcat(want, "> \n");
    }
    int code = finish(&s);
    const char *shown = s.screen + banner;
    size_t same = 0;
    while (shown[same] && shown[same] == want[same]) {
        same++;
    }
    if (shown[same] != want[same]) {
        size_t from = same < 200 ? 0 : same - 200;
        fail_msg("%s: the screen differs; it shows:\n%.500s\nwanted was:\n%.500s", path, shown + from, want + from);
    }
    assert_int_equal(code, 0);
    free(want);
}

static void test_transcripts(void **state) {
    static const char folder[] = TARN_SOURCE_DIR "/tests/repl";
    DIR *dir = opendir(folder);
    int n = 0;
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        const char *dot = strrchr(e->d_name, '.');
        if (dot && strcmp(dot, ".transcript") == 0) {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            replay(path);
            n++;
        }
    }
    closedir(dir);
    assert_true(n >= 5);
}

// ---- a terminal with a cursor ----

static void open_editor(session *s) {
    start(s, "xterm");
    expect_prompt(s, "> ");
}

// Ctrl-D counts at the prompt only: before it the terminal is in another mode.
static int leave(session *s) {
    s->seen = 0;
    expect_prompt(s, "> ");
    type(s, "\004");
    return finish(s);
}

static void test_completion(void **state) {
    session s;
    open_editor(&s);
    type(&s, "myglobal = { alpha = 1, alphabet = 2, beta = print }\n");
    expect_prompt(&s, "> ");
    type(&s, "myg\t");
    expect(&s, "myglobal");
    type(&s, ".al\t");
    expect(&s, ".alpha");
    type(&s, "\t");  // two words: listed
    expect(&s, "alpha");
    expect(&s, "alphabet");
    type(&s, "b\t + 40\n");
    expect(&s, "alphabet + 40");
    expect(&s, "\n42\n");
    type(&s, "myglobal:\t(\"called\")\n");  // the only function
    expect(&s, "myglobal:beta");
    expect_prompt(&s, "> ");
    type(&s, "tarn.vers\t\n");
    expect(&s, "tarn.version");
    expect_prompt(&s, "> ");
    type(&s, "(\"x\" .. tarn.comm\t and 1)\n");
    expect(&s, "tarn.command");
    assert_int_equal(leave(&s), 0);
}

static void test_files(void **state) {
    session s;
    char path[512];
    snprintf(path, sizeof path, "%s/some-file.txt", home);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    open_editor(&s);
    snprintf(path, sizeof path, "#\"%s/some-f\t\n", home);  // the quote is closed too
    type(&s, path);
    expect(&s, "some-file.txt\"");
    char length[64];
    snprintf(length, sizeof length, "\n%zu\n", strlen(home) + strlen("/some-file.txt"));
    expect(&s, length);
    assert_int_equal(leave(&s), 0);
}

// Tab runs no code of the user.
static void test_completion_is_raw(void **state) {
    session s;
    open_editor(&s);
    type(&s, "trap = setmetatable({ inside = 1 }, { __index = function() print('RUN') end, "
             "__pairs = function() print('RUN') end })\n");
    expect_prompt(&s, "> ");
    type(&s, "trap.ins\t\n");
    expect(&s, "trap.inside");
    expect(&s, "\n1\n");
    expect_prompt(&s, "> ");
    type(&s, "trap.nothing.\t\t");
    expect(&s, "nothing.");
    type(&s, "\003");
    expect(&s, "^C");
    expect_prompt(&s, "> ");
    int code = leave(&s);
    if (code != 0) {
        fail_msg("exit code %d; screen:\n%s", code, s.screen);
    }
    assert_null(strstr(s.screen, "RUN\n"));
}

// Functions of the library are shown as they are written, not as what tells their errors.
static void test_source(void **state) {
    session s;
    open_editor(&s);
    type(&s, "??nn.dropout\n");
    expect(&s, "-- stdlib/nn/layer.lua:");
    expect(&s, "function layer.dropout(p)");
    expect_prompt(&s, "> ");
    type(&s, "??eval.accuracy\n");
    expect(&s, "-- stdlib/eval/");
    assert_int_equal(leave(&s), 0);
}

// Home and End as terminals send them, whatever TERM says.
static void test_keys(void **state) {
    static const char *const keys[][2] = {
        {"\033[H", "\033[F"}, {"\033OH", "\033OF"}, {"\033[1~", "\033[4~"}, {"\033[7~", "\033[8~"}, {"\001", "\005"}};
    session s;
    open_editor(&s);
    for (int i = 0; i < (int)(sizeof keys / sizeof *keys); i++) {
        char line[64];
        snprintf(line, sizeof line, "+ 4%s%d1%s0\n", keys[i][0], i, keys[i][1]);
        type(&s, line);
        snprintf(line, sizeof line, "\n%d\n", 10 * i + 1 + 40);
        expect(&s, line);
        expect_prompt(&s, "> ");
    }
    type(&s, "\n");
    assert_int_equal(leave(&s), 0);
}

static void test_paste(void **state) {
    session s;
    open_editor(&s);
    // Tabs and newlines are text, the last newline waits for Enter; UTF-8 passes.
    type(&s, "\033[200~local a = 20\r\nfor i = 1, 2 do\r"
             "\tprint('p', a + i, '\xC3\xA4')\rend\r\033[201~");
    expect(&s, "end");
    pump(&s, SETTLE_MS);
    assert_null(strstr(s.screen, "p\t21"));
    type(&s, "\n");
    expect(&s, "p\t21\t\xC3\xA4\n");
    expect(&s, "p\t22\t\xC3\xA4\n");
    assert_int_equal(leave(&s), 0);
}

static void test_history(void **state) {
    session s;
    char path[512];
    struct stat st;
    open_editor(&s);
    type(&s, "first = 11\n");
    expect_prompt(&s, "> ");
    type(&s, "for i = 1, 1 do\n");
    expect_prompt(&s, "... ");
    type(&s, "print('a\\\\b', first)\n");
    expect_prompt(&s, "... ");
    type(&s, "end\n");
    expect(&s, "a\\b\t11\n");
    expect_prompt(&s, "> ");
    type(&s, " secret = 1\n");
    expect_prompt(&s, "> ");
    assert_int_equal(leave(&s), 0);

    snprintf(path, sizeof path, "%s/tarn/history", home);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    open_editor(&s);
    type(&s, "first = 12\n");
    expect_prompt(&s, "> ");
    type(&s, "\033[A\033[A");  // the whole entry, from the session before
    expect(&s, "end");
    type(&s, "\n");
    expect(&s, "a\\b\t12\n");
    expect_prompt(&s, "> ");
    type(&s, "\022secr");  // an entry that began with a space is not kept
    pump(&s, SETTLE_MS);
    type(&s, "\003");
    expect(&s, "^C");
    assert_int_equal(leave(&s), 0);
    assert_null(strstr(s.screen, "secret = 1"));
}

// Options stand with their defaults and documentation, from the rows; also where the entry has several lines.
static void test_options(void **state) {
    session s;
    open_editor(&s);
    type(&s, "merge.ties { a, de\t");
    expect(&s, "density = ");
    type(&s, "0.5, tri\t");
    expect(&s, "trim = ");
    type(&s, "\003");
    expect_prompt(&s, "> ");
    type(&s, "merge.ties { \t");
    expect(&s, "density     0.2: share of each task vector kept");
    expect(&s, "normalize   true: divide");
    type(&s, "\003");
    expect_prompt(&s, "> ");
    type(&s, "merge.linear {\n");
    expect_prompt(&s, "... ");
    type(&s, "norm\t");
    expect(&s, "normalize = ");
    type(&s, "\003");
    expect_prompt(&s, "> ");
    type(&s, "m = model.open(\"examples/data/base.safetensors\", { stric\ttrue })\n");
    expect(&s, "strict = true");
    expect_prompt(&s, "> ");
    type(&s, "m:save(\"x\", { max\t");
    expect(&s, "max_shard_size = ");
    type(&s, "\003");
    expect_prompt(&s, "> ");
    type(&s, "m:names(\"fc1\")[1] .. m[\"fc1.w\t.dtype\n");
    expect(&s, "m[\"fc1.weight\"].dtype");
    expect(&s, "\"fc1.biasf32\"\n");
    expect_prompt(&s, "> ");
    type(&s, "m:with_\t");
    expect(&s, "with_config");
    type(&s, "\003");
    expect_prompt(&s, "> ");
    type(&s, "m:n\t\t");  // notes of methods are those of the value's type
    expect(&s, "names  ");
    expect(&s, "in file order");
    type(&s, "\003");
    expect_prompt(&s, "> ");
    type(&s, "model.open(\"x\"):meta\t");  // a value that is not there yet
    expect(&s, ":metadata");
    type(&s, "\003");
    expect_prompt(&s, "> ");
    type(&s, "help \"merge.ti\t\n");
    expect(&s, "merge.ties\"");
    expect(&s, "merge.ties { base = m");
    assert_int_equal(leave(&s), 0);
}

static void test_commands(void **state) {
    session s;
    char path[256], text[4096] = "", line[600];
    snprintf(path, sizeof path, "%s/saved.lua", home);
    open_editor(&s);
    type(&s, ":ti\t20 + 1\n");
    expect(&s, ":time 20");
    expect(&s, "21\n");
    expect(&s, " s of processor time, at most ");
    expect_prompt(&s, "> ");
    type(&s, "\033[200~:time for i = 1, 2 do\r  print('t', i)\rend\033[201~\n");
    expect(&s, "t\t1\nt\t2\n");
    expect(&s, " s of processor time");
    expect_prompt(&s, "> ");
    type(&s, "function work(n) local t = 0 for i = 1, n do t = t + i end return t end\n");
    expect_prompt(&s, "> ");
    type(&s, ":profile pcall(error, work(1000)) and work(2)\n");
    expect(&s, "  work (input:1)\n");
    expect_prompt(&s, "> ");
    type(&s, ":prof while true do work(1000) end\n");
    pump(&s, SETTLE_MS);
    usleep(SETTLE_MS * 1000);
    type(&s, "\003");
    expect(&s, "[Interrupted]");
    expect(&s, "work (input:1)\n");
    expect_prompt(&s, "> ");
    type(&s, "m = model.open \"examples/data/base.safetensors\"\n");
    expect_prompt(&s, "> ");
    type(&s, ":plan m:save \"never\"\n");
    expect(&s, "plan of never: 6 tensors, 1 pass");
    expect_prompt(&s, "> ");
    type(&s, ":who\n");
    expect(&s, "m     model base: 6 tensors");
    expect(&s, "work  function");
    expect_prompt(&s, "> ");
    type(&s, "local gone = 5; nothing_there()\n");
    expect_prompt(&s, "> ");
    type(&s, "local kept = 5; x = kept + 1\n");
    expect_prompt(&s, "> ");
    type(&s, "x * 2\n");
    expect_prompt(&s, "> ");
    type(&s, "_ + 1\n");
    expect(&s, "\n13\n");
    expect_prompt(&s, "> ");
    snprintf(line, sizeof line, ":save %s\n", path);
    type(&s, line);
    expect(&s, "saved.lua: 8 entries");
    expect_prompt(&s, "> ");
    type(&s, line);
    expect(&s, "exists");
    expect_prompt(&s, "> ");
    snprintf(line, sizeof line, ":load %s/sav\t\n", home);
    type(&s, line);
    expect(&s, "saved.lua");
    expect(&s, "\n12\n13\n");
    expect_prompt(&s, "> ");
    assert_int_equal(leave(&s), 0);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    assert_non_null(strstr(text, "do\nlocal kept = 5; x = kept + 1\nend\n_ = x * 2\nprint(_)\nprint(_ + 1)\n"));
    assert_null(strstr(text, "gone"));
    snprintf(line, sizeof line, "%s/tarn %s | tail -n 1 | grep -qx 13", TARN_BINARY_DIR, path);
    assert_int_equal(system(line), 0);
}

static void test_edit(void **state) {
    session s;
    setenv("EDITOR", "sed -i s/40/41/", 1);
    unsetenv("VISUAL");
    open_editor(&s);
    type(&s, "40 + 1\n");
    expect(&s, "\n41\n");
    expect_prompt(&s, "> ");
    type(&s, ":edit\n");
    expect(&s, "41 + 1\n42\n");
    assert_int_equal(leave(&s), 0);
}

// No line of what is printed is wider than the terminal, and no character is cut.
static void test_narrow(void **state) {
    session s;
    start_at(&s, "xterm", 40);
    expect_prompt(&s, "> ");
    type(&s, "merge.ties { \t");
    expect(&s, "density");
    size_t from = s.seen;
    type(&s, "\003");
    expect_prompt(&s, "> ");
    int columns = 7, wider = 0;
    for (size_t i = from; i < s.len && strncmp(s.screen + i, "> ", 2) != 0; i++) {
        columns = s.screen[i] == '\n' ? 0 : columns + (((unsigned char)s.screen[i] & 0xC0) != 0x80);
        wider += columns > 40;
    }
    assert_int_equal(wider, 0);
    type(&s, "{ 'a text that fills', 'the line and more' }\n");
    expect(&s, "{\n  \"a text that fills\",\n  \"the line and more\"\n}\n");
    expect_prompt(&s, "> ");
    type(&s, "plot.line { { 'a', { 1, 2, 3 } } }\n");
    expect(&s, "●");
    assert_int_equal(leave(&s), 0);
}

// Without a terminal there is no prompt, no banner, no escape sequence.
static void test_pipe(void **state) {
    static const char command[] = "printf 'x = 20\\nx + 1\\nfor i = 1, 2 do\\nprint(i)\\nend\\n:who\\n1 +' | " TARN_BINARY_DIR
                                  "/tarn -i 2>&1";
    char out[1024] = "";
    FILE *f = popen(command, "r");
    assert_non_null(f);
    out[fread(out, 1, sizeof out - 1, f)] = '\0';
    assert_int_equal(pclose(f), 0);
    assert_string_equal(out, "21\n1\n2\nx  20\ntarn: input:1: unexpected symbol near '1'\n  1 +\n  ^\n");
}

static void test_terminated(void **state) {
    session s;
    open_editor(&s);
    kill(s.child, SIGTERM);
    assert_int_equal(finish(&s), 143);
    open_editor(&s);
    type(&s, "os.exit(7)\n");
    assert_int_equal(finish(&s), 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transcripts), cmocka_unit_test(test_completion),
        cmocka_unit_test(test_files),       cmocka_unit_test(test_completion_is_raw),
        cmocka_unit_test(test_keys),        cmocka_unit_test(test_source),
        cmocka_unit_test(test_paste),       cmocka_unit_test(test_history),
        cmocka_unit_test(test_options),     cmocka_unit_test(test_commands),
        cmocka_unit_test(test_edit),        cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_pipe),        cmocka_unit_test(test_terminated),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
