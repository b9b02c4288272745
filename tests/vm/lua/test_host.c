// SPDX-License-Identifier: Apache-2.0
// The host from C: opening and closing, two at once in two threads, stopping and going on, modules,
// classes, errors, options, documentation, `require` and the file system, memory behind userdata.
#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/vm/lua/host_support.h"

enum { MIB = 1 << 20 };

// It asks for memory, because ThreadSanitizer holds signals back until a function that it knows runs.
#define LOOP "while true do pcall(function() while true do local t = {} end end) end"

static int open_files(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) {
        n++;
    }
    closedir(d);
    return n;
}

static void run_ok(tarn_host *h, const char *text) {
    tarn_error err;
    if (run(h, text, &err) != TARN_OK) {
        fail_msg("%s\n%s", text, err.message);
    }
}

static void run_fails(tarn_host *h, const char *text, const char *says) {
    tarn_error err;
    if (run(h, text, &err) == TARN_OK || !strstr(err.message, says)) {
        fail_msg("%s\nshould say '%s', says '%s'", text, says, err.message);
    }
}

// ---- a life ----

static void test_open_close(void **state) {
    int before = open_files();
    world w;
    for (int i = 0; i < 1000; i++) {
        open_world(&w, i % 2 ? TARN_TRUST_SCRIPT : TARN_TRUST_RECIPE, 16 * MIB, i % 3, "tests");
        if (i % 10 == 0) {
            run_ok(w.h, "local t = {} for i = 1, 100 do t[i] = {} end");
        }
        close_world(&w);
    }
    assert_int_equal(open_files(), before);
}

static void test_results_and_lines(void **state) {
    world w;
    tarn_error err = {0};
    open_world(&w, TARN_TRUST_SCRIPT, 64 * MIB, 0, NULL);
    lua_State *L = tarn_host_state(w.h);
    int n;
    bool more;
    OK(tarn_host_run_line(w.h, "1 + 1, 'x'", 10, &n, &more, &err));
    assert_int_equal(n, 2);
    assert_false(more);
    assert_int_equal(lua_tointeger(L, -2), 2);
    lua_settop(L, 0);
    static const char *const open_ended[] = {"for i = 1, 2 do", "x = {", "x = [[a", "f("};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(tarn_host_run_line(w.h, open_ended[i], strlen(open_ended[i]), &n, &more,
                                            &err), TARN_ERROR);
        assert_true(more);
    }
    assert_int_equal(tarn_host_run_line(w.h, "x = = 1", 7, &n, &more, &err), TARN_ERROR);
    assert_false(more);
    OK(tarn_host_run_line(w.h, "y = 3", 5, &n, &more, &err));
    OK(tarn_host_run_line(w.h, "y", 1, &n, &more, &err));
    assert_int_equal(n, 1);
    lua_settop(L, 0);
    run_fails(w.h, "local function f() error 'deep' end f()", "test:1: deep");
    assert_non_null(strstr(tarn_host_traceback(w.h), "in upvalue 'f'") ?
                    "" : strstr(tarn_host_traceback(w.h), "local 'f'"));
    run_ok(w.h, "#!/usr/bin/env tarn\nreturn 1");
    close_world(&w);
}

static void test_stop_and_go_on(void **state) {
    world w;
    open_world(&w, TARN_TRUST_SCRIPT, 64 * MIB, 0, NULL);
    run_ok(w.h, "co = coroutine.create(function() while true do coroutine.yield(1) end end)");
    for (int i = 0; i < 3; i++) {
        tarn_host_stop(w.h, TARN_STOP_INT);
        run_fails(w.h, "x = 1", "interrupted");  // nothing starts while it stands
        tarn_host_resume_work(w.h);
        run_ok(w.h, "x = 2; assert(select(2, coroutine.resume(co)) == 1)");
        run_ok(w.h, "local n = 0 for i = 1, 1e5 do n = n + i end");
    }
    close_world(&w);
}

