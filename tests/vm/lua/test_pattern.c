// SPDX-License-Identifier: Apache-2.0
// find, match, gmatch and gsub against the stock string library: the same calls on random patterns
// and subjects, well-formed or not, must give the same values and the same error messages.
#include <lualib.h>

#include "tests/vm/lua/host_support.h"

static const char caller[] =
    "local name, s, p, a, b, c = ...\n"
    "local unpack = table.unpack\n"
    "return pcall(function()\n"
    "  if name ~= 'gmatch' then return string[name](s, p, a, b, c) end\n"
    "  local out = {}\n"
    "  for x, y, z in string.gmatch(s, p, a) do\n"
    "    out[#out + 1] = tostring(x) .. '|' .. tostring(y) .. '|' .. tostring(z)\n"
    "    if #out > 40 then break end\n"
    "  end\n"
    "  return #out, unpack(out)\n"
    "end)\n";

typedef struct {
    lua_State *stock;
    world w;
    uint64_t random;
} pair;

static void load(lua_State *L) {
    assert_int_equal(luaL_loadbufferx(L, caller, sizeof caller - 1, "=caller", "t"), LUA_OK);
}

static int open_pair(void **state) {
    pair *p = calloc(1, sizeof *p);
    p->stock = luaL_newstate();
    luaL_openlibs(p->stock);
    open_world(&p->w, TARN_TRUST_SCRIPT, (size_t)1 << 30, 0, NULL);
    load(p->stock);
    load(tarn_host_state(p->w.h));
    p->random = 7;
    *state = p;
    return 0;
}

static int close_pair(void **state) {
    pair *p = *state;
    lua_close(p->stock);
    close_world(&p->w);
    free(p);
    return 0;
}

typedef struct {
    const char *s;  // NULL: an integer
    size_t len;
    lua_Integer i;
    int special;  // 1: nil; 2: a table; 3: a function; 4: a function that returns nil; 5: a boolean
} value;

static int swap_case(lua_State *L) {
    size_t n;
    const char *s = luaL_tolstring(L, 1, &n);
    lua_pushfstring(L, "<%s>", s);
    return 1;
}

static int no_value(lua_State *L) {
    lua_pushnil(L);
    return 1;
}

static void push(lua_State *L, const value *v) {
    switch (v->special) {
    case 1: lua_pushnil(L); return;
    case 2:
        lua_newtable(L);
        lua_pushliteral(L, "[A]");
        lua_setfield(L, -2, "a");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "b");
        lua_pushinteger(L, 12);
        lua_setfield(L, -2, "ab");
        return;
    case 3: lua_pushcfunction(L, swap_case); return;
    case 4: lua_pushcfunction(L, no_value); return;
    case 5: lua_pushboolean(L, 1); return;
    default: break;
    }
    if (v->s) {
        lua_pushlstring(L, v->s, v->len);
    } else {
        lua_pushinteger(L, v->i);
    }
}

static void call(lua_State *L, const char *name, const value *v, int n) {
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    lua_pushstring(L, name);
    for (int i = 0; i < n; i++) {
        push(L, &v[i]);
    }
    assert_int_equal(lua_pcall(L, n + 1, LUA_MULTRET, 0), LUA_OK);
}

static void check(pair *p, const char *name, const value *v, int n) {
    lua_State *A = p->stock, *B = tarn_host_state(p->w.h);
    call(A, name, v, n);
    call(B, name, v, n);
    bool same = lua_gettop(A) == lua_gettop(B);
    for (int i = 2; same && i <= lua_gettop(A); i++) {
        size_t na = 0, nb = 0;
        same = lua_type(A, i) == lua_type(B, i) && lua_isinteger(A, i) == lua_isinteger(B, i);
        const char *a = luaL_tolstring(A, i, &na), *b = luaL_tolstring(B, i, &nb);
        same = same && na == nb && memcmp(a, b, na) == 0;
        if (!same) {
            print_error("stock: %s\n ours: %s\n", a, b);
        }
        lua_pop(A, 1);
        lua_pop(B, 1);
    }
    if (!same) {
        fail_msg("string.%s(\"%.*s\", \"%.*s\"): results %d and %d", name, (int)v[0].len,
                 v[0].s ? v[0].s : "?", (int)v[1].len, v[1].s ? v[1].s : "?", lua_gettop(A) - 1,
                 lua_gettop(B) - 1);
    }
}

// Pieces that make most patterns meaningful, and some that make them malformed.
static size_t random_pattern(pair *p, char *buf, int pieces) {
    static const char *const piece[] = {
        "a", "b", "ab", ".", "%a", "%d", "%s", "%w", "%A", "%S", "%x", "%p", "%.", "%%", "%b()",
        "%bab", "%f[ab]", "%f[%w]", "%f[^a]", "%1", "%2", "[ab]", "[^ab]", "[a-c]", "[%a_]", "[]]",
        "[^]]", "[a-]", "[%]a]", "[-a]", "(", ")", "()", "(a)", "(.-)", "(a*)", "^", "$", "*", "+",
        "-", "?", ".-", ".*", "a?", "b+", "[", "%", "]", "%f", "%b", "%bx", "%0", "[^", "[a-%a]",
        "%g", "%u", "%l", "%c", "%z", "%Z", "x", " ", "1", "\n", "%9", "-", "[%d-z]"};
    size_t n = 0;
    for (int i = 0; i < pieces; i++) {
        const char *s = piece[random_below(&p->random, (int)(sizeof piece / sizeof *piece))];
        if (random_below(&p->random, 60) == 0) {
            buf[n++] = '\0';
        }
        memcpy(buf + n, s, strlen(s));
        n += strlen(s);
    }
    buf[n] = '\0';
    return n;
}

