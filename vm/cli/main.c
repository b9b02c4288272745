// SPDX-License-Identifier: Apache-2.0
// The composition root: the one place that knows every room. It reads the command line, makes the
// context and the host, binds the modules, runs what was asked for and turns the outcome into an
// exit code: 0 done, 1 failed or refused, 2 usage, 130 / 143 / 129 stopped by INT / TERM / HUP.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stdlib/bind/bind.h"
#include "vm/cli/commands.h"
#include "vm/cli/module.h"
#include "vm/cli/options.h"
#include "vm/cli/progress.h"
#include "vm/cli/report.h"
#include "vm/cli/signals.h"
#include "vm/cli/untrusted.h"
#include "vm/repl/repl.h"

enum { DONE = 0, FAILED = 1, USAGE = 2 };

typedef struct {
    tarn_cli_options o;
    tarn_commands commands;
    tarn_context cx;
    tarn_bar bar;
    tarn_report report;
    tarn_host *host;
    int failure_code;
} program;

// ---- help ----

static void print_help(const tarn_commands *commands) {
    fputs("usage: tarn [OPTION]… [SCRIPT.lua [ARGUMENT]…]   run a script; without one, the prompt\n"
          "       tarn [OPTION]… COMMAND [ARGUMENT]…\n"
          "       tarn -e CODE                 run a line; print the values of an expression\n"
          "       tarn -i [SCRIPT.lua …]       run a script, then the prompt\n"
          "       tarn -                       a script from standard input\n"
          "       tarn help [COMMAND | NAME]   on a command, or a name of the language\n"
          "       tarn --version\n",
          stdout);
    if (commands->count > 0) {
        fputs("\nCommands:\n", stdout);
        tarn_commands_list(commands, stdout);
    }
    fputs("\nOptions (before a script's name, anywhere with a command):\n", stdout);
    tarn_cli_print_options(stdout);
    fputs("\nExit codes: 0 done, 1 failed or refused, 2 wrong usage, 130, 143, 129 stopped by INT, "
          "TERM, HUP.\n",
          stdout);
}

static void print_version(const tarn_context *cx) {
    printf("tarn %s (%s, kernels for x86-64 %s, %d threads)\n", TARN_VERSION, LUA_RELEASE,
           tarn_isa_name(cx->isa), tarn_pool_size(cx->pool));
}

static const char *next_help_name(void *arg, size_t i) {
    const program *p = arg;
    size_t n = (size_t)p->commands.count;
    const tarn_doc *d = i < n ? NULL : tarn_host_doc_at(p->host, (int)(i - n));
    return i < n ? p->commands.row[i].name : d ? d->name : NULL;
}

// Whether word is a module or a kind of value, which has functions or methods of its own.
static bool has_members(tarn_host *h, const char *word) {
    size_t n = strlen(word);
    for (int i = 0; i < tarn_host_doc_count(h); i++) {
        const char *name = tarn_host_doc_at(h, i)->name;
        if (strncmp(name, word, n) == 0 && (name[n] == '.' || name[n] == ':')) {
            return true;
        }
    }
    return false;
}

// `tarn help WORD`, where WORD is no command: a name of the language.
static tarn_status help_on_name(program *p, bool *known, tarn_error *err) {
    const char *word = p->o.what;
    *known = tarn_host_doc_find(p->host, word) || has_members(p->host, word);
    if (!*known) {
        const char *near = tarn_nearest(word, next_help_name, p);
        TARN_RAISE(err, "", "no command or name '%s'%s%s%s", word, near ? "; did you mean '" : "",
                   near ? near : "", near ? "'?" : "");
    }
    return tarn_repl_help(p->host, word, err);
}

// ---- running ----

static tarn_status read_stdin(tarn_context *cx, tarn_text *text, tarn_error *err) {
    char piece[1 << 16];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        TARN_TRY(tarn_cancel_check(&cx->cancel, err));
        if (n == 0) {
            return TARN_OK;
        }
        if (n < 0 && errno != EINTR) {
            TARN_RAISE(err, "CannotRead", "cannot read standard input: %s", strerror(errno));
        }
        tarn_text_add(text, piece, n > 0 ? (size_t)n : 0);
        if (text->failed) {
            return tarn_raise_nomem(err, "the script on standard input", text->len);
        }
    }
}

