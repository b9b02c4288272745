// SPDX-License-Identifier: Apache-2.0
// Reading the command line. One table states the options: parsing, suggestions and --help read it.
// Nothing is opened or run here, so a misspelt word costs nothing but its message.
#include "vm/cli/options.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/base/text.h"

typedef enum { FLAG, COUNT, SIZE, SECONDS, ISA } option_kind;

typedef struct {
    const char *name;
    const char *value;  // what follows, for --help; NULL: nothing
    const char *text;
    option_kind kind;
    size_t at;          // offset of the field in tarn_cli_options
} option_row;

#define AT(field) offsetof(tarn_cli_options, field)

// Options that may stand anywhere before a script's name, or among a command's arguments.
static const option_row rows[] = {
    {"--threads", "N", "worker threads (default: one per processor)", COUNT, AT(machine.threads)},
    {"--memory", "SIZE", "cap on memory: 2G, 512M, 1.5GiB (default: what is available)", SIZE,
     AT(machine.memory)},
    {"--hold", "SIZE", "inputs of one tensor that may stay in memory (default: 128M)", SIZE,
     AT(machine.hold)},
    {"--time", "LIMIT", "wall-clock limit: 60s, 1.5m, 2h", SECONDS, AT(seconds)},
    {"--isa", "v1|v3|v4", "instruction set of the kernels (default: the best there is)", ISA,
     AT(machine.isa)},
    {"--rehash", NULL, "hash input files anew, whatever `tarn digests` remembers", FLAG, AT(machine.rehash)},
    {"--quiet", NULL, "no progress bar, no warnings", FLAG, AT(quiet)},
    {"--json", NULL, "results and progress for programs", FLAG, AT(json)},
    {"--traceback", NULL, "show where in the script an error came from", FLAG, AT(traceback)},
};
enum { ROWS = sizeof rows / sizeof *rows };

// Words that choose what to run; only before a script's or command's name.
static const char *const modes[] = {"-e", "-i", "-h", "--help", "--version", "-"};
enum { MODES = sizeof modes / sizeof *modes };

void tarn_cli_print_options(FILE *to) {
    for (int i = 0; i < ROWS; i++) {
        char left[32];
        snprintf(left, sizeof left, "%s%s%s", rows[i].name, rows[i].value ? " " : "",
                 rows[i].value ? rows[i].value : "");
        fprintf(to, "  %-16s  %s\n", left, rows[i].text);
    }
}

bool tarn_cli_option_at(int i, const char **name, const char **value, const char **text) {
    if (i < 0 || i >= ROWS) {
        return false;
    }
    *name = rows[i].name;
    *value = rows[i].value;
    *text = rows[i].text;
    return true;
}

// ---- values ----

// Reads a finite number >= 0 at s; *end is behind it. No hexadecimal, no "inf", no sign.
static bool read_number(const char *s, double *v, const char **end) {
    size_t n = strspn(s, "0123456789.");
    char *stop;
    if (n == 0 || n > 40) {
        return false;
    }
    *v = strtod(s, &stop);
    *end = s + n;
    return stop == *end && isfinite(*v);
}

// "2G", "512M", "1.5GiB", "300 kB" or plain bytes: K, M, G, T and KiB … count in 1024, kB … in
// 1000.
static bool parse_size(const char *s, size_t *bytes) {
    static const char units[] = "kmgtp";
    double v;
    const char *u;
    if (!read_number(s, &v, &u)) {
        return false;
    }
    u += *u == ' ';
    char letter = *u >= 'A' && *u <= 'Z' ? (char)(*u + 32) : *u;
    const char *unit = letter ? strchr(units, letter) : NULL;
    int power = unit ? (int)(unit - units) + 1 : 0;
    u += unit != NULL;
    bool decimal = unit && *u == 'B' && u[1] == '\0';
    u += unit && *u == 'i' && u[1] == 'B';
    u += *u == 'B';
    v *= pow(decimal ? 1000 : 1024, power);
    if (*u != '\0' || v < 1 || v >= 0x1p63) {
        return false;
    }
    *bytes = (size_t)v;
    return true;
}

// "60s", "1.5m", "2h", "500ms" or plain seconds.
static bool parse_seconds(const char *s, double *seconds) {
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"", 1}, {"s", 1}, {"ms", 1e-3}, {"m", 60}, {"min", 60}, {"h", 3600}};
    double v;
    const char *u;
    if (!read_number(s, &v, &u)) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(u, units[i].name) == 0 && v > 0) {
            *seconds = v * units[i].seconds;
            return true;
        }
    }
    return false;
}