static size_t random_subject(pair *p, char *buf, int most) {
    static const char letters[] = "aaabbbcab()  x1_]-%\n\0Az.";
    size_t n = (size_t)random_below(&p->random, most + 1);
    for (size_t i = 0; i < n; i++) {
        buf[i] = letters[random_below(&p->random, (int)sizeof letters)];
    }
    buf[n] = '\0';
    return n;
}

static void random_call(pair *p) {
    static const char *const names[] = {"find", "match", "gmatch", "gsub", "gsub"};
    static const char *const templates[] = {"", "x", "%1", "%0", "<%0%1>", "%%", "%", "%2", "%a",
                                            "%1%1", "\0y", "%9", "ab%"};
    enum { WITH_NUL = 10 };
    char pattern[256], subject[64];
    value v[4] = {{0}};
    const char *name = names[random_below(&p->random, 5)];
    int n = 2;
    v[0] = (value){.s = subject, .len = random_subject(p, subject, 24)};
    v[1] = (value){.s = pattern, .len = random_pattern(p, pattern, 1 + random_below(&p->random, 6))};
    if (strcmp(name, "gsub") == 0) {
        n = 3 + random_below(&p->random, 2);
        int k = random_below(&p->random, 13);
        v[2] = (value){.s = templates[k], .len = k == WITH_NUL ? 2 : strlen(templates[k])};
        if (random_below(&p->random, 3) == 0) {
            v[2] = (value){.special = random_below(&p->random, 6)};
        }
        v[3] = (value){.i = random_below(&p->random, 6) - 1};
    } else {
        n = 2 + random_below(&p->random, 3);
        v[2] = (value){.i = random_below(&p->random, 40) - 15};
        v[3] = (value){.special = random_below(&p->random, 2) ? 1 : 5};
    }
    check(p, name, v, n);
}

static void test_random(void **state) {
    for (int i = 0; i < 150000; i++) {
        random_call(*state);
    }
}

// Named cases: depth, captures without end, numbers as strings, wrong arguments.
static void test_edges(void **state) {
    pair *p = *state;
    static char many[4096];
    value s = {.s = "aaaaaaaaab", .len = 10}, v[4];
    v[0] = s;
    v[2] = (value){.s = "%1", .len = 2};
    for (int kind = 0; kind < 4; kind++) {
        static const char *const unit[] = {"a?", "()", "a-", "(a"};
        for (int times = 25; times <= 260; times += times > 190 && times < 205 ? 1 : 5) {
            size_t n = 0;
            for (int i = 0; i < times; i++) {
                memcpy(many + n, unit[kind], 2);
                n += 2;
            }
            v[1] = (value){.s = many, .len = n};
            check(p, "find", v, 2);
            check(p, "gsub", v, 3);
            check(p, "gmatch", v, 2);
        }
    }
    value odd[] = {{.i = 12321}, {.special = 1}, {.special = 2}, {.special = 5}, s};
    static const char *const names[] = {"find", "match", "gmatch", "gsub"};
    for (int i = 0; i < 5 * 5 * 5; i++) {
        v[0] = odd[i % 5];
        v[1] = odd[i / 5 % 5];
        v[2] = odd[i / 25];
        for (int f = 0; f < 4; f++) {
            for (int n = 0; n <= 3; n++) {
                check(p, names[f], v, n);
            }
        }
    }
    v[0] = v[1] = (value){.i = 2};
    v[2] = (value){.i = 7};
    check(p, "gsub", v, 3);
    v[2] = (value){.i = INT64_MIN};
    check(p, "find", v, 3);
    v[2] = (value){.i = INT64_MAX};
    check(p, "match", v, 3);
    check(p, "gmatch", v, 3);
}

// Exponential patterns end by the allowance of steps, or at once by a stop, in all four functions.
static void test_bombs(void **state) {
    pair *p = *state;
    tarn_host *h = p->w.h;
    static const char *const calls[] = {
        "string.find(s, p)", "string.match(s, p)", "for _ in string.gmatch(s, p) do end",
        "string.gsub(s, p, '')"};
    tarn_error err;
    for (int i = 0; i < 4; i++) {
        char code[256];
        snprintf(code, sizeof code,
                 "local s, p = ('a'):rep(30), ('a?'):rep(30) .. ('a'):rep(30) .. 'b'\n%s", calls[i]);
        double t = now();
        assert_int_equal(run(h, code, &err), TARN_ERROR);
        assert_non_null(strstr(err.message, "backtracks too much"));
        assert_true(now() - t < 20);
    }
    assert_int_equal(run(h, "local ok, e = pcall(string.find, ('a'):rep(500), '.-.-.-.-.-b')\n"
                            "assert(not ok and e:find('backtracks'))\n"
                            "assert(('a'):rep(1e6):find(('a'):rep(5e5) .. 'b', 1, true) == nil)\n"
                            "assert(#('x'):rep(1e6):gsub('x', 'yy') == 2e6)", &err), TARN_OK);
}

static void test_results_bounded(void **state) {
    pair *p = *state;
    tarn_error err;
    assert_int_equal(run(p->w.h, "(('x'):rep(2^16)):gsub('x', ('y'):rep(2^16))", &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "longer than 256 MiB"));
    assert_int_equal(run(p->w.h, "(('x'):rep(2^16)):gsub('.*', ('%0'):rep(2^16))", &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "longer than 256 MiB"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random), cmocka_unit_test(test_edges), cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_results_bounded)};
    return cmocka_run_group_tests(tests, open_pair, close_pair);
}
