// SPDX-License-Identifier: Apache-2.0
// The session: an entry is one line, or as many as it takes to be complete (the parser met the end
// of the text, nothing else asks for more). Errors and Ctrl-C end the entry, never the session.
#include "vm/repl/repl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm/repl/complete.h"
#include "vm/repl/history.h"
#include "vm/repl/line.h"

enum { PATH_ROOM = 4096, ENTRY_MAX = 16 << 20 };  // bytes

typedef struct {
    tarn_host *h;
    tarn_context *cx;
    const tarn_repl_options *o;
    tarn_line *line;
    tarn_text entry;         // lines so far, joined by newlines
    tarn_text last;          // the entry before, for :edit
    char history[PATH_ROOM]; // "": none is kept
    int code;                // exit code
    bool leave;
} session;

static bool has_colour(void) {
    const char *no = getenv("NO_COLOR");
    return !(no && *no) && isatty(STDOUT_FILENO);
}

static void set_text(tarn_text *t, const char *s, size_t n) {
    t->len = 0;
    t->failed = false;
    tarn_text_add(t, s, n);
}

// ---- history ----

static void remember(void *arg, const char *entry) {
    const session *s = arg;
    tarn_line_remember(s->line, entry);
}

static void open_history(session *s) {
    if (!tarn_line_is_editor(s->line) || !tarn_history_path(s->history, sizeof s->history)) {
        s->history[0] = '\0';
        return;
    }
    tarn_history_load(s->history, &s->cx->budget, remember, s);
}

// An entry that begins with a space is not kept, nor one like the last.
static void keep(session *s, const char *entry) {
    bool again = s->last.data && strcmp(s->last.data, entry) == 0;
    if (*entry && *entry != ' ' && !again) {
        remember(s, entry);
        if (s->history[0]) {
            tarn_history_append(s->history, &s->cx->budget, entry);
        }
    }
    set_text(&s->last, entry, strlen(entry));
}

// ---- running ----

// A stop by Ctrl-C or by the time limit ends the entry; any other ends the session.
static void settle(session *s) {
    switch (tarn_cancel_reason(&s->cx->cancel)) {
    case TARN_STOP_TERM:
        s->code = 143;
        s->leave = true;
        return;
    case TARN_STOP_HUP:
        s->code = 129;
        s->leave = true;
        return;
    case TARN_STOP_NONE:
    case TARN_STOP_INT:
    case TARN_STOP_DEADLINE:
    default:
        break;
    }
    int code;
    if (tarn_host_exiting(s->h, &code)) {
        s->code = code;
        s->leave = true;
        return;
    }
    tarn_host_resume_work(s->h);
}

static void report(session *s, tarn_status status, const tarn_error *err) {
    int code;
    if (status != TARN_OK && !tarn_host_exiting(s->h, &code)) {
        if (status == TARN_CANCELLED && tarn_line_is_terminal(s->line)) {
            fputs("\n", stdout);  // behind the ^C that the terminal showed
        }
        s->o->report(s->o->arg, err, tarn_host_traceback(s->h));
    }
    settle(s);
}

static bool is_hushed(const char *s, size_t n) {
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\n' || s[n - 1] == '\t')) {
        n--;
    }
    return n > 0 && s[n - 1] == ';';
}

// Runs the entry; false when it wants more lines.
static bool run_entry(session *s, bool last_line) {
    const char *text = s->entry.data;
    size_t n = s->entry.len;
    if (n > 0 && *text == '=') {  // as in older Luas
        text++;
        n--;
    }
    tarn_error err = {0};
    int results = 0;
    bool incomplete = false;
    tarn_status status = tarn_host_run_line(s->h, text, n, &results, &incomplete, &err);
    if (incomplete && !last_line) {
        return false;
    }
    keep(s, s->entry.data);
    if (status == TARN_OK && is_hushed(text, n)) {
        lua_settop(tarn_host_state(s->h), 0);
    } else if (status == TARN_OK) {
        status = tarn_repl_print(s->h, results, &err);
    }
    report(s, status, &err);
    return true;
}