static bool read_value(const option_row *row, const char *s, void *field) {
    switch (row->kind) {
    case COUNT: {
        char *end;
        long v = *s >= '0' && *s <= '9' ? strtol(s, &end, 10) : 0;
        if (v < 1 || v > 256 || *end) {
            return false;
        }
        *(int *)field = (int)v;
        return true;
    }
    case SIZE:
        return parse_size(s, field);
    case SECONDS:
        return parse_seconds(s, field);
    case ISA:
        *(const char **)field = s;
        return strcmp(s, "v1") == 0 || strcmp(s, "v3") == 0 || strcmp(s, "v4") == 0;
    case FLAG:
    default:
        return false;
    }
}

// ---- suggestions ----

static const char *next_option(void *arg, size_t i) {
    (void)arg;
    return i < ROWS ? rows[i].name : i < ROWS + MODES ? modes[i - ROWS] : NULL;
}

static tarn_status unknown_option(const char *word, tarn_error *err) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    const char *near = tarn_nearest(name, next_option, NULL);
    TARN_RAISE(err, "", "unknown option '%s'%s%s%s", name, near ? "; did you mean '" : "",
               near ? near : " (tarn --help lists them)", near ? "'?" : "");
}

enum { NAMES = 256, NAME_ROOM = 256 };

typedef struct {
    int count;
    char name[NAMES][NAME_ROOM];
} file_names;

static const char *next_file(void *arg, size_t i) {
    const file_names *f = arg;
    return i < (size_t)f->count ? f->name[i] : NULL;
}

// The file in the folder of `path` whose name is nearest to it, as a path, in buf; or NULL.
static const char *nearest_file(const char *path, char *buf, size_t room) {
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    snprintf(buf, room, "%.*s", folder, path);
    DIR *dir = opendir(folder ? buf : ".");
    file_names *f = dir ? malloc(sizeof *f) : NULL;
    const char *near = NULL;
    if (f) {
        f->count = 0;
        for (struct dirent *e; f->count < NAMES && (e = readdir(dir)) != NULL;) {
            if (e->d_name[0] != '.') {
                snprintf(f->name[f->count++], NAME_ROOM, "%s", e->d_name);
            }
        }
        near = tarn_nearest(path + folder, next_file, f);
        if (near) {
            snprintf(buf, room, "%.*s%s", folder, path, near);
        }
    }
    free(f);
    if (dir) {
        closedir(dir);
    }
    return near ? buf : NULL;
}

static tarn_status nothing_of_that_name(const char *word, const tarn_commands *commands,
                                        tarn_error *err) {
    char buf[1024];
    const char *near = nearest_file(word, buf, sizeof buf);
    const char *what = "no such file";
    if (!strchr(word, '/') && !strchr(word, '.')) {
        const char *command = tarn_command_nearest(commands, word);
        near = command ? command : near;
        what = "no such command or file";
    }
    TARN_RAISE(err, "", "%s: '%s'%s%s%s", what, word, near ? "; did you mean '" : "",
               near ? near : "", near ? "'?" : "");
}

// ---- parsing ----

typedef struct {
    int argc;
    char **argv;
    int at;  // the next word
    tarn_cli_options *o;
    const tarn_commands *commands;
} parser;

// Takes the option at p->at when it is one of the table: *taken.
static tarn_status take_option(parser *p, bool *taken, tarn_error *err) {
    const char *word = p->argv[p->at];
    size_t len = strcspn(word, "=");
    const option_row *row = NULL;
    for (int i = 0; i < ROWS && !row; i++) {
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, word, len) == 0) {
            row = &rows[i];
        }
    }
    *taken = row != NULL;
    if (!row) {
        return TARN_OK;
    }
    void *field = (char *)p->o + row->at;
    if (row->kind == FLAG) {
        if (word[len]) {
            TARN_RAISE(err, "", "option %s takes no value", row->name);
        }
        *(bool *)field = true;
        p->at++;
        return TARN_OK;
    }
    const char *value = word[len] ? word + len + 1 : p->argv[p->at + 1];
    if (!value) {
        TARN_RAISE(err, "", "option %s needs a value: %s %s", row->name, row->name, row->value);
    }
    if (!read_value(row, value, field)) {
        TARN_RAISE(err, "", "option %s: '%s' is not a value of the form %s; %s", row->name, value,
                   row->value, row->text);
    }
    p->at += word[len] ? 1 : 2;
    return TARN_OK;
}

