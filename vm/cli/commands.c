// SPDX-License-Identifier: Apache-2.0
// Reads the heads of the embedded command files. Nothing is run: a list of commands costs nothing.
#include "vm/cli/commands.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vm/base/text.h"

static size_t line_length(const char *s) { return strcspn(s, "\n"); }

static const char *next_line(const char *s) {
    s += line_length(s);
    return *s ? s + 1 : s;
}

static bool is_comment(const char *s) { return s[0] == '-' && s[1] == '-'; }

// A command whose code 1 is an answer must not give it when it fails before that line runs.
static int failure_of(const char *text) {
    static const char line[] = "\ntarn.exit_on_error(";
    const char *at = strstr(text, line);
    return at ? (int)strtol(at + sizeof line - 1, NULL, 10) : 1;
}

static void read_head(tarn_command *c) {
    static const char spdx[] = "-- SPDX-";
    const char *s = c->file->text;
    while (strncmp(s, spdx, sizeof spdx - 1) == 0 || strncmp(s, "#!", 2) == 0) {
        s = next_line(s);
    }
    if (!is_comment(s)) {
        return;
    }
    size_t n = line_length(s);
    const char *first = s + 2 + strspn(s + 2, " ");
    size_t len = n - (size_t)(first - s);
    const char *colon = memchr(first, ':', len);
    c->usage = first;
    c->usage_len = colon ? (size_t)(colon - first) : len;
    if (colon) {
        c->summary = colon + 1 + (colon[1] == ' ');
        c->summary_len = (size_t)(first + len - c->summary);
    }
    c->help = next_line(s);
    const char *end = c->help;
    while (is_comment(end)) {
        end = next_line(end);
    }
    c->help_len = (size_t)(end - c->help);
}

void tarn_commands_find(tarn_commands *c) {
    static const char folder[] = "scripts/";
    c->count = 0;
    for (const tarn_embedded_file *f = tarn_embedded_files; f->path; f++) {
        if (strncmp(f->path, folder, sizeof folder - 1) != 0 || c->count == TARN_COMMANDS_MAX) {
            continue;
        }
        const char *name = f->path + sizeof folder - 1;
        size_t n = strcspn(name, ".");
        if (strchr(name, '/') || n >= TARN_COMMAND_NAME || strcmp(name + n, ".lua") != 0) {
            continue;
        }
        tarn_command *row = &c->row[c->count++];
        memset(row, 0, sizeof *row);
        memcpy(row->name, name, n);
        row->file = f;
        row->usage = row->name;
        row->usage_len = n;
        row->summary = row->help = "";
        row->failure = failure_of(f->text);
        read_head(row);
    }
}

const tarn_command *tarn_command_named(const tarn_commands *c, const char *name) {
    for (int i = 0; i < c->count; i++) {
        if (strcmp(c->row[i].name, name) == 0) {
            return &c->row[i];
        }
    }
    return NULL;
}

static const char *next_name(void *arg, size_t i) {
    const tarn_commands *c = arg;
    return i < (size_t)c->count       ? c->row[i].name
           : i == (size_t)c->count ? "help"
                                   : NULL;
}

const char *tarn_command_nearest(const tarn_commands *c, const char *name) {
    return tarn_nearest(name, next_name, (void *)(uintptr_t)c);
}

void tarn_commands_list(const tarn_commands *c, FILE *to) {
    for (int i = 0; i < c->count; i++) {
        const tarn_command *row = &c->row[i];
        fprintf(to, "  %-10s  %.*s\n", row->name, (int)row->summary_len, row->summary);
    }
}

void tarn_command_help(const tarn_command *c, FILE *to) {
    fprintf(to, "usage: tarn %.*s\n", (int)c->usage_len, c->usage);
    if (c->summary_len > 0) {
        fprintf(to, "\n%.*s\n", (int)c->summary_len, c->summary);
    }
    for (const char *s = c->help; s < c->help + c->help_len; s = next_line(s)) {
        const char *text = s + 2 + (s[2] == ' ');
        fprintf(to, "%.*s\n", (int)(line_length(s) - (size_t)(text - s)), text);
    }
}