// ---- help ----

static void trim(const char **s, size_t *n) {
    while (*n > 0 && (**s == ' ' || **s == '\t')) {
        ++*s;
        --*n;
    }
    while (*n > 0 && ((*s)[*n - 1] == ' ' || (*s)[*n - 1] == '\t')) {
        --*n;
    }
}

static bool is_path(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '.' || c == ':')) {
            return false;
        }
    }
    return true;
}

// "?name" and "name?".
static bool take_help(session *s) {
    const char *word = s->entry.data;
    size_t n = s->entry.len;
    trim(&word, &n);
    bool before = n > 0 && word[0] == '?', after = n > 1 && word[n - 1] == '?';
    if (!before && !after) {
        return false;
    }
    word += before;
    n -= 1;
    trim(&word, &n);
    if (!before && !is_path(word, n)) {
        return false;
    }
    keep(s, s->entry.data);
    tarn_error err = {0};
    tarn_text name;
    tarn_text_init(&name, &s->cx->budget);
    tarn_text_add(&name, word, n);
    tarn_status status = name.data ? tarn_repl_help(s->h, name.data, &err)
                                   : tarn_raise_nomem(&err, "the name", n);
    tarn_text_free(&name);
    report(s, status, &err);
    return true;
}

// ---- commands of the prompt ----

static bool run_editor(const char *path) {
    static const char script[] = "exec ${VISUAL:-${EDITOR:-vi}} \"$1\"";
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", script, "sh", path, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static tarn_status read_whole(const char *path, tarn_text *out, tarn_error *err) {
    FILE *f = fopen(path, "r");
    if (!f) {
        TARN_RAISE(err, "CannotOpen", ":edit: cannot open %s: %s", path, strerror(errno));
    }
    char piece[4096];
    size_t n;
    out->len = 0;
    while ((n = fread(piece, 1, sizeof piece, f)) > 0 && out->len < ENTRY_MAX) {
        tarn_text_add(out, piece, n);
    }
    fclose(f);
    while (out->len > 0 && out->data[out->len - 1] == '\n') {
        out->data[--out->len] = '\0';
    }
    return out->failed ? tarn_raise_nomem(err, "the edited text", out->len) : TARN_OK;
}

// The last entry in the user's editor; what comes back is run.
static tarn_status edit(session *s, tarn_error *err) {
    const char *tmp = getenv("TMPDIR");
    tmp = tmp && *tmp ? tmp : "/tmp";
    char path[PATH_ROOM];
    int n = snprintf(path, sizeof path, "%s/tarn-XXXXXX.lua", tmp);
    int fd = n > 0 && (size_t)n < sizeof path ? mkstemps(path, 4) : -1;
    if (fd < 0) {
        TARN_RAISE(err, "CannotOpen", ":edit: cannot make a file in %s", tmp);
    }
    FILE *f = fdopen(fd, "w");
    if (f) {
        fprintf(f, "%s\n", s->last.data ? s->last.data : "");
        fclose(f);
    } else {
        close(fd);
    }
    bool ok = f && run_editor(path);
    tarn_host_resume_work(s->h);  // Ctrl-C was the editor's
    tarn_status status = ok ? read_whole(path, &s->entry, err)
                            : tarn_raise(err, "", ":edit: the editor failed");
    unlink(path);
    if (status == TARN_OK && s->entry.len > 0) {
        printf("%s\n", s->entry.data);
        run_entry(s, true);
    }
    return status;
}

static void print_commands(void) {
    fputs("An expression shows its values; a trailing ; hides them; _ is the last one.\n"
          "  ?name, name?   help on a function, a method or a module\n"
          "  Tab            complete a name, a tensor in m[\"…, a file in \"…\n"
          "  Ctrl-R, Up     search the history\n"
          "  Ctrl-C         stop the work, or drop the line\n"
          "  :edit          the last entry in $EDITOR\n"
          "  :help          this text\n"
          "  :quit, Ctrl-D  leave\n",
          stdout);
}

