// SPDX-License-Identifier: Apache-2.0
// The Lua host: a state with a budgeted allocator, limits that a script cannot swallow, an
// environment built by allow-list, a loader restricted to the script's folder and the embedded
// library, and the registry of documentation. It never sees a tensor: rooms above register their
// modules through tarn_host_module. One host per context; two hosts in one process are independent.
#ifndef TARN_LUA_HOST_H
#define TARN_LUA_HOST_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#include "vm/base/context.h"
#include "vm/base/text.h"

typedef struct tarn_host tarn_host;

typedef enum { TARN_TRUST_SCRIPT, TARN_TRUST_RECIPE } tarn_trust;

typedef struct tarn_host_options {
    tarn_trust trust;
    double seconds;         // wall-clock limit; 0: none
    const char *folder;     // where `require` looks besides the embedded library; NULL: nowhere
} tarn_host_options;

tarn_status tarn_host_open(tarn_context *cx, const tarn_host_options *o, tarn_host **out,
                           tarn_error *err);
// A second host, which runs while the script of `h` waits: stops and the deadline of h reach it. It is
// closed before h is.
tarn_status tarn_host_open_guest(tarn_host *h, const tarn_host_options *o, tarn_host **out,
                                 tarn_error *err);
// A wall-clock limit from now on, in the place of the one before; 0: none.
void tarn_host_limit(tarn_host *h, double seconds);
void tarn_host_close(tarn_host *h);
lua_State *tarn_host_state(tarn_host *h);
lua_State *tarn_host_running(tarn_host *h);  // the coroutine that runs now: for what a script calls
tarn_host *tarn_host_of(lua_State *L);      // from any coroutine of the host
tarn_trust tarn_host_trust(const tarn_host *h);
tarn_context *tarn_host_context(lua_State *L);

// Called from a signal handler (async-signal-safe): sets the stop flag and arms the hook on the
// running coroutine. The flag stays set until tarn_host_resume_work (the prompt) clears it.
void tarn_host_stop(tarn_host *h, tarn_stop_reason why);
void tarn_host_resume_work(tarn_host *h);

// Around work of the library that a stop must not cut short (a training step that has given its arguments
// away, the checkpoint after it): stops wait until it is released. A second one does not wait. Nests.
void tarn_host_hold(tarn_host *h);
bool tarn_host_held(const tarn_host *h);  // a stop waits
void tarn_host_release(tarn_host *h);
// What the error of a stop says besides, such as where the work is kept; NULL: nothing.
void tarn_host_note(tarn_host *h, const char *text);

// ---- documentation: one row per public binding, beside its function ----

typedef struct tarn_doc {
    const char *name;       // "tensor.zeros", "tensor:sum", "merge.ties", "by.depth"
    const char *signature;  // "tensor.zeros(shape, {dtype = \"f32\"}) -> tensor"
    const char *text;       // summary line, then details: shapes, units, defaults, errors, source
    const char *example;    // runnable; lines "-- > text" state what print writes; NULL: none
} tarn_doc;

typedef struct tarn_binding {
    tarn_doc doc;
    lua_CFunction call;  // NULL: documentation only
} tarn_binding;

// Registers documentation rows (n of them, or up to a row with a NULL name when n < 0). The rows
// must outlive the host.
void tarn_host_docs(tarn_host *h, const tarn_binding *rows, int n);
// Copies of strings that are made at run time (operation and method rows); kept until close.
tarn_status tarn_host_doc_copy(tarn_host *h, const tarn_doc *doc, tarn_error *err);
// The same of a name that is defined now, in `where`; a taken name is an error that says where it was.
tarn_status tarn_host_define(tarn_host *h, const tarn_doc *doc, const char *where, tarn_error *err);
// These two load what is lazy first (a part that fails to load has no documentation).
int tarn_host_doc_count(tarn_host *h);
const tarn_doc *tarn_host_doc_find(tarn_host *h, const char *name);  // "ties" finds merge.ties
const tarn_doc *tarn_host_doc_at(const tarn_host *h, int i);

// These raise Lua errors when memory is out: call them from a C function that runs under
// tarn_host_call.
// help(f) for the function at idx, a closure or one of Lua: shows the row called `name`.
void tarn_lua_document(lua_State *L, int idx, const char *name);

// Makes a table of functions the global `name` (frozen: assigning into it is an error that says
// so). Every row whose doc.name is "name.x" becomes field x. Leaves nothing on the stack.
void tarn_host_module(tarn_host *h, const char *name, const tarn_binding *rows, int n);
// Pushes the module table itself (to add fields while setting up).
void tarn_host_push_module(tarn_host *h, const char *name);
// The module is a global from now on, and its embedded file is loaded, by `load`, when something is
// asked for that is not there yet: a field, its documentation. A file that is not in the program: nothing.
typedef tarn_status (*tarn_lazy_load)(tarn_host *h, const char *path, tarn_error *err);
void tarn_host_lazy(tarn_host *h, const char *module, const char *path, tarn_lazy_load load);
// Loads what is lazy of a module now; NULL: of all.
tarn_status tarn_host_load_lazy(tarn_host *h, const char *module, tarn_error *err);
// Names that this host does without: "model.open", "model:save", or a whole module, "train", whose global is
// then not there. They are told before anything is registered: whatever is registered under such a name, also
// later by a lazy part, becomes a function that says so. `because`: "it reads what `inputs` names". Both
// outlive the host.
void tarn_host_refuse(tarn_host *h, const char *const *names, int n, const char *because);
// In the place of the function on top of the stack its refusal, if `name` is refused.
void tarn_lua_admit(lua_State *L, const char *name);
// Runs an embedded Lua file of stdlib/ that returns a table or function; pushes what it returns.
tarn_status tarn_host_load_embedded(tarn_host *h, const char *path, tarn_error *err);

