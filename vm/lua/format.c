// SPDX-License-Identifier: Apache-2.0
// string.format, written anew for three reasons: %s shows no addresses, %p does not exist, and the
// length of the result is bounded while it grows.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "vm/lua/state.h"

enum { SPEC_ROOM = 32, NUMBER_ROOM = 512 };

typedef struct {
    luaL_Buffer b;
    size_t total;
    int arg;  // the argument in use
} output;

static void add(lua_State *L, output *o, const char *s, size_t n) {
    o->total += n;
    if (o->total > TARN_STRING_MAX) {
        tarn_too_long(L, "string.format");
    }
    luaL_addlstring(&o->b, s, n);
}

// Reads flags, width and precision at s into spec ("%-5.3"); returns the conversion letter's place.
static const char *read_spec(lua_State *L, const char *s, char *spec) {
    size_t n = strspn(s, "-+ #0");
    size_t i = n;
    for (int digits = 0; digits < 2 && s[i] >= '0' && s[i] <= '9'; digits++) {
        i++;
    }
    if (s[i] == '.') {
        i++;
        for (int digits = 0; digits < 2 && s[i] >= '0' && s[i] <= '9'; digits++) {
            i++;
        }
    }
    if (n > 5 || (s[i] >= '0' && s[i] <= '9') || s[i] == '.') {
        tarn_lua_error(L, "string.format: invalid conversion '%%%.12s' (width and precision have "
                       "at most two digits)", s);
    }
    spec[0] = '%';
    memcpy(spec + 1, s, i);
    spec[i + 1] = '\0';
    return s + i;
}

// Which flags a conversion takes, and whether a precision, as the standard function has it.
static void check_modifiers(lua_State *L, const char *spec, char letter) {
    const char *flags = strchr("cs", letter)     ? "-"
                        : letter == 'u'          ? "-0"
                        : strchr("di", letter)   ? "-+0 "
                        : strchr("oxX", letter)  ? "-#0"
                                                 : "-+#0 ";
    size_t n = strspn(spec + 1, "-+ #0");
    bool wrong = letter == 'q' ? spec[1] != '\0'
                               : strspn(spec + 1, flags) < n || (letter == 'c' && strchr(spec, '.'));
    if (wrong) {
        tarn_lua_error(L, "string.format: invalid conversion '%s%c'", spec, letter);
    }
}

static void add_number(lua_State *L, output *o, char *spec, char letter) {
    char buf[NUMBER_ROOM];
    size_t n = strlen(spec);
    int len;
    if (strchr("diuxXoc", letter)) {
        lua_Integer v = luaL_checkinteger(L, o->arg);
        snprintf(spec + n, SPEC_ROOM - n, letter == 'c' ? "%c" : "ll%c", letter);
        len = letter == 'c' ? snprintf(buf, sizeof buf, spec, (int)(unsigned char)v)
                            : snprintf(buf, sizeof buf, spec, (long long)v);
    } else {
        lua_Number v = luaL_checknumber(L, o->arg);
        snprintf(spec + n, SPEC_ROOM - n, "%c", letter);
        len = snprintf(buf, sizeof buf, spec, v);
    }
    add(L, o, buf, len > 0 ? (size_t)len : 0);
}

// The buffer's box must stay on top of the stack, so texts are replaced in their argument slots.
static void add_text(lua_State *L, output *o, char *spec) {
    size_t n, room = strlen(spec);
    if (lua_type(L, o->arg) != LUA_TSTRING) {
        tarn_tolstring(L, o->arg, NULL);
        lua_replace(L, o->arg);
    }
    const char *s = lua_tolstring(L, o->arg, &n);
    if (room == 1) {
        add(L, o, s, n);
        return;
    }
    char buf[NUMBER_ROOM];
    luaL_argcheck(L, strlen(s) == n, o->arg, "string contains zeros");
    if (!strchr(spec, '.') && n >= 100) {
        add(L, o, s, n);
        return;
    }
    snprintf(spec + room, SPEC_ROOM - room, "s");
    int len = snprintf(buf, sizeof buf, spec, s);
    add(L, o, buf, len > 0 ? (size_t)len : 0);
}

static void quote_string(lua_State *L, output *o) {
    size_t n;
    const char *s = lua_tolstring(L, o->arg, &n);
    add(L, o, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        char buf[8];
        int len = 1;
        buf[0] = s[i];
        if (c == '"' || c == '\\' || c == '\n') {
            buf[0] = '\\';
            buf[1] = s[i];
            len = 2;
        } else if (c < 32 || c == 127) {
            bool digit = i + 1 < n && s[i + 1] >= '0' && s[i + 1] <= '9';
            len = snprintf(buf, sizeof buf, digit ? "\\%03d" : "\\%d", c);
        }
        add(L, o, buf, (size_t)len);
        if ((i & 0xFFFF) == 0) {
            tarn_poll(L);
        }
    }
    add(L, o, "\"", 1);
}

// A text that Lua reads back as the same value.
static void add_quoted(lua_State *L, output *o) {
    char buf[64];
    int len = 0;
    int type = lua_type(L, o->arg);
    if (type == LUA_TSTRING) {
        quote_string(L, o);
        return;
    }
    if (type == LUA_TNUMBER && lua_isinteger(L, o->arg)) {
        lua_Integer v = lua_tointeger(L, o->arg);
        len = snprintf(buf, sizeof buf, v == LUA_MININTEGER ? "0x%llx" : "%lld", (long long)v);
    } else if (type == LUA_TNUMBER) {
        double v = lua_tonumber(L, o->arg);
        len = isnan(v)             ? snprintf(buf, sizeof buf, "(0/0)")
              : isinf(v)           ? snprintf(buf, sizeof buf, v > 0 ? "1e9999" : "-1e9999")
              : v == floor(v) && fabs(v) < 1e15 ? snprintf(buf, sizeof buf, "%.0f.0", v)
                                   : snprintf(buf, sizeof buf, "%a", v);
    } else if (type == LUA_TNIL || type == LUA_TBOOLEAN) {
        len = snprintf(buf, sizeof buf, "%s",
                       type == LUA_TNIL ? "nil" : lua_toboolean(L, o->arg) ? "true" : "false");
    } else {
        luaL_argerror(L, o->arg, "value has no literal form");
    }
    add(L, o, buf, (size_t)len);
}

int tarn_format(lua_State *L) {
    output o;
    char spec[SPEC_ROOM];
    size_t n;
    int top = lua_gettop(L);
    const char *s = luaL_checklstring(L, 1, &n);
    const char *end = s + n;
    o.total = 0;
    o.arg = 1;
    luaL_buffinit(L, &o.b);
    while (s < end) {
        const char *p = memchr(s, '%', (size_t)(end - s));
        add(L, &o, s, (size_t)((p ? p : end) - s));
        if (!p) {
            break;
        }
        if (p[1] == '%') {
            add(L, &o, "%", 1);
            s = p + 2;
            continue;
        }
        s = read_spec(L, p + 1, spec);
        if (!*s || !strchr("diuxXoceEfgGaAsq", *s)) {
            return tarn_lua_error(L, "string.format: invalid conversion '%.16s'", p);
        }
        if (++o.arg > top) {
            return luaL_argerror(L, o.arg, "no value");
        }
        check_modifiers(L, spec, *s);
        if (*s == 's') {
            add_text(L, &o, spec);
        } else if (*s == 'q') {
            add_quoted(L, &o);
        } else {
            add_number(L, &o, spec, *s);
        }
        s++;
    }
    luaL_pushresult(&o.b);
    return 1;
}