static void test_deadline_then_prompt(void **state) {
    world w;
    tarn_error err;
    open_world(&w, TARN_TRUST_SCRIPT, 64 * MIB, 0.05, NULL);
    assert_int_equal(run(w.h, LOOP, &err), TARN_CANCELLED);
    assert_string_equal(err.code, "TimeLimit");
    tarn_host_resume_work(w.h);
    run_ok(w.h, "for i = 1, 1e5 do local x = {} end");
    close_world(&w);
}

// ---- two hosts ----

typedef struct {
    int seed;
    bool stopped;     // this one runs into its time limit
    const char *bad;  // what went wrong; NULL: nothing
} runtime;

static void *live(void *arg) {
    runtime *r = arg;
    tarn_context cx;
    tarn_error err = {0};
    tarn_host *h;
    tarn_options o = {.threads = 1, .memory = 64 * MIB};
    char code[256];
    snprintf(code, sizeof code,
             "local t = {} for i = 1, 2000 do t[i %% 100] = ('x'):rep(i %% 50) .. i end\n"
             "own = (rawget(_G, 'own') or 0) + %d\nassert(own %% %d == 0)\n"
             "for w in ('a b c'):gmatch '%%a' do coroutine.wrap(pcall)(error, w) end\n",
             r->seed, r->seed);
    for (int i = 0; i < 10 && !r->bad; i++) {
        tarn_host_options ho = {.trust = TARN_TRUST_SCRIPT, .seconds = r->stopped ? 0.02 : 0};
        if (tarn_context_init(&cx, &o, &err) != TARN_OK ||
            tarn_host_open(&cx, &ho, &h, &err) != TARN_OK) {
            r->bad = "cannot open";
            break;
        }
        if (r->stopped) {
            run(h, LOOP, &err);
            r->bad = strcmp(err.code, "TimeLimit") != 0 ? "not stopped" : NULL;
        } else {
            for (int k = 0; k < 5 && !r->bad; k++) {
                r->bad = run(h, code, &err) != TARN_OK ? "failed" : NULL;
            }
        }
        tarn_host_close(h);
        r->bad = atomic_load(&cx.budget.used) != 0 ? "leaves memory behind" : r->bad;
        tarn_context_free(&cx);
    }
    return NULL;
}