// ---- running ----

// Runs a chunk with `args` in the global `arg` and as varargs. On success the chunk's results stay on
// the stack (*results of them). Stringifies any error inside the limits.
tarn_status tarn_host_run(tarn_host *h, const char *chunkname, const char *text, size_t len,
                          int nargs, const char *const *args, int *results, tarn_error *err);
tarn_status tarn_host_run_file(tarn_host *h, const char *path, int nargs, const char *const *args,
                               int *results, tarn_error *err);
// As tarn_host_run, but incomplete input is told apart (for continuation lines): *incomplete.
// An expression ("1 + 1") is tried first, so its values come back as results.
tarn_status tarn_host_run_line(tarn_host *h, const char *text, size_t len, int *results,
                               bool *incomplete, tarn_error *err);
// Calls the function below nargs arguments, protected. As lua_pcall; errors go to err.
tarn_status tarn_host_call(tarn_host *h, int nargs, int nresults, tarn_error *err);
// The traceback of the last error (empty when none); for --traceback.
const char *tarn_host_traceback(tarn_host *h);
// True after the script called os.exit (the run then ended with TARN_CANCELLED, code "Exit").
bool tarn_host_exiting(const tarn_host *h, int *code);

// ---- for bindings ----

// Raises a Lua error from an error record: an object with fields code, message and a __tostring.
int tarn_lua_raise(lua_State *L, const tarn_error *err);
#define TARN_LUA_TRY(L, expr, errp)          \
    do {                                     \
        if ((expr) != TARN_OK) {             \
            return tarn_lua_raise(L, errp);  \
        }                                    \
    } while (0)
// Raises with position and printf text: "merge.ties: unknown option 'densty' (did you mean …)".
__attribute__((format(printf, 2, 3))) int tarn_lua_error(lua_State *L, const char *fmt, ...);

// Option tables: checks that every string key of the table at `idx` (nil allowed) is one of the
// NULL-terminated names; integer keys are allowed when `positional`. The error suggests the nearest.
void tarn_lua_check_options(lua_State *L, int idx, const char *function, const char *const *names,
                            bool positional);
// Raw reads of a field with type check; the default when absent. Errors name function and field.
double tarn_lua_opt_number(lua_State *L, int idx, const char *function, const char *field, double d);
lua_Integer tarn_lua_opt_integer(lua_State *L, int idx, const char *function, const char *field,
                                 lua_Integer d);
bool tarn_lua_opt_boolean(lua_State *L, int idx, const char *function, const char *field, bool d);
const char *tarn_lua_opt_string(lua_State *L, int idx, const char *function, const char *field,
                                const char *d);

// Userdata that is closed first: pushes a zeroed block of `size` bytes with metatable `type`
// registered by tarn_lua_type. __gc and __close call `release` (idempotent).
typedef struct tarn_lua_class {
    const char *type;             // "tensor", "model": also __name
    void (*release)(void *self);  // idempotent; tolerates a zeroed block
    const luaL_Reg *metamethods;  // __add, __index …; NULL-terminated; may be NULL
} tarn_lua_class;
void tarn_lua_type(lua_State *L, const tarn_lua_class *c);
void *tarn_lua_new(lua_State *L, const char *type, size_t size);
void *tarn_lua_test(lua_State *L, int idx, const char *type);   // NULL if it is something else
void *tarn_lua_check(lua_State *L, int idx, const char *type);  // raises
// A string for the system, which ends at a zero byte: one that holds such a byte is refused.
const char *tarn_lua_check_path(lua_State *L, int idx);

// Called by the binding before a large allocation of tensor memory: runs the collector when the
// bytes taken since the last collection call for it.
void tarn_lua_account(lua_State *L, size_t bytes);

// A value as the prompt shows it: rooms register printers by userdata type.
typedef void (*tarn_lua_printer)(lua_State *L, int idx, tarn_text *out);
void tarn_host_printer(tarn_host *h, const char *type, tarn_lua_printer show);
// Strings quoted, tables to depth 3, in lines of at most `width` columns where that can be done.
void tarn_lua_show(lua_State *L, int idx, int width, tarn_text *out);
extern const char *const tarn_lua_keywords[];  // the reserved words; ends with NULL
// Completers: names that may follow `value.` / `value:` / `value["`; called with the value on top.
typedef void (*tarn_lua_completer)(lua_State *L, int idx, char how,
                                   void (*add)(void *arg, const char *word), void *arg);
void tarn_host_completer(tarn_host *h, const char *type, tarn_lua_completer complete);
tarn_lua_completer tarn_lua_completer_of(lua_State *L, int idx);

#endif