// `tarn COMMAND ARGUMENT --help`, where the command says that this is its own to answer.
static bool helps_itself(const tarn_cli_options *o) {
    static const char word[] = "--help";
    return o->nargs > 0 && memmem(o->command->help, o->command->help_len, word, sizeof word - 1);
}

// What follows a command's name or -e CODE: options of the program are taken out, up to "--"; all
// else is the command's.
static tarn_status take_arguments(parser *p, tarn_error *err) {
    tarn_cli_options *o = p->o;
    bool plain = false;
    while (p->at < p->argc) {
        const char *word = p->argv[p->at];
        bool taken = false;
        plain = plain || strcmp(word, "--") == 0;
        if (!plain && o->command && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) &&
            !helps_itself(o)) {
            o->run = TARN_RUN_HELP;
            o->what = o->command->name;
            return TARN_OK;
        }
        if (!plain && o->run == TARN_RUN_CODE && strcmp(word, "-i") == 0) {
            o->prompt = taken = true;
            p->at++;
        } else if (!plain) {
            TARN_TRY(take_option(p, &taken, err));
        }
        if (!taken) {
            o->args[o->nargs++] = p->argv[p->at++];
        }
    }
    return TARN_OK;
}

static void rest_is_the_scripts(parser *p) {
    while (p->at < p->argc) {
        p->o->args[p->o->nargs++] = p->argv[p->at++];
    }
}

// The first word that is no option: a command or a script.
static tarn_status take_name(parser *p, tarn_error *err) {
    tarn_cli_options *o = p->o;
    const char *word = p->argv[p->at++];
    struct stat st;
    if (strcmp(word, "help") == 0) {
        o->run = TARN_RUN_HELP;
        o->what = p->argv[p->at];
        return TARN_OK;
    }
    o->what = word;
    o->command = tarn_command_named(p->commands, word);
    if (o->command) {
        o->run = TARN_RUN_COMMAND;
        return take_arguments(p, err);
    }
    if (stat(word, &st) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return nothing_of_that_name(word, p->commands, err);
    }
    o->run = TARN_RUN_FILE;
    rest_is_the_scripts(p);
    return TARN_OK;
}

// A word that chooses what to run: *done when nothing after it is the program's.
static tarn_status take_mode(parser *p, bool *done, tarn_error *err) {
    tarn_cli_options *o = p->o;
    const char *word = p->argv[p->at++];
    if (strcmp(word, "-i") == 0) {
        o->prompt = true;
        return TARN_OK;
    }
    *done = true;
    if (strcmp(word, "-") == 0) {
        o->run = TARN_RUN_STDIN;
        rest_is_the_scripts(p);
    } else if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
        o->run = TARN_RUN_HELP;
    } else if (strcmp(word, "--version") == 0) {
        o->run = TARN_RUN_VERSION;
    } else if (strcmp(word, "-e") == 0) {
        if (p->at == p->argc) {
            TARN_RAISE(err, "", "option -e needs a value: -e CODE");
        }
        o->run = TARN_RUN_CODE;
        o->what = p->argv[p->at++];
        return take_arguments(p, err);
    } else {
        return unknown_option(word, err);
    }
    return TARN_OK;
}

tarn_status tarn_cli_parse(int argc, char **argv, const tarn_commands *commands,
                           tarn_cli_options *o, tarn_error *err) {
    memset(o, 0, sizeof *o);
    o->args = calloc((size_t)argc + 1, sizeof *o->args);
    if (!o->args) {
        return tarn_raise_nomem(err, "the command line", (size_t)argc * sizeof *o->args);
    }
    parser p = {argc, argv, 1, o, commands};
    bool done = false;
    while (!done && p.at < argc) {
        bool taken = false;
        TARN_TRY(take_option(&p, &taken, err));
        if (taken) {
            continue;
        }
        if (strcmp(argv[p.at], "--") == 0) {
            p.at++;
        } else if (argv[p.at][0] == '-') {
            TARN_TRY(take_mode(&p, &done, err));
            continue;
        }
        if (p.at < argc) {
            TARN_TRY(take_name(&p, err));
        }
        done = true;
    }
    if (o->run == TARN_RUN_PROMPT && !o->prompt && !isatty(STDIN_FILENO)) {
        o->run = TARN_RUN_STDIN;
    }
    return TARN_OK;
}

void tarn_cli_free(tarn_cli_options *o) {
    free(o->args);
    o->args = NULL;
}