static const char *next_command(void *arg, size_t i) {
    static const char *const commands[] = {":edit", ":help", ":quit"};
    (void)arg;
    return i < sizeof commands / sizeof *commands ? commands[i] : NULL;
}

static bool take_command(session *s) {
    const char *word = s->entry.data;
    size_t n = s->entry.len;
    trim(&word, &n);
    if (n == 0 || word[0] != ':' || (n > 1 && word[1] == ':')) {  // "::label::" is Lua
        return false;
    }
    char name[32];
    tarn_error err = {0};
    tarn_status status = TARN_OK;
    snprintf(name, sizeof name, "%.*s", (int)n, word);
    if (strcmp(name, ":quit") == 0 || strcmp(name, ":q") == 0) {
        s->leave = true;
    } else if (strcmp(name, ":help") == 0) {
        print_commands();
    } else if (strcmp(name, ":edit") == 0) {
        status = edit(s, &err);
    } else {
        const char *near = tarn_nearest(name, next_command, NULL);
        status = tarn_raise(&err, "", "unknown command '%s'; %s%s%s", name,
                            near ? "did you mean '" : ":help lists them", near ? near : "",
                            near ? "'?" : "");
    }
    if (!s->leave) {
        report(s, status, &err);
    }
    return true;
}

// ---- the loop ----

static void finish_entry(session *s) {
    s->entry.len = 0;
    if (s->entry.data) {
        s->entry.data[0] = '\0';
    }
}

// One line more; true when the entry is done.
static bool take_line(session *s, bool last_line) {
    if (!s->entry.data || s->entry.failed) {
        tarn_error err;
        report(s, tarn_raise_nomem(&err, "the entry", s->entry.len), &err);
        s->entry.failed = false;
        return true;
    }
    bool first = !strchr(s->entry.data, '\n');
    if (first && (take_command(s) || take_help(s))) {
        return true;
    }
    if (strspn(s->entry.data, " \t\n") == s->entry.len) {
        return true;
    }
    return run_entry(s, last_line);
}

// The time limit may pass while nobody works: it is told, and holds no longer.
static void tell_deadline(session *s) {
    tarn_error err;
    if (tarn_cancel_reason(&s->cx->cancel) == TARN_STOP_DEADLINE) {
        tarn_cancel_check(&s->cx->cancel, &err);
        s->o->report(s->o->arg, &err, "");
    }
}

static void loop(session *s) {
    while (!s->leave) {
        bool more = s->entry.len > 0;
        if (more) {
            tarn_text_puts(&s->entry, "\n");
        }
        size_t before = s->entry.len;
        tarn_line_result r = tarn_line_read(s->line, more ? "... " : "> ", &s->entry);
        if (r == TARN_LINE_STOPPED) {
            clearerr(stdout);  // the signal may have cut a write of the editor short: no failure
            finish_entry(s);
            tell_deadline(s);
            settle(s);
        } else if (r == TARN_LINE_END) {
            s->leave = true;
            if (more && s->entry.len == before) {
                take_line(s, true);
            }
        } else if (take_line(s, false)) {
            finish_entry(s);
        }
    }
}

int tarn_repl_run(tarn_host *h, const tarn_repl_options *o) {
    session s = {.h = h, .cx = tarn_host_context(tarn_host_state(h)), .o = o};
    tarn_line_options lo = {.budget = &s.cx->budget, .cancel = &s.cx->cancel,
                            .colour = has_colour(), .complete = tarn_complete, .arg = h};
    s.line = tarn_line_open(&lo);
    if (!s.line) {
        tarn_error err;
        tarn_raise_nomem(&err, "the prompt", 0);
        o->report(o->arg, &err, "");
        return 1;
    }
    tarn_text_init(&s.entry, &s.cx->budget);
    tarn_text_init(&s.last, &s.cx->budget);
    open_history(&s);
    if (o->banner && tarn_line_is_terminal(s.line)) {
        printf("%s\n", o->banner);
    }
    loop(&s);
    tarn_text_free(&s.entry);
    tarn_text_free(&s.last);
    tarn_line_close(s.line);
    return s.code;
}
