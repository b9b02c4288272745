// SPDX-License-Identifier: Apache-2.0
// The session: an entry is one line, or as many as it takes to be complete (the parser met the end
// of the text, nothing else asks for more). Errors and Ctrl-C end the entry, never the session.
#include "vm/repl/repl.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/repl/complete.h"
#include "vm/repl/history.h"
#include "vm/repl/session.h"

typedef tarn_session session;

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
void tarn_session_keep(session *s, const char *entry) {
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

void tarn_session_report(session *s, tarn_status status, const tarn_error *err) {
    int code;
    s->failed = status != TARN_OK;
    if (s->failed && !tarn_host_exiting(s->h, &code)) {
        if (status == TARN_CANCELLED && tarn_line_is_terminal(s->line)) {
            fputs("\n", stdout);  // behind the ^C that the terminal showed
        }
        s->o->report(s->o->arg, err, tarn_host_traceback(s->h));
        if (s->entry.data && status != TARN_CANCELLED) {
            tarn_underline(s->h, s->entry.data, err->message, tarn_host_traceback(s->h));
        }
    }
    settle(s);
}

static bool is_hushed(const char *s, size_t n) {
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\n' || s[n - 1] == '\t')) {
        n--;
    }
    return n > 0 && s[n - 1] == ';';
}

// What :save and ??name need: whether the entry's values were shown, and its text.
static void note_entry(session *s, const char *text, size_t n, bool shown) {
    tarn_text_puts(&s->entries, shown ? "=" : "+");
    tarn_text_add(&s->entries, text, n);
    tarn_text_add(&s->entries, "", 1);
}

bool tarn_session_run(session *s, const char *text, size_t n, bool last_line) {
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
    tarn_session_keep(s, s->entry.data);
    bool shown = results > 0 && !is_hushed(text, n);
    if (status == TARN_OK) {
        note_entry(s, text, n, shown);
    }
    if (status == TARN_OK && shown) {
        status = tarn_repl_print(s->h, results, &err);
    } else if (status == TARN_OK) {
        lua_settop(tarn_host_state(s->h), 0);
    }
    tarn_session_report(s, status, &err);
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

// "?name", "name?", "??name" and "help name".
static bool take_help(session *s) {
    const char *word = s->entry.data;
    size_t n = s->entry.len;
    trim(&word, &n);
    bool before = n > 0 && word[0] == '?', after = n > 1 && word[n - 1] == '?';
    bool spoken = n > 5 && strncmp(word, "help ", 5) == 0;
    if (!before && !after && !spoken) {
        return false;
    }
    bool source = before && n > 1 && word[1] == '?';
    size_t skip = before ? 1 + (size_t)source : spoken ? 5 : 0;
    word += skip;
    n -= skip + (after && !before);
    trim(&word, &n);
    if ((!before || source) && !is_path(word, n)) {
        return false;
    }
    tarn_session_keep(s, s->entry.data);
    tarn_error err = {0};
    tarn_text name;
    tarn_text_init(&name, &s->cx->budget);
    tarn_text_add(&name, word, n);
    tarn_status status = !name.data ? tarn_raise_nomem(&err, "the name", n)
                         : source && n > 0 ? tarn_session_source(s, name.data, &err)
                                           : tarn_repl_help(s->h, name.data, &err);
    tarn_text_free(&name);
    tarn_session_report(s, status, &err);
    return true;
}

// What other prompts are left by, where it is nothing else here.
static bool take_leave(session *s) {
    static const char *const words[] = {"exit", "quit", "exit()", "quit()"};
    const char *word = s->entry.data;
    size_t n = s->entry.len;
    lua_State *L = tarn_host_state(s->h);
    trim(&word, &n);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (n == strlen(words[i]) && memcmp(word, words[i], n) == 0) {
            lua_pushglobaltable(L);
            lua_pushlstring(L, words[i], 4);
            s->leave = lua_rawget(L, -2) == LUA_TNIL;
            lua_pop(L, 2);
        }
    }
    return s->leave;
}

// ---- completion ----

// The editor knows the line at the cursor, the lines before it are in the entry.
static void complete(void *arg, const char *line, size_t cursor, tarn_words *words) {
    session *s = arg;
    size_t lua = 0, before = s->entry.len;
    if (before == 0 && tarn_session_complete(s, line, cursor, words, &lua)) {
        return;
    }
    tarn_text all;
    tarn_text_init(&all, &s->cx->budget);
    tarn_text_add(&all, s->entry.data ? s->entry.data : "", before);
    tarn_text_add(&all, line + lua, cursor - lua);
    if (!all.failed && all.data) {
        tarn_complete(s->h, all.data, all.len, words);
        words->start = words->start >= before ? words->start - before + lua : cursor;
    }
    tarn_text_free(&all);
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
        tarn_session_report(s, tarn_raise_nomem(&err, "the entry", s->entry.len), &err);
        s->entry.failed = false;
        return true;
    }
    bool first = !strchr(s->entry.data, '\n');
    if (tarn_session_command(s) || (first && (take_help(s) || take_leave(s)))) {
        return true;
    }
    if (strspn(s->entry.data, " \t\n") == s->entry.len) {
        return true;
    }
    return tarn_session_run(s, s->entry.data, s->entry.len, last_line);
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

// libedit and widths handle characters of the locale; ours are always UTF-8.
static void want_utf8(void) {
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
}

int tarn_repl_run(tarn_host *h, const tarn_repl_options *o) {
    session s = {.h = h, .cx = tarn_host_context(tarn_host_state(h)), .o = o};
    tarn_line_options lo = {.budget = &s.cx->budget, .cancel = &s.cx->cancel,
                            .colour = has_colour(), .complete = complete, .arg = &s};
    want_utf8();
    s.line = tarn_line_open(&lo);
    if (!s.line) {
        tarn_error err;
        tarn_raise_nomem(&err, "the prompt", 0);
        o->report(o->arg, &err, "");
        return 1;
    }
    tarn_text_init(&s.entry, &s.cx->budget);
    tarn_text_init(&s.last, &s.cx->budget);
    tarn_text_init(&s.entries, &s.cx->budget);
    open_history(&s);
    if (o->banner && tarn_line_is_terminal(s.line)) {
        printf("%s\n", o->banner);
    }
    loop(&s);
    tarn_text_free(&s.entry);
    tarn_text_free(&s.last);
    tarn_text_free(&s.entries);
    tarn_line_close(s.line);
    return s.code;
}
