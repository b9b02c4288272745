// SPDX-License-Identifier: Apache-2.0
// Library functions that a script can make long, written so that a stop reaches them: the standard
// ones run whole in C, where no hook fires. Each loop polls; the length of a result is checked
// before it is built. They do what the manual says, with metamethods; only their bounds differ.
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "vm/lua/state.h"

enum { POLL_EVERY = 1 << 12, PIECE = 1 << 20 };

static inline void poll_at(lua_State *L, lua_Unsigned i) {
    if ((i & (POLL_EVERY - 1)) == 0) {
        tarn_poll(L);
    }
}

int tarn_too_long(lua_State *L, const char *function) {
    return tarn_lua_error(L, "%s: the result would be longer than %d MiB", function,
                          TARN_STRING_MAX >> 20);
}

// ---- strings ----

// Fills `len` bytes with the pattern that starts at p and is `period` long, by doubling.
static void repeat(lua_State *L, char *p, size_t period, size_t len) {
    for (size_t done = period; done < len;) {
        size_t n = done < len - done ? done : len - done;
        n = n < PIECE ? n : PIECE - PIECE % period;
        n = n > 0 ? n : period < len - done ? period : len - done;
        memcpy(p + done, p + (done % period), n);
        done += n;
        tarn_poll(L);
    }
}

