// SPDX-License-Identifier: Apache-2.0
// The session at the prompt: what its parts share. Private to vm/repl.
#ifndef TARN_REPL_SESSION_H
#define TARN_REPL_SESSION_H

#include "vm/repl/line.h"
#include "vm/repl/repl.h"

enum { TARN_REPL_PATH = 4096 };  // bytes

typedef struct tarn_session {
    tarn_host *h;
    tarn_context *cx;
    const tarn_repl_options *o;
    tarn_line *line;
    tarn_text entry;    // lines so far, joined by newlines
    tarn_text last;     // the entry before, for :edit
    tarn_text entries;  // every entry that ran: "+text\0", or "=text\0" when its values were shown;
                        // oldest first
    char history[TARN_REPL_PATH];  // "": none is kept
    bool failed;        // the last entry
    int code;           // exit code
    bool leave;
} tarn_session;

// Runs Lua text as an entry, prints its values and reports its error. False when it wants more
// lines, which it may only while `last_line` is false.
bool tarn_session_run(tarn_session *s, const char *text, size_t n, bool last_line);
// Tells the error of an entry, if it is one, and clears what stopped it.
void tarn_session_report(tarn_session *s, tarn_status status, const tarn_error *err);
// Adds an entry to the history and makes it the last one.
void tarn_session_keep(tarn_session *s, const char *entry);

// ---- commands.c ----
// Runs the entry when it is a command of the prompt; false when it is Lua.
bool tarn_session_command(tarn_session *s);
// True, and the words that may stand there, when the cursor is in the name or the path of a
// command. *lua: where else the Lua that it takes begins.
bool tarn_session_complete(tarn_session *s, const char *line, size_t cursor, tarn_words *words,
                           size_t *lua);
// Calls `function` of stdlib/lua/prompt.lua with texts; leaves its result, one value, on the stack.
tarn_status tarn_session_call(tarn_session *s, const char *function, int n,
                              const char *const *texts, tarn_error *err);

// ---- source.c ----
// Prints where the function of that name is from, and its text where it is Lua.
tarn_status tarn_session_source(tarn_session *s, const char *name, tarn_error *err);

// ---- underline.c ----
// Under a message "input:2: … 'word' …": line 2 of the entry with the word marked, if it is there.
void tarn_underline(tarn_host *h, const char *entry, const char *message, const char *traceback);

// ---- profile.c ----
typedef struct tarn_profile tarn_profile;
tarn_profile *tarn_profile_start(tarn_host *h);  // NULL: out of memory
// Ends the measuring; prints the functions that took the most time when `print` is true.
void tarn_profile_end(tarn_host *h, tarn_profile *p, bool print);

#endif