static tarn_status run_stdin(program *p, tarn_error *err) {
    tarn_text text;
    tarn_text_init(&text, &p->cx.budget);
    tarn_status s = read_stdin(&p->cx, &text, err);
    if (s == TARN_OK) {
        s = tarn_host_run(p->host, "=stdin", text.data ? text.data : "", text.len, p->o.nargs,
                          p->o.args, NULL, err);
    }
    tarn_text_free(&text);
    return s;
}

// An expression's values are printed.
static tarn_status run_code(program *p, tarn_error *err) {
    int results;
    bool incomplete;
    TARN_TRY(tarn_host_run_line(p->host, p->o.what, strlen(p->o.what), &results, &incomplete, err));
    return tarn_repl_print(p->host, results, err);
}

static tarn_status run_command(program *p, tarn_error *err) {
    const tarn_embedded_file *f = p->o.command->file;
    char name[64];
    snprintf(name, sizeof name, "@%s", f->path);
    return tarn_host_run(p->host, name, f->text, f->len, p->o.nargs, p->o.args, NULL, err);
}

static tarn_status run(program *p, tarn_error *err) {
    switch (p->o.run) {
    case TARN_RUN_CODE:
        return run_code(p, err);
    case TARN_RUN_STDIN:
        return run_stdin(p, err);
    case TARN_RUN_FILE:
        return tarn_host_run_file(p->host, p->o.what, p->o.nargs, p->o.args, NULL, err);
    case TARN_RUN_COMMAND:
        return run_command(p, err);
    case TARN_RUN_PROMPT:
    case TARN_RUN_HELP:
    case TARN_RUN_VERSION:
    default:
        return TARN_OK;
    }
}

static int stopped_code(const program *p) {
    switch (tarn_cancel_reason(&p->cx.cancel)) {
    case TARN_STOP_INT:
        return 130;
    case TARN_STOP_TERM:
        return 143;
    case TARN_STOP_HUP:
        return 129;
    case TARN_STOP_NONE:
    case TARN_STOP_DEADLINE:
    default:
        return p->failure_code;
    }
}

// The exit code of a run that ended with status s; reports what there is to report.
static int outcome(program *p, tarn_status s, const tarn_error *err) {
    int code;
    if (tarn_host_exiting(p->host, &code)) {
        return code;
    }
    if (s == TARN_OK) {
        return DONE;
    }
    if (!tarn_signals_pipe_closed()) {
        tarn_report_error(&p->report, err, tarn_host_traceback(p->host));
    }
    return stopped_code(p);
}

static void report_entry(void *arg, const tarn_error *err, const char *traceback) {
    const program *p = arg;
    if (!tarn_signals_pipe_closed()) {
        tarn_report_error(&p->report, err, traceback);
    }
}

static int run_and_prompt(program *p, tarn_error *err) {
    if (p->o.run == TARN_RUN_HELP) {
        bool known;
        tarn_status s = help_on_name(p, &known, err);
        int code = outcome(p, s, err);
        return known ? code : USAGE;
    }
    tarn_status s = run(p, err);
    int code = outcome(p, s, err);
    int ignored;
    bool ends = tarn_host_exiting(p->host, &ignored) || tarn_signals_pipe_closed();
    if ((p->o.run == TARN_RUN_PROMPT || p->o.prompt) && !ends) {
        tarn_host_resume_work(p->host);
        tarn_repl_options ro = {.banner = "tarn " TARN_VERSION ", " LUA_RELEASE
                                          ".  ?name and :help help, Ctrl-D leaves.",
                                .report = report_entry, .arg = p};
        code = tarn_repl_run(p->host, &ro);
    }
    return code;
}

// ---- setting up ----

