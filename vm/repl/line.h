// SPDX-License-Identifier: Apache-2.0
// The line editor behind a small face: libedit on a terminal that can move its cursor, plain
// reading everywhere else. The rest of the prompt does not know which of them it talks to.
#ifndef TARN_REPL_LINE_H
#define TARN_REPL_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "vm/base/cancel.h"
#include "vm/base/text.h"

// What may stand at the cursor. The completer fills it; the editor shows or inserts it.
typedef struct tarn_words {
    tarn_text text;       // "word\0note\0" for each
    int count;
    size_t start;         // where in the line the word begins, bytes
    const char *closing;  // static text that follows a word when it is the only one; NULL: none
} tarn_words;

void tarn_words_add(tarn_words *w, const char *word, const char *note);  // note: may be NULL

typedef struct tarn_line_options {
    tarn_budget *budget;
    const tarn_cancel *cancel;  // a stop gives the line up
    bool colour;
    // The line as typed, up to the cursor (not terminated at it).
    void (*complete)(void *arg, const char *line, size_t cursor, tarn_words *words);
    void *arg;
} tarn_line_options;

typedef enum {
    TARN_LINE_TEXT,     // a line was read
    TARN_LINE_END,      // end of input
    TARN_LINE_STOPPED,  // Ctrl-C or another stop: the line is lost
} tarn_line_result;

typedef struct tarn_line tarn_line;

tarn_line *tarn_line_open(const tarn_line_options *o);  // NULL: out of memory
void tarn_line_close(tarn_line *l);                     // l may be NULL
bool tarn_line_is_terminal(const tarn_line *l);         // a person is typing
bool tarn_line_is_editor(const tarn_line *l);           // history and completion work
// Appends the line, without its newline, to `out` (a paste may hold several lines).
tarn_line_result tarn_line_read(tarn_line *l, const char *prompt, tarn_text *out);
// Adds an entry, possibly of several lines, to the history of this session.
void tarn_line_remember(tarn_line *l, const char *entry);

#endif