static void test_two_hosts(void **state) {
    runtime r[3] = {{.seed = 3}, {.seed = 7}, {.seed = 1, .stopped = true}};
    pthread_t t[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&t[i], NULL, live, &r[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(t[i], NULL);
        if (r[i].bad) {
            fail_msg("host %d: %s", i, r[i].bad);
        }
    }
}

// ---- modules, classes, errors ----

typedef struct {
    tarn_budget *budget;
    void *data;
    size_t bytes;
} blob;

static int released;

static void release(void *self) {
    blob *b = self;
    if (b->data) {
        tarn_free(b->budget, b->data, b->bytes);
        atomic_fetch_sub(&b->budget->external, b->bytes);
        b->data = NULL;
        released++;
    }
}

static int l_blob(lua_State *L) {
    tarn_context *cx = tarn_host_context(L);
    size_t bytes = (size_t)luaL_checkinteger(L, 1);
    blob *b = tarn_lua_new(L, "blob", sizeof *b);
    tarn_lua_account(L, bytes);
    b->budget = &cx->budget;
    b->bytes = bytes;
    b->data = tarn_alloc(&cx->budget, bytes);
    if (!b->data) {
        tarn_error err;
        tarn_raise_nomem(&err, "a blob", bytes);
        return tarn_lua_raise(L, &err);
    }
    atomic_fetch_add(&cx->budget.external, bytes);
    return 1;
}

static int l_size(lua_State *L) {
    blob *b = tarn_lua_check(L, 1, "blob");
    lua_pushinteger(L, b->data ? (lua_Integer)b->bytes : 0);
    return 1;
}

static int l_fail(lua_State *L) {
    tarn_error err = {0};
    tarn_raise(&err, "Broken", "the thing is broken: got %d", 3);
    return tarn_lua_raise(L, &err);
}

static int l_options(lua_State *L) {
    static const char *const names[] = {"density", "weight", "name", "exact", "count", NULL};
    tarn_lua_check_options(L, 1, "things.options", names, true);
    lua_pushnumber(L, tarn_lua_opt_number(L, 1, "things.options", "density", 0.5));
    lua_pushinteger(L, tarn_lua_opt_integer(L, 1, "things.options", "count", 4));
    lua_pushboolean(L, tarn_lua_opt_boolean(L, 1, "things.options", "exact", true));
    lua_pushstring(L, tarn_lua_opt_string(L, 1, "things.options", "name", "none"));
    return 4;
}

static const tarn_binding rows[] = {
    {{"things.blob", "things.blob(bytes) -> blob", "Memory of a size.\nIn bytes.",
      "print(things.size(things.blob(3)))\n-- > 3"}, l_blob},
    {{"things.size", "things.size(blob) -> integer", "The size of a blob.", NULL}, l_size},
    {{"things.fail", "things.fail()", "Fails.", NULL}, l_fail},
    {{"things.options", "things.options{…}", "Reads options about memory.", NULL}, l_options},
    {{NULL, NULL, NULL, NULL}, NULL}};

static int setup_things(lua_State *L) {
    static const luaL_Reg meta[] = {{"__len", l_size}, {NULL, NULL}};
    static const tarn_lua_class class = {"blob", release, meta};
    tarn_lua_type(L, &class);
    tarn_host_module(tarn_host_of(L), "things", rows, -1);
    return 0;
}

static void open_things(world *w, tarn_trust trust, size_t memory) {
    tarn_error err = {0};
    open_world(w, trust, memory, 0, NULL);
    lua_pushcfunction(tarn_host_state(w->h), setup_things);
    OK(tarn_host_call(w->h, 0, 0, &err));
}

static void test_modules(void **state) {
    world w;
    open_things(&w, TARN_TRUST_RECIPE, 64 * MIB);
    run_fails(w.h, "things.bolb(1)", "things.bolb: no such function; did you mean things.blob?");
    run_fails(w.h, "things.blob = 1", "things.blob cannot be assigned: the module things is read-only");
    run_fails(w.h, "things.new = 1", "read-only");
    run_fails(w.h, "rawset(things, 'blob', 1)", "read-only");
    run_fails(w.h, "setmetatable(things, {})", "protected");
    run_fails(w.h, "thinsg.blob(1)", "undefined global 'thinsg'; did you mean 'things'?");
    run_ok(w.h, "assert(getmetatable(things) == false and tostring(things) == 'module: things')\n"
                "local n = 0 for k, v in pairs(things) do n = n + 1 assert(things[k] == v) end\n"
                "assert(n == 4 and rawget(things, 'blob') == nil)\n"
                "assert(tostring(things.blob) == 'function: things.blob')\n"
                "for k in next, things do error 'nothing to see' end");
    close_world(&w);
}

static void test_classes(void **state) {
    world w;
    open_things(&w, TARN_TRUST_SCRIPT, 64 * MIB);
    released = 0;
    run_ok(w.h, "do local b <close> = things.blob(10) assert(#b == 10) end\n"
                "local b = things.blob(5)\n"
                "assert(getmetatable(b) == false and not pcall(setmetatable, b, {}))\n"
                "assert(tostring(b) == 'blob')\n"
                "for _, other in ipairs { 1, 'x', {}, print, io.stdout, true } do\n"
                "  local ok, e = pcall(things.size, other)\n"
                "  assert(not ok and e:find 'blob expected', e)\n"
                "end\n"
                "local fake = setmetatable({}, { __name = 'blob' })\n"
                "assert(not pcall(things.size, fake))");
    assert_int_equal(released, 1);
    run_ok(w.h, "collectgarbage()");
    assert_int_equal(released, 2);
    close_world(&w);
    assert_int_equal(released, 2);
}

static void test_errors(void **state) {
    world w;
    open_things(&w, TARN_TRUST_SCRIPT, 64 * MIB);
    run_ok(w.h, "local ok, e = pcall(things.fail)\n"
                "assert(not ok and e.code == 'Broken' and e.message == 'the thing is broken: got 3')\n"
                "assert(tostring(e) == 'test:1: the thing is broken: got 3', tostring(e))\n"
                "assert('at ' .. e == 'at ' .. tostring(e) and e.other == nil)\n"
                "assert(getmetatable(e) == false)\n"
                "local ok, again = pcall(error, e)\nassert(rawequal(e, again))");
    tarn_error err;
    assert_int_equal(run(w.h, "\n\nthings.fail()", &err), TARN_ERROR);
    assert_string_equal(err.code, "Broken");
    assert_string_equal(err.message, "test:3: the thing is broken: got 3");
    close_world(&w);
}

static void test_options(void **state) {
    world w;
    open_things(&w, TARN_TRUST_SCRIPT, 64 * MIB);
    run_ok(w.h, "local d, c, e, n = things.options { density = 0.25, 'a', 'b', name = 'x' }\n"
                "assert(d == 0.25 and c == 4 and e == true and n == 'x')\n"
                "assert(things.options(nil) == 0.5 and things.options {} == 0.5)\n"
                "local t = setmetatable({}, { __index = error, __pairs = error })\n"
                "assert(things.options(t) == 0.5)");
    run_fails(w.h, "things.options { densty = 1 }", "unknown option 'densty'; did you mean 'density'?");
    run_fails(w.h, "things.options { zzzzzz = 1 }", "(options: density, weight, name, exact, count)");
    run_fails(w.h, "things.options { density = '1' }", "option 'density' must be a number, got string");
    run_fails(w.h, "things.options { count = 1.5 }", "option 'count' must be a whole number, got 1.5");
    run_fails(w.h, "things.options { exact = 1 }", "option 'exact' must be true or false, got 1");
    run_fails(w.h, "things.options { [true] = 1 }", "given by name");
    run_fails(w.h, "things.options(3)", "expected a table of options");
    close_world(&w);
}

// ---- memory behind userdata ----

static void test_temporaries(void **state) {
    world w;
    open_things(&w, TARN_TRUST_SCRIPT, 256 * MIB);
    run_ok(w.h, "for i = 1, 2000 do local b = things.blob(8 << 20) end");
    assert_true(atomic_load(&w.cx.budget.peak) <= 100u * MIB);  // far from the budget
    run_ok(w.h, "local ring = {}\n"
                "for i = 1, 1000 do ring[i % 8] = things.blob(16 << 20) end");
    run_ok(w.h, "local ring = {} for i = 1, 300 do ring[i % 3] = things.blob(48 << 20) end");
    run_ok(w.h, "local keep = {} for i = 1, 2e4 do keep[i] = { i } end\n"  // with Lua objects alive
                "for i = 1, 20000 do local b = things.blob(16 << 10) keep[i] = { keep[i] } end");
    run_fails(w.h, "local t = {} for i = 1, 100 do t[i] = things.blob(64 << 20) end",
              "out of memory: a blob needs 67108864 bytes");
    run_fails(w.h, "things.blob(1 << 62)", "out of memory");
    run_ok(w.h, "local s = things.blob(200 << 20)");
    close_world(&w);
}

static void test_memory_error_in_recipe(void **state) {
    world w;
    tarn_error err;
    open_things(&w, TARN_TRUST_RECIPE, 64 * MIB);
    assert_int_equal(run(w.h, "while true do pcall(things.blob, 1 << 40) end", &err), TARN_NOMEM);
    close_world(&w);
}

// ---- documentation ----

static char *help(tarn_host *h, const char *code) {  // what it prints
    static char text[1 << 14];
    FILE *f = tmpfile();
    fflush(stdout);
    int saved = dup(1);
    dup2(fileno(f), 1);
    run_ok(h, code);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void test_docs(void **state) {
    world w;
    tarn_error err = {0};
    open_things(&w, TARN_TRUST_SCRIPT, 64 * MIB);
    char name[] = "things.made", text[] = "Made at run time.";
    tarn_doc made = {name, "things.made()", text, NULL};
    OK(tarn_host_doc_copy(w.h, &made, &err));
    memset(name, 'x', 3);  // the host has its own copy
    assert_non_null(tarn_host_doc_find(w.h, "things.made"));
    assert_ptr_equal(tarn_host_doc_find(w.h, "blob"), &rows[0].doc);
    assert_null(tarn_host_doc_find(w.h, "nothing"));
    assert_null(tarn_host_doc_at(w.h, tarn_host_doc_count(w.h)));
    static const char full[] = "things.blob(bytes) -> blob\n\nMemory of a size.\nIn bytes.\n\n"
                               "example:\n    print(things.size(things.blob(3)))\n    -- > 3\n";
    assert_string_equal(help(w.h, "help 'things.blob'"), full);
    assert_string_equal(help(w.h, "help(things.blob)"), full);
    assert_string_equal(help(w.h, "help 'blob'"), full);
    char *list = help(w.h, "help(things)");
    assert_non_null(strstr(list, "things.blob"));
    assert_non_null(strstr(list, "things.made"));
    list = help(w.h, "help 'memory'");  // a word of two texts
    assert_non_null(strstr(list, "things.blob"));
    assert_non_null(strstr(list, "things.options"));
    assert_string_equal(help(w.h, "help 'things.bolb'"),
                        "no help on 'things.bolb'; did you mean things.blob?\n");
    char many[] = "thing.of.things", asked[] = "Is a stack of them high? (Hill et al. 2020) It is.";
    tarn_doc end = {many, "thing.of.things()", asked, NULL};  // "things" is the module before this
    OK(tarn_host_doc_copy(w.h, &end, &err));
    list = help(w.h, "help 'things'");
    assert_non_null(strstr(list, "things.blob"));
    assert_null(strstr(list, "thing.of"));
    assert_string_equal(help(w.h, "help 'thing'"),
                        "  thing.of.things          Is a stack of them high?\n");
    char who[] = "thing.who";
    char said[] = "A stack (Hill et al. 2020, arXiv:0000.00000; Vale et al. 2021, arXiv:1111.11111) "
                  "of things. More.";
    tarn_doc cited = {who, "thing.who()", said, NULL};
    OK(tarn_host_doc_copy(w.h, &cited, &err));
    list = help(w.h, "help 'thing'");
    assert_non_null(strstr(list, "  thing.who                A stack (Hill et al. 2020, "));
    assert_non_null(strstr(list, " Vale et al. 2021,\n                           arXiv:1111.11111) of "
                                 "things\n"));
    help(w.h, "help() help(nil) help({}) help(print) help(3) help(setmetatable({}, {__name = 'x'}))");
    close_world(&w);
}

static void test_print(void **state) {
    world w;
    open_things(&w, TARN_TRUST_SCRIPT, 64 * MIB);
    assert_string_equal(help(w.h, "print({}, { b = { 1, 'x' }, a = 2 }, 3)"),
                        "{}\t{ a = 2, b = { 1, \"x\" } }\t3\n");
    run_ok(w.h, "own = setmetatable({ 1 }, { __tostring = function() return 'own' end })");
    assert_string_equal(help(w.h, "print(own)"), "own\n");
    assert_string_equal(help(w.h, "print(setmetatable({ 1 }, {}))"), "table\n");
    assert_string_equal(help(w.h, "local t = {} t[1] = t print(t)"), "{ { { {…} } } }\n");
    run_ok(w.h, "assert(tostring({}) == 'table')");
    close_world(&w);
}

// ---- require and the file system ----

static void write_file(const char *folder, const char *name, const char *text) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_require_files(void **state) {
    char top[] = "/tmp/tarn-require-XXXXXX", in[512], path[1100], link[1100];
    assert_non_null(mkdtemp(top));
    snprintf(in, sizeof in, "%s/in", top);
    snprintf(path, sizeof path, "%s/in/sub", top);
    assert_int_equal(mkdir(in, 0700) | mkdir(path, 0700), 0);
    write_file(top, "outside.lua", "return 'outside'");
    write_file(in, "plain.lua", "local name, path = ... return name .. ' ' .. (path:match '[^/]*$')");
    write_file(in, "sub/init.lua", "return 'sub'");
    write_file(in, "sub/part.lua", "return require 'plain'");
    write_file(in, "binary.lua", "\033Lua");
    write_file(in, "merge.lua", "return 'their own'");
    snprintf(path, sizeof path, "%s/in/link.lua", top);
    assert_int_equal(symlink("../outside.lua", path), 0);
    snprintf(path, sizeof path, "%s/in/up", top);
    assert_int_equal(symlink("..", path), 0);
    snprintf(path, sizeof path, "%s/in/pipe.lua", top);
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(path, sizeof path, "%s/in/folder.lua", top);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/in/zero.lua", top);
    assert_int_equal(symlink("/dev/zero", path), 0);
    for (int trust = TARN_TRUST_SCRIPT; trust <= TARN_TRUST_RECIPE; trust++) {
        world w;
        open_world(&w, (tarn_trust)trust, 64 * MIB, 10, in);
        run_ok(w.h, "assert(require 'plain' == 'plain plain.lua' and require 'sub' == 'sub')\n"
                    "assert(require 'sub.part' == 'plain plain.lua' and require 'merge' == 'their own')");
        run_fails(w.h, "require 'pipe'", "is not a regular file");
        run_fails(w.h, "require 'folder'", "is not a regular file");
        run_fails(w.h, "require 'binary'", "attempt to load a binary chunk");
        run_fails(w.h, "require 'outside'", "module 'outside' not found");
        run_fails(w.h, "require '../outside'", "is not a module's name");
        run_fails(w.h, "require 'plian'", "did you mean 'plain'?");
        if (trust == TARN_TRUST_RECIPE) {
            run_fails(w.h, "require 'link'", "a link, which a recipe may not follow");
            run_fails(w.h, "require 'up.outside'", "not found");
            run_fails(w.h, "require 'zero'", "a link, which a recipe may not follow");
        } else {
            run_ok(w.h, "assert(require 'link' == 'outside' and require 'up.outside' == 'outside')");
            run_fails(w.h, "require 'zero'", "is not a regular file");
        }
        close_world(&w);
    }
    snprintf(link, sizeof link, "rm -r %s", top);
    assert_int_equal(system(link), 0);
}

static void test_missing_folder(void **state) {
    world w;
    tarn_error err;
    open_world(&w, TARN_TRUST_SCRIPT, 16 * MIB, 0, "/nowhere/at/all");
    run_fails(w.h, "require 'x'", "the folder /nowhere/at/all cannot be opened");
    assert_int_equal(tarn_host_run_file(w.h, "/nowhere/x.lua", 0, NULL, NULL, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "cannot open /nowhere/x.lua"));
    assert_int_equal(tarn_host_run_file(w.h, "/tmp", 0, NULL, NULL, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "is a folder, not a script"));
    close_world(&w);
}

// ---- no hook without a stop ----

static void test_no_hook(void **state) {
    world w;
    open_world(&w, TARN_TRUST_SCRIPT, 16 * MIB, 100, NULL);
    run_ok(w.h, "for i = 1, 10 do pcall(coroutine.wrap(function() end)) end");
    assert_null(lua_gethook(tarn_host_state(w.h)));
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_close), cmocka_unit_test(test_results_and_lines),
        cmocka_unit_test(test_stop_and_go_on), cmocka_unit_test(test_deadline_then_prompt),
        cmocka_unit_test(test_two_hosts), cmocka_unit_test(test_modules),
        cmocka_unit_test(test_classes), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_options), cmocka_unit_test(test_temporaries),
        cmocka_unit_test(test_memory_error_in_recipe), cmocka_unit_test(test_docs),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_require_files), cmocka_unit_test(test_missing_folder),
        cmocka_unit_test(test_no_hook)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