// Where `require` looks: beside the script; beside the first script that a command is given; here.
static const char *script_folder(const tarn_cli_options *o, char *buf, size_t room) {
    const char *path = o->run == TARN_RUN_FILE ? o->what : "";
    for (int i = 0; o->run == TARN_RUN_COMMAND && i < o->nargs && !*path; i++) {
        size_t n = strlen(o->args[i]);
        path = n > 4 && strcmp(o->args[i] + n - 4, ".lua") == 0 ? o->args[i] : "";
    }
    const char *slash = strrchr(path, '/');
    size_t n = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (n >= room) {
        return NULL;
    }
    memcpy(buf, path, n);
    buf[n] = '\0';
    return buf;
}

static int with_host(program *p, tarn_error *err) {
    char folder[4096];
    tarn_host_options ho = {.trust = TARN_TRUST_SCRIPT, .seconds = p->o.seconds,
                            .folder = script_folder(&p->o, folder, sizeof folder)};
    tarn_status s = tarn_host_open(&p->cx, &ho, &p->host, err);
    if (s == TARN_OK) {
        tarn_signals_install(p->host);
        s = tarn_bind_open(p->host, err);
    }
    if (s == TARN_OK) {
        s = tarn_cli_module(p->host, &p->o, &p->failure_code, err);
    }
    int code;
    if (s == TARN_OK) {
        code = run_and_prompt(p, err);
    } else {
        tarn_report_error(&p->report, err, "");
        code = stopped_code(p);  // a stop may come as early as this
    }
    tarn_signals_remove();
    tarn_host_close(p->host);
    return code;
}

static int with_context(program *p, tarn_error *err) {
    if (tarn_context_init(&p->cx, &p->o.machine, err) != TARN_OK) {
        tarn_report_error(&p->report, err, "");
        return p->failure_code;
    }
    int code = DONE;
    p->cx.warn = tarn_report_warning;
    p->cx.warn_arg = &p->report;
    tarn_bar_open(&p->bar, &p->cx, p->o.quiet, p->o.json);
    p->report.bar = &p->bar;
    if (p->o.run == TARN_RUN_VERSION) {
        print_version(&p->cx);
    } else {
        code = with_host(p, err);
    }
    tarn_bar_close(&p->bar, &p->cx);
    p->report.bar = NULL;
    tarn_context_free(&p->cx);
    return code;
}

static int start(program *p, int argc, char **argv, tarn_error *err) {
    tarn_commands_find(&p->commands);
    if (tarn_cli_parse(argc, argv, &p->commands, &p->o, err) != TARN_OK) {
        tarn_report_error(&p->report, err, "");
        return USAGE;
    }
    p->report.quiet = p->o.quiet;
    p->report.traceback = p->o.traceback;
    p->failure_code = p->o.run == TARN_RUN_COMMAND ? p->o.command->failure : FAILED;
    if (p->o.run == TARN_RUN_HELP) {
        const tarn_command *c = p->o.what ? tarn_command_named(&p->commands, p->o.what) : NULL;
        if (c) {
            tarn_command_help(c, stdout);
            return DONE;
        }
        if (!p->o.what || strcmp(p->o.what, "help") == 0) {
            print_help(&p->commands);
            return DONE;
        }
    }
    return with_context(p, err);
}

// A standard stream that the parent closed would become the first file that is opened: a checkpoint,
// say, with print writing into it. The wrong direction keeps its use an error.
static void hold_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) {
            _exit(FAILED);
        }
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], TARN_UNTRUSTED) == 0) {
        return tarn_untrusted_main(argc, argv);
    }
    program p = {0};
    tarn_error err = {0};
    hold_standard_streams();
    signal(SIGXFSZ, SIG_IGN);  // writing past ulimit -f fails with a message and leaves nothing behind
    int code = start(&p, argc, argv, &err);
    tarn_cli_free(&p.o);
    bool pipe_closed = tarn_signals_pipe_closed();
    if (code == DONE && !pipe_closed && !tarn_report_flush(&p.report)) {
        code = p.failure_code;
    }
    if (pipe_closed) {
        raise(SIGPIPE);  // the default action: as any program whose reader has gone
    }
    return code;
}
