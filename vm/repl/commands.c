// SPDX-License-Identifier: Apache-2.0
// The commands of the prompt, ":name argument". They are no Lua, so no script can collide with
// them. What is only text is made in stdlib/lua/prompt.lua.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vm/repl/complete.h"
#include "vm/repl/session.h"

enum { ENTRY_MAX = 16 << 20 };  // bytes

typedef tarn_status (*command_fn)(tarn_session *s, const char *argument, tarn_error *err);
typedef enum { NOTHING, PATH, PERHAPS_PATH, CODE } takes;

typedef struct {
    const char *name, *argument, *text;
    takes takes;
    command_fn run;
} command;

// ---- the Lua half ----

typedef struct {
    tarn_session *s;
    const char *function;
    int n;
    const char *const *texts;
} call;

// The entries that ran, oldest first: a list of {text, shown}.
static void push_entries(lua_State *L, const tarn_session *s) {
    lua_newtable(L);
    size_t at = 0;
    for (lua_Integer n = 1; at < s->entries.len; n++) {
        const char *e = s->entries.data + at;
        lua_createtable(L, 0, 2);
        lua_pushstring(L, e + 1);
        lua_setfield(L, -2, "text");
        lua_pushboolean(L, *e == '=');
        lua_setfield(L, -2, "shown");
        lua_rawseti(L, -2, n);
        at += strlen(e) + 1;
    }
}

// library -> result
static int l_call(lua_State *L) {
    const call *c = lua_touserdata(L, 2);
    luaL_checkstack(L, c->n + 8, c->function);
    lua_getfield(L, 1, c->function);
    push_entries(L, c->s);
    lua_pushinteger(L, tarn_repl_columns());
    for (int i = 0; i < c->n; i++) {
        lua_pushstring(L, c->texts[i]);
    }
    lua_call(L, c->n + 2, 1);
    return 1;
}

tarn_status tarn_session_call(tarn_session *s, const char *function, int n,
                              const char *const *texts, tarn_error *err) {
    lua_State *L = tarn_host_state(s->h);
    call c = {s, function, n, texts};
    if (!lua_checkstack(L, 8)) {
        return tarn_raise_nomem(err, "the Lua stack", 0);
    }
    lua_pushcfunction(L, l_call);
    tarn_status status = tarn_host_load_embedded(s->h, "stdlib/lua/prompt.lua", err);
    if (status != TARN_OK) {
        lua_pop(L, 1);
        return status;
    }
    lua_pushlightuserdata(L, &c);
    return tarn_host_call(s->h, 2, 1, err);
}

// Prints the text that a function of the library returns.
static tarn_status print_result(tarn_session *s, const char *function, const char *argument,
                                tarn_error *err) {
    lua_State *L = tarn_host_state(s->h);
    TARN_TRY(tarn_session_call(s, function, 1, &argument, err));
    const char *text = lua_tostring(L, -1);
    if (text) {
        puts(text);
        fflush(stdout);
    }
    lua_pop(L, 1);
    return TARN_OK;
}

// ---- the commands ----

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
static tarn_status run_edit(tarn_session *s, const char *argument, tarn_error *err) {
    (void)argument;
    const char *tmp = getenv("TMPDIR");
    tmp = tmp && *tmp ? tmp : "/tmp";
    char path[TARN_REPL_PATH];
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
        tarn_session_run(s, s->entry.data, s->entry.len, true);
    }
    return status;
}

