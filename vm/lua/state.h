// SPDX-License-Identifier: Apache-2.0
// Inside of the host: the struct and what the files of this room share. Nothing outside vm/lua
// includes it.
#ifndef TARN_LUA_STATE_H
#define TARN_LUA_STATE_H

#include <stdatomic.h>
#include <time.h>

#include "vm/base/arena.h"
#include "vm/lua/host.h"

typedef struct tarn_doc_entry {
    const tarn_doc *doc;
    lua_CFunction call;  // NULL: documentation only
    const char *where;   // it was defined; NULL: in C
} tarn_doc_entry;

// A part of a module that is loaded when it is first needed.
typedef struct tarn_lazy {
    const char *module, *path;
    tarn_lazy_load load;  // NULL: loaded, or being loaded
    bool failed;          // once
} tarn_lazy;

enum { TARN_HOST_TYPES = 64, TARN_LAZY_PARTS = 32, TARN_TYPE_NAME = 32, TARN_SPARES = 32, TARN_SPARE = 128 };

typedef struct tarn_type_hooks {
    char type[TARN_TYPE_NAME];
    tarn_lua_printer show;
    tarn_lua_completer complete;
} tarn_type_hooks;

struct tarn_host {
    tarn_context *cx;
    lua_State *L;                   // the main thread of the state
    _Atomic(lua_State *) current;   // the coroutine that runs now; NULL while setting up
    tarn_trust trust;
    tarn_host *owner;               // of a guest: the host that waits for it
    _Atomic(tarn_host *) guests;    // hosts that run while this one waits, the newest first
    tarn_host *next_guest;

    timer_t timer;                  // ticks on the host's thread: the deadline, then every 20 ms
    bool timed;                     // the timer exists
    bool has_deadline;
    struct timespec deadline;       // CLOCK_MONOTONIC
    atomic_int holding;             // how many pieces of work a stop waits for
    atomic_int waiting;             // the tarn_stop_reason of the stop that waits

    bool fatal;                     // unwinding: no handler of the script may stop it
    tarn_error fatal_error;         // why
    char note[512];                 // said beside a stop; "": nothing
    bool exiting;                   // os.exit was called
    int exit_code;
    int close_depth;                // nested coroutine.close
    uintptr_t stack_floor;          // address: half of the thread's C stack lies below it

    int folder;                     // directory handle for `require`; -1: none
    char *folder_name;              // for messages; NULL: none
    size_t folder_room;

    tarn_arena arena;               // copies of documentation rows
    tarn_doc_entry *docs;
    int doc_count, doc_room;
    const char *const *refused;     // names
    int refused_count;
    const char *refused_because;
    tarn_lazy lazy[TARN_LAZY_PARTS];
    int lazy_count;
    tarn_type_hooks types[TARN_HOST_TYPES];
    int type_count;

    size_t reserve;                 // bytes of the budget that are taken for Lua but not used yet
    _Alignas(16) char spare[TARN_SPARES][TARN_SPARE];  // blocks for when nothing else is left
    uint32_t spare_used;            // bit i: block i is in use
    size_t since_gc;                // bytes of tensors taken since the last full collection
    size_t live_after;              // bytes of tensors alive after it
    bool tight;                     // the collector runs without pauses (over half of the budget)

    tarn_text traceback;
    uint64_t printed;               // bytes written by print
    int warnings;                   // made by scripts so far
    char warning[1024];             // pieces of a warning so far
    size_t warning_len;
};

// ---- stop.c ----
void tarn_stop_prepare(lua_State *L);  // may raise
tarn_status tarn_stop_open(tarn_host *h, double seconds, tarn_error *err);
void tarn_stop_close(tarn_host *h);
void tarn_stop_arm(tarn_host *h, lua_State *L);
// Raises the stop when one is wanted: for loops in C that a script can make long.
void tarn_poll(lua_State *L);
// Marks the run as ending for `why`, then unwinds. Does not return.
_Noreturn void tarn_fatal(lua_State *L, const tarn_error *why);
void tarn_set_fatal(tarn_host *h, const tarn_error *why);  // the first reason stays
// After a protected call failed: continues the unwinding if no handler may see the error.
void tarn_rethrow_fatal(lua_State *L, int status);

// ---- protect.c ----
extern const luaL_Reg tarn_protect_functions[];    // pcall xpcall; two upvalues, nil
extern const luaL_Reg tarn_coroutine_functions[];  // create resume wrap close

// ---- guard.c, pattern.c ----
extern const luaL_Reg tarn_string_functions[];   // rep format pack lower upper reverse
extern const luaL_Reg tarn_pattern_functions[];  // find match gmatch gsub
extern const luaL_Reg tarn_table_functions[];    // concat insert remove move sort
int tarn_too_long(lua_State *L, const char *function);  // raises
int tarn_format(lua_State *L);                   // string.format (format.c)
enum { TARN_STRING_MAX = 1 << 28 };              // bytes of one string that a library function makes

// ---- env.c ----
int tarn_env_open(lua_State *L);  // a C function: builds the globals
// The embedded library has globals of its own, kept before the first script runs: `table = {}` in a script
// must not break what the script calls. What is not among them is looked for in the globals of scripts.
void tarn_env_keep(lua_State *L);
void tarn_env_push_library(lua_State *L);
extern const luaL_Reg tarn_base_functions[];
// tostring without addresses: pushes a string.
const char *tarn_tolstring(lua_State *L, int idx, size_t *len);
// Pushes the text that tarn_lua_show makes.
const char *tarn_push_shown(lua_State *L, int idx, int width, size_t *len);
// The name shown for a value that has no text: "table", "tensor", "function: builtin".
void tarn_push_kind(lua_State *L, int idx);
// The string key of the table at `idx` nearest to `word`, or NULL; valid while the table is.
const char *tarn_nearest_key(lua_State *L, int idx, const char *word);

// ---- order.c ----
int tarn_pairs(lua_State *L);  // `pairs` in an order that is the same in every run

// ---- module.c ----
bool tarn_is_module(lua_State *L, int idx);  // a frozen module table
bool tarn_is_refused(const tarn_host *h, const char *name);

// ---- loader.c ----
bool tarn_is_embedded(const char *path);
int tarn_require(lua_State *L);
extern const luaL_Reg tarn_file_functions[];  // loadfile dofile
int tarn_load(lua_State *L);                  // the script's `load`
// Compiles text (never binary), polling; skips a first line that begins with '#'. Pushes the
// function or the message. `chunkname` as lua_load wants it.
int tarn_compile(lua_State *L, const char *text, size_t len, const char *chunkname);
// Reads a whole regular file or stream into a string on the stack; on failure pushes nothing.
tarn_status tarn_read_file(lua_State *L, const char *path, tarn_error *err);
// Pushes the value of a file of the embedded library, running it the first time; raises.
void tarn_push_embedded(lua_State *L, const char *path);
void tarn_loader_open(lua_State *L);

// ---- docs.c ----
int tarn_help(lua_State *L);
const tarn_doc *tarn_doc_of(const tarn_host *h, lua_CFunction call);

// ---- run.c ----
// Turns the value on top, the error of a failed protected call, into the record; pops it.
tarn_status tarn_take_error(tarn_host *h, int status, tarn_error *err);

// ---- error.c ----
void tarn_error_class(lua_State *L);
const tarn_error *tarn_error_of(lua_State *L, int idx);  // the record of an error object, or NULL
const char *tarn_error_where(lua_State *L, int idx);     // its place in the script, or ""

#endif