static int l_rep(lua_State *L) {
    size_t n, m;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer times = luaL_checkinteger(L, 2);
    const char *sep = luaL_optlstring(L, 3, "", &m);
    if (times <= 0 || n + m == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (n + m > TARN_STRING_MAX || (lua_Unsigned)times > TARN_STRING_MAX / (n + m) + 1 ||
        (size_t)times * (n + m) - m > TARN_STRING_MAX) {
        return tarn_too_long(L, "string.rep");
    }
    size_t total = (size_t)times * (n + m) - m;
    luaL_Buffer b;
    char *p = luaL_buffinitsize(L, &b, total);
    memcpy(p, s, n);
    if (times > 1) {
        memcpy(p + n, sep, m);
        repeat(L, p, n + m, total);
    }
    luaL_pushresultsize(&b, total);
    return 1;
}

// The sum of the counts after 'c' in a format of string.pack, at most a little over the limit.
static size_t packed_counts(const char *s) {
    size_t total = 0;
    while (*s && total <= TARN_STRING_MAX) {
        size_t count = 0;
        if (*s++ == 'c') {
            for (; *s >= '0' && *s <= '9' && count <= TARN_STRING_MAX; s++) {
                count = count * 10 + (size_t)(*s - '0');
            }
        }
        total += count;
    }
    return total;
}

// The standard function pads one byte at a time, so the counts are checked first.
static int l_pack(lua_State *L) {
    if (packed_counts(luaL_checkstring(L, 1)) > TARN_STRING_MAX) {
        return tarn_too_long(L, "string.pack");
    }
    lua_getfield(L, lua_upvalueindex(1), "pack");
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

// A string as long as the first argument, made piece by piece.
static int remake(lua_State *L, void (*fill)(char *to, const char *s, size_t at, size_t n, size_t len)) {
    size_t len;
    luaL_Buffer b;
    const char *s = luaL_checklstring(L, 1, &len);
    char *p = luaL_buffinitsize(L, &b, len);
    for (size_t at = 0; at < len; at += PIECE) {
        tarn_poll(L);
        fill(p + at, s, at, len - at < PIECE ? len - at : PIECE, len);
    }
    luaL_pushresultsize(&b, len);
    return 1;
}

static void fill_lower(char *to, const char *s, size_t at, size_t n, size_t len) {
    (void)len;
    for (size_t i = 0; i < n; i++) {
        to[i] = (char)tolower((unsigned char)s[at + i]);
    }
}

static void fill_upper(char *to, const char *s, size_t at, size_t n, size_t len) {
    (void)len;
    for (size_t i = 0; i < n; i++) {
        to[i] = (char)toupper((unsigned char)s[at + i]);
    }
}

static void fill_reverse(char *to, const char *s, size_t at, size_t n, size_t len) {
    for (size_t i = 0; i < n; i++) {
        to[i] = s[len - 1 - at - i];
    }
}

static int l_lower(lua_State *L) { return remake(L, fill_lower); }
static int l_upper(lua_State *L) { return remake(L, fill_upper); }
static int l_reverse(lua_State *L) { return remake(L, fill_reverse); }

const luaL_Reg tarn_string_functions[] = {
    {"rep", l_rep},     {"pack", l_pack},   {"format", tarn_format}, {"lower", l_lower},
    {"upper", l_upper}, {"reverse", l_reverse}, {NULL, NULL}};

// ---- tables ----

// A table, or a value with the metamethods that the operation needs (so says the manual).
static void check_table(lua_State *L, int idx, const char *metamethod) {
    if (!lua_istable(L, idx)) {
        if (luaL_getmetafield(L, idx, metamethod) == LUA_TNIL) {
            luaL_checktype(L, idx, LUA_TTABLE);
        }
        lua_pop(L, 1);
    }
}

static lua_Integer length(lua_State *L, int idx) {
    check_table(L, idx, "__index");
    return luaL_len(L, idx);
}

static void add_item(lua_State *L, luaL_Buffer *b, lua_Integer i, size_t *total) {
    size_t n;
    lua_geti(L, 1, i);
    if (!lua_tolstring(L, -1, &n)) {
        lua_pushfstring(L, "%I", (LUAI_UACINT)i);
        tarn_push_kind(L, -2);
        tarn_lua_error(L, "table.concat: element %s is a %s, not a string or a number",
                       lua_tostring(L, -2), lua_tostring(L, -1));
    }
    *total += n;
    if (*total > TARN_STRING_MAX) {
        tarn_too_long(L, "table.concat");
    }
    luaL_addvalue(b);
}

static int l_concat(lua_State *L) {
    luaL_Buffer b;
    size_t m, total = 0;
    lua_Integer len = length(L, 1);
    const char *sep = luaL_optlstring(L, 2, "", &m);
    lua_Integer i = luaL_optinteger(L, 3, 1);
    lua_Integer last = luaL_optinteger(L, 4, len);
    luaL_buffinit(L, &b);
    for (; i <= last; i++) {
        poll_at(L, (lua_Unsigned)i);
        add_item(L, &b, i, &total);
        if (i == last) {
            break;  // last may be the largest integer
        }
        luaL_addlstring(&b, sep, m);
        total += m;
    }
    luaL_pushresult(&b);
    return 1;
}

static int l_insert(lua_State *L) {
    int n = lua_gettop(L);
    lua_Integer end = (lua_Integer)((lua_Unsigned)length(L, 1) + 1);
    lua_Integer pos = end;
    if (n == 3) {
        pos = luaL_checkinteger(L, 2);
        luaL_argcheck(L, (lua_Unsigned)pos - 1u < (lua_Unsigned)end, 2, "position out of bounds");
        for (lua_Integer i = end; i > pos; i--) {
            poll_at(L, (lua_Unsigned)i);
            lua_geti(L, 1, i - 1);
            lua_seti(L, 1, i);
        }
    } else if (n != 2) {
        return tarn_lua_error(L, "table.insert: expected 2 or 3 arguments, got %d", n);
    }
    lua_settop(L, n);
    lua_seti(L, 1, pos);
    return 0;
}

static int l_remove(lua_State *L) {
    lua_Integer size = length(L, 1);
    lua_Integer pos = luaL_optinteger(L, 2, size);
    luaL_argcheck(L, pos == size || (lua_Unsigned)pos - 1u <= (lua_Unsigned)size, 2,
                  "position out of bounds");
    lua_geti(L, 1, pos);
    for (; pos < size; pos++) {
        poll_at(L, (lua_Unsigned)pos);
        lua_geti(L, 1, pos + 1);
        lua_seti(L, 1, pos);
    }
    lua_pushnil(L);
    lua_seti(L, 1, pos);
    return 1;
}

static int l_move(lua_State *L) {
    lua_Integer first = luaL_checkinteger(L, 2);
    lua_Integer last = luaL_checkinteger(L, 3);
    lua_Integer to = luaL_checkinteger(L, 4);
    int dst = lua_isnoneornil(L, 5) ? 1 : 5;
    check_table(L, 1, "__index");
    check_table(L, dst, "__newindex");
    if (last >= first) {
        luaL_argcheck(L, first > 0 || last < LUA_MAXINTEGER + first, 3,
                      "too many elements to move");
        luaL_argcheck(L, to <= LUA_MAXINTEGER - (last - first), 4, "destination wrap around");
        bool backwards = to > first && to <= last && dst == 1;
        if (dst == 5) {
            backwards = to > first && to <= last && lua_compare(L, 1, 5, LUA_OPEQ);
        }
        lua_Integer n = last - first + 1;
        for (lua_Integer k = 0; k < n; k++) {
            lua_Integer i = backwards ? n - 1 - k : k;
            poll_at(L, (lua_Unsigned)k);
            lua_geti(L, 1, first + i);
            lua_seti(L, dst, to + i);
        }
    }
    lua_pushvalue(L, dst);
    return 1;
}

static int less(lua_State *L) {
    tarn_poll(L);
    lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
    return 1;
}

// Numbers and short strings compare fast: an array of them that is not long is sorted by the
// standard function alone.
static bool quick_to_sort(lua_State *L, lua_Integer n) {
    if (n > 100000 || lua_getmetatable(L, 1)) {
        return false;
    }
    for (lua_Integer i = 1; i <= n; i++) {
        int type = lua_rawgeti(L, 1, i);
        bool quick = type == LUA_TNUMBER || (type == LUA_TSTRING && lua_rawlen(L, -1) < 100);
        lua_pop(L, 1);
        if (!quick) {
            return false;
        }
    }
    return true;
}

static int l_sort(lua_State *L) {
    lua_Integer n = length(L, 1);
    bool own = lua_isnoneornil(L, 2);
    if (!own) {
        luaL_checktype(L, 2, LUA_TFUNCTION);
    }
    luaL_argcheck(L, n < INT_MAX, 1, "array too big");
    bool quick = own && quick_to_sort(L, n);
    lua_settop(L, 2);
    lua_getfield(L, lua_upvalueindex(1), "sort");
    lua_pushvalue(L, 1);
    if (own && !quick) {
        lua_pushcfunction(L, less);
    } else {
        lua_pushvalue(L, 2);
    }
    lua_call(L, 2, 0);
    return 0;
}

const luaL_Reg tarn_table_functions[] = {{"concat", l_concat}, {"insert", l_insert},
                                         {"remove", l_remove}, {"move", l_move},
                                         {"sort", l_sort},     {NULL, NULL}};