static tarn_status run_load(tarn_session *s, const char *argument, tarn_error *err) {
    const char *path = argument;
    int results = 0;
    TARN_TRY(tarn_session_call(s, "quoted", 1, &path, err));
    tarn_text line;
    tarn_text_init(&line, &s->cx->budget);
    tarn_text_printf(&line, "+dofile %s", lua_tostring(tarn_host_state(s->h), -1));
    lua_pop(tarn_host_state(s->h), 1);
    tarn_status status = tarn_host_run_file(s->h, path, 0, NULL, &results, err);
    status = status == TARN_OK ? tarn_repl_print(s->h, results, err) : status;
    if (status == TARN_OK && !line.failed) {
        tarn_text_add(&s->entries, line.data, line.len + 1);
    }
    tarn_text_free(&line);
    return status;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static tarn_status run_time(tarn_session *s, const char *argument, tarn_error *err) {
    (void)err;
    tarn_budget *b = &s->cx->budget;
    char size[32];
    size_t used = atomic_load(&b->used);
    atomic_store(&b->peak, used);
    double wall = now(), cpu = (double)clock() / CLOCKS_PER_SEC;
    tarn_session_run(s, argument, strlen(argument), true);
    wall = now() - wall;
    cpu = (double)clock() / CLOCKS_PER_SEC - cpu;
    size_t peak = atomic_load(&b->peak);
    if (!s->failed) {
        printf("%.4g s, %.4g s of processor time, at most %s more memory\n", wall, cpu,
               tarn_show_bytes(peak > used ? peak - used : 0, size));
        fflush(stdout);
    }
    return TARN_OK;
}

static tarn_status run_profile(tarn_session *s, const char *argument, tarn_error *err) {
    tarn_profile *p = tarn_profile_start(s->h);
    if (!p) {
        return tarn_raise_nomem(err, "the profile", 0);
    }
    tarn_session_run(s, argument, strlen(argument), true);
    tarn_profile_end(s->h, p, !s->leave);
    return TARN_OK;
}

static tarn_status run_plan(tarn_session *s, const char *argument, tarn_error *err) {
    return print_result(s, "plan", argument, err);
}
static tarn_status run_save(tarn_session *s, const char *argument, tarn_error *err) {
    return print_result(s, "save", argument, err);
}
static tarn_status run_lint(tarn_session *s, const char *argument, tarn_error *err) {
    return print_result(s, "lint", argument, err);
}
static tarn_status run_who(tarn_session *s, const char *argument, tarn_error *err) {
    return print_result(s, "who", argument, err);
}

static tarn_status run_quit(tarn_session *s, const char *argument, tarn_error *err) {
    (void)argument;
    (void)err;
    s->leave = true;
    return TARN_OK;
}

static tarn_status run_help(tarn_session *s, const char *argument, tarn_error *err);

static const command commands[] = {
    {":edit", "", "the last entry in $EDITOR; what comes back is run", NOTHING, run_edit},
    {":help", "", "this text", NOTHING, run_help},
    {":lint", "[FILE]", "what is wrong with a script, or with this session, without running it",
     PERHAPS_PATH, run_lint},
    {":load", "FILE", "run a script in this session", PATH, run_load},
    {":plan", "CODE", "what saving that model, or running that code, would do", CODE, run_plan},
    {":profile", "CODE", "run it; the functions that took the most time", CODE, run_profile},
    {":quit", "", "leave (or Ctrl-D)", NOTHING, run_quit},
    {":save", "FILE", "this session as a script: the entries that ran without an error", PATH,
     run_save},
    {":time", "CODE", "run it; time and memory", CODE, run_time},
    {":who", "", "the globals of this session", NOTHING, run_who},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static tarn_status run_help(tarn_session *s, const char *argument, tarn_error *err) {
    (void)s;
    (void)argument;
    (void)err;
    fputs("An expression shows its values; a trailing ; hides them; _ is the last one, __ the one "
          "before.\n"
          "  ?name, name?    help on a function, a method or a module; help \"words\" searches\n"
          "  ??name          the text of a function\n"
          "  Tab             complete a name, an option, a tensor in m[\"…, a file in \"…\n"
          "  Ctrl-R, Up      search the history\n"
          "  Ctrl-C          stop the work, or drop the line\n",
          stdout);
    for (int i = 0; i < COMMANDS; i++) {
        printf("  %s %-*s  %s\n", commands[i].name, 13 - (int)strlen(commands[i].name),
               commands[i].argument, commands[i].text);
    }
    return TARN_OK;
}

// ---- finding them ----

static const char *next_command(void *arg, size_t i) {
    (void)arg;
    return i < COMMANDS ? commands[i].name : NULL;
}

// The command whose name those bytes are, or the only one that begins so.
static const command *find(const char *name, size_t n) {
    const command *found = NULL;
    int matches = 0;
    for (int i = 0; i < COMMANDS; i++) {
        if (strncmp(commands[i].name, name, n) == 0) {
            found = &commands[i];
            matches++;
            if (commands[i].name[n] == '\0') {
                return found;
            }
        }
    }
    return n > 1 && matches == 1 ? found : NULL;
}

static tarn_status unknown(const char *name, size_t n, tarn_error *err) {
    char word[32];
    snprintf(word, sizeof word, "%.*s", (int)n, name);
    const char *near = tarn_nearest(word, next_command, NULL);
    return tarn_raise(err, "", "unknown command '%s'; %s%s%s", word,
                      near ? "did you mean '" : ":help lists them", near ? near : "",
                      near ? "'?" : "");
}

// "::label::" is Lua.
static bool is_command(const char *text) { return text[0] == ':' && text[1] != ':'; }

static tarn_status run(tarn_session *s, const char *name, size_t n, const char *argument,
                       tarn_error *err) {
    const command *c = find(name, n);
    if (!c) {
        return unknown(name, n, err);
    }
    bool needs = c->takes == PATH || c->takes == CODE;
    if (needs && !*argument) {
        TARN_RAISE(err, "", "%s needs a %s: %s %s", c->name,
                   c->takes == PATH ? "path" : "piece of code", c->name, c->argument);
    }
    if (c->takes == NOTHING && *argument) {
        TARN_RAISE(err, "", "%s takes no argument", c->name);
    }
    return c->run(s, argument, err);
}

bool tarn_session_command(tarn_session *s) {
    char *text = s->entry.data + strspn(s->entry.data, " \t");
    if (!is_command(text)) {
        return false;
    }
    tarn_error err = {0};
    tarn_text line;
    tarn_text_init(&line, &s->cx->budget);
    tarn_text_puts(&line, text);
    tarn_status status = tarn_raise_nomem(&err, "the entry", s->entry.len);
    if (!line.failed) {
        size_t n = strcspn(line.data, " \t");
        size_t len = line.len;
        while (len > n && strchr(" \t", line.data[len - 1])) {
            line.data[--len] = '\0';
        }
        if (find(text, n) && find(text, n)->run != run_edit) {
            tarn_session_keep(s, s->entry.data);
        }
        status = run(s, line.data, n, line.data + n + strspn(line.data + n, " \t"), &err);
    }
    tarn_text_free(&line);
    if (!s->leave) {
        tarn_session_report(s, status, &err);
    }
    return true;
}

bool tarn_session_complete(tarn_session *s, const char *line, size_t cursor, tarn_words *words,
                           size_t *lua) {
    *lua = 0;
    if (cursor == 0 || line[0] != ':' || (cursor > 1 && line[1] == ':')) {
        return false;
    }
    const char *space = memchr(line, ' ', cursor);
    if (!space) {
        words->start = 0;
        words->closing = " ";
        for (int i = 0; i < COMMANDS; i++) {
            if (strncmp(commands[i].name, line, cursor) == 0) {
                tarn_words_add(words, commands[i].name, commands[i].text);
            }
        }
        return true;
    }
    const command *c = find(line, (size_t)(space - line));
    *lua = (size_t)(space - line) + 1;
    if (c && (c->takes == PATH || c->takes == PERHAPS_PATH)) {
        tarn_complete_path(s->h, line, *lua, cursor, words);
        return true;
    }
    return !c || c->takes == NOTHING;
}
