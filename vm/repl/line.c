// SPDX-License-Identifier: Apache-2.0
// Plain reading of lines, and the choice between it and libedit. Plain: no terminal (nothing is
// printed but results), or one that cannot move its cursor (TERM=dumb: a prompt, no editing).
#include "vm/repl/line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/repl/line_edit.h"

struct tarn_line {
    tarn_line_options o;
    tarn_editor *editor;  // NULL: plain
    bool terminal;
    char buffer[4096];    // bytes read and not yet given out: [at, end)
    size_t at, end;
};

void tarn_words_add(tarn_words *w, const char *word, const char *note) {
    note = note ? note : "";
    tarn_text_add(&w->text, word, strlen(word) + 1);
    tarn_text_add(&w->text, note, strlen(note) + 1);
    w->count++;
}

static bool can_edit(void) {
    const char *term = getenv("TERM");
    return term && *term && strcmp(term, "dumb") != 0;
}

tarn_line *tarn_line_open(const tarn_line_options *o) {
    tarn_line *l = tarn_alloc_zero(o->budget, sizeof *l);
    if (l) {
        l->o = *o;
        l->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
        l->editor = l->terminal && can_edit() ? tarn_editor_open(&l->o) : NULL;
    }
    return l;
}

void tarn_line_close(tarn_line *l) {
    if (l) {
        tarn_editor_close(l->editor);
        tarn_free(l->o.budget, l, sizeof *l);
    }
}

bool tarn_line_is_terminal(const tarn_line *l) { return l->terminal; }
bool tarn_line_is_editor(const tarn_line *l) { return l->editor != NULL; }

static tarn_line_result read_plain(tarn_line *l, tarn_text *out) {
    bool some = false;
    for (;;) {
        if (l->at < l->end) {
            const char *from = l->buffer + l->at;
            const char *newline = memchr(from, '\n', l->end - l->at);
            size_t n = newline ? (size_t)(newline - from) : l->end - l->at;
            tarn_text_add(out, from, n);
            l->at += n + (newline != NULL);
            some = true;
            if (newline) {
                return TARN_LINE_TEXT;
            }
        }
        ssize_t n = read(STDIN_FILENO, l->buffer, sizeof l->buffer);
        if (tarn_cancel_reason(l->o.cancel) != TARN_STOP_NONE) {
            return TARN_LINE_STOPPED;
        }
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return some ? TARN_LINE_TEXT : TARN_LINE_END;
        }
        l->at = 0;
        l->end = n > 0 ? (size_t)n : 0;
    }
}

tarn_line_result tarn_line_read(tarn_line *l, const char *prompt, tarn_text *out) {
    if (l->editor) {
        return tarn_editor_read(l->editor, prompt, out);
    }
    if (l->terminal) {
        fputs(prompt, stdout);
        fflush(stdout);
    }
    tarn_line_result r = read_plain(l, out);
    if (l->terminal && r != TARN_LINE_TEXT) {
        fputs("\n", stdout);  // behind the prompt, or the ^C that the terminal showed
        fflush(stdout);
    }
    return r;
}

void tarn_line_remember(tarn_line *l, const char *entry) {
    if (l->editor) {
        tarn_editor_remember(l->editor, entry);
    }
}
