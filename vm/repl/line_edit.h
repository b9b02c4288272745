// SPDX-License-Identifier: Apache-2.0
// The libedit half of the line editor; private to line.c.
#ifndef TARN_REPL_LINE_EDIT_H
#define TARN_REPL_LINE_EDIT_H

#include "vm/repl/line.h"

typedef struct tarn_editor tarn_editor;

tarn_editor *tarn_editor_open(const tarn_line_options *o);  // NULL: libedit cannot work here
void tarn_editor_close(tarn_editor *e);
tarn_line_result tarn_editor_read(tarn_editor *e, const char *prompt, tarn_text *out);
void tarn_editor_remember(tarn_editor *e, const char *entry);

#endif
