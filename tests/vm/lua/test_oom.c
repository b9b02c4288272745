// SPDX-License-Identifier: Apache-2.0
// Each allocation of opening a host, adding a module and running a script that uses much of the
// library fails in turn, alone and with all later ones: always success or a clean error, and no byte
// of the budget left (what malloc itself lost is for the sanitizers and valgrind to tell).
#include "tests/oom.h"
#include "tests/vm/lua/host_support.h"

static const char script[] =
    "local t = {}\n"
    "for i = 1, 40 do t[i] = ('k%03d'):format(41 - i) end\n"
    "table.sort(t)\n"
    "local s = table.concat(t, ',')\n"
    "assert(#s == 199 and s:find('k007', 1, true) and s:match '^(k%d+),' == 'k001')\n"
    "local n = 0\n"
    "for w in s:gmatch '%w+' do n = n + 1 end\n"
    "assert(n == 40 and #s:gsub('k', '<%0>') == 279 and ('ab'):rep(500, '-'):upper())\n"
    "local co = coroutine.wrap(function(...)\n"
    "  local x <close> = setmetatable({}, { __close = function() n = n + 1 end })\n"
    "  for i = 1, select('#', ...) do coroutine.yield(i) end\n"
    "  error { code = 'end' }\n"
    "end)\n"
    "co(1, 2) co()\n"
    "local ok, e = pcall(co)\n"
    "local ok, e = xpcall(string.rep, function(m) return m .. '!' end, 'x', 1 << 40)\n"
    "assert(load 'return 1 + ...')(1)\n"
    "local env = setmetatable({}, { __index = function(_, k) return k .. 'x' end })\n"
    "assert(load('return a .. b', 'c', 't', env)() == 'axbx')\n"
    "pcall(function() return undefined_name end)\n"
    "pcall(things.fail)\n"
    "pcall(require, 'module_broken')\n"
    "pcall(require, 'nothing_like_this')\n"
    "assert(require 'module_quiet' == 42)\n"
    "local p = things.box()\n"
    "for k, v in pairs { b = 1, a = 2, [3] = p, [p] = 4 } do n = n + 1 end\n"
    "local q <close> = things.box()\n"
    "local function deep(n)\n"  // a finaliser runs where no call has been before
    "  if n == 0 then things.box() things.box() collectgarbage() return 0 end\n"
    "  return 1 + deep(n - 1)\n"
    "end\n"
    "deep(30)\n"
    "string.pack('i4z', 7, 'x') utf8.char(228, 8364) math.max(1, 2)\n"
    "things.show({ 1, 'two', { three = 3 } })\n"
    "return #arg\n";

static int boxes;  // alive

static void release(void *self) {
    int *live = self;
    boxes -= *live;
    *live = 0;
}

static int l_box(lua_State *L) {
    int *live = tarn_lua_new(L, "box", sizeof *live);
    *live = 1;
    boxes++;
    return 1;
}

static int l_fail(lua_State *L) {
    tarn_error err = {0};
    tarn_raise(&err, "Broken", "broken");
    return tarn_lua_raise(L, &err);
}

typedef struct {
    tarn_text text;
} page;

static void release_page(void *self) {
    page *p = self;
    if (p->text.budget) {
        tarn_text_free(&p->text);
    }
}

static int l_show(lua_State *L) {
    page *p = tarn_lua_new(L, "page", sizeof *p);
    tarn_text_init(&p->text, &tarn_host_context(L)->budget);
    tarn_lua_show(L, 1, 80, &p->text);
    return 0;
}

static const tarn_binding rows[] = {{{"things.box", "things.box()", "A box.", NULL}, l_box},
                                    {{"things.fail", "things.fail()", "Fails.", NULL}, l_fail},
                                    {{"things.show", "things.show(v)", "Shows.", NULL}, l_show},
                                    {{NULL, NULL, NULL, NULL}, NULL}};

static int setup(lua_State *L) {
    static const tarn_lua_class box = {"box", release, NULL}, text = {"page", release_page, NULL};
    tarn_lua_type(L, &box);
    tarn_lua_type(L, &text);
    tarn_host_module(tarn_host_of(L), "things", rows, -1);
    return 0;
}

static bool attempt(void *arg) {
    static const char *const args[] = {"one"};
    tarn_context *cx = arg;
    tarn_error err = {0};
    tarn_host *h = NULL;
    int results;
    tarn_doc made = {"things.made", "things.made()", "Made.", NULL};
    tarn_host_options o = {.trust = TARN_TRUST_SCRIPT,
                           .seconds = 100, .folder = TARN_SOURCE_DIR "/tests/sandbox"};
    tarn_status s = tarn_host_open(cx, &o, &h, &err);
    if (s == TARN_OK) {
        lua_State *L = tarn_host_state(h);
        lua_pushcfunction(L, setup);
        s = tarn_host_call(h, 0, 0, &err);
    }
    if (s == TARN_OK) {
        s = tarn_host_doc_copy(h, &made, &err);
    }
    if (s == TARN_OK) {
        s = tarn_host_run(h, "=test", script, sizeof script - 1, 1, args, &results, &err);
    }
    bool clean = s == TARN_OK || (err.status == s && *err.message);
    tarn_host_close(h);
    if (!clean || boxes != 0 || atomic_load(&cx->budget.used) != 0) {
        oom_disarm();
        print_error("status %d, message '%s', %d boxes, %zu bytes left\n", (int)s, err.message, boxes,
                    atomic_load(&cx->budget.used));
        return false;
    }
    return true;
}

static void test_sweep(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    tarn_options o = {.threads = 1, .memory = (size_t)64 << 20};
    OK(tarn_context_init(&cx, &o, &err));
    assert_true(attempt(&cx));
    long met = oom_sweep(attempt, &cx, 0);
#ifndef __SANITIZE_THREAD__
    assert_true(met > 500);
#endif
    print_message("%ld failed allocations met\n", met);
    tarn_context_free(&cx);
}

// The budget instead of malloc: every cap up to one that suffices.
static void test_caps(void **state) {
    tarn_error err = {0};
    for (size_t cap = 0; cap < 400 << 10; cap += 1111) {
        tarn_context cx;
        tarn_options o = {.threads = 1, .memory = 64 << 20};
        OK(tarn_context_init(&cx, &o, &err));
        cx.budget.limit = cap;
        assert_true(attempt(&cx));
        assert_true(atomic_load(&cx.budget.peak) <= cap);
        tarn_context_free(&cx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep), cmocka_unit_test(test_caps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
