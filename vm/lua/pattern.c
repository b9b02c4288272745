// SPDX-License-Identifier: Apache-2.0
// string.find, match, gmatch and gsub with a bounded number of steps. The patterns are those of the
// manual (§6.4.1), errors and the depth at which a pattern counts as too complex included: a
// backtracking matcher that reads the pattern as it goes, so that a fault in a part which is never
// reached is no error. Backtracking can take time exponential in the pattern; here each step is
// paid from an allowance, and a stop is seen whenever a slice of it is used up.
#include <ctype.h>
#include <string.h>

#include "vm/lua/state.h"

enum {
    CAPTURES = 32,         // of one pattern
    DEPTH = 200,           // nested decisions of one match
    SLICE = 1 << 14,       // steps between two looks at the stop flag: some 50 µs
    STEPS = 1 << 26,       // of one call: about a second, and
    STEPS_PER_BYTE = 64,   // as many for each byte of the subject
    OPEN = -1,             // the length of a capture whose end was not met yet
    POSITION = -2,         // the length of a capture `()`
};

typedef struct {
    const char *start;
    ptrdiff_t len;  // bytes, or OPEN or POSITION
} capture;

typedef struct {
    lua_State *L;
    const char *function;       // for the message about steps
    const char *text, *end;     // the subject; *end is readable (a NUL)
    const char *pattern_end;    // so is this
    int first;                  // the byte that every match begins with; -1: not known
    int class;                  // the class that every match begins with; -1: not known
    ptrdiff_t slice;            // steps left before the next look at the stop flag
    int64_t left;               // steps left beyond the slice
    int depth;                  // decisions that may still be nested
    int captures;
    capture capture[CAPTURES];
} matcher;

static const char *match(matcher *m, const char *s, const char *p);

static bool is_special(int c) { return c == 'b' || c == 'f' || isdigit(c); }

// What every match must begin with, when the pattern begins with a plain character or a class that
// is not optional: most places of a text are passed over without the matcher.
static void read_first(matcher *m, const char *p) {
    bool plain = *p != '\0' && !strchr("^$.()[%", *p);
    bool class = *p == '%' && p + 1 < m->pattern_end && !is_special((unsigned char)p[1]);
    m->first = plain ? (unsigned char)*p : -1;
    m->class = class ? (unsigned char)p[1] : -1;
    if (plain || class) {
        char after = p[class ? 2 : 1];
        if (after != '\0' && strchr("*?-", after)) {
            m->first = m->class = -1;
        }
    }
}

static void start(matcher *m, lua_State *L, const char *function, const char *text, size_t len,
                  const char *p, const char *pattern_end) {
    m->L = L;
    m->function = function;
    m->text = text;
    m->end = text + len;
    m->pattern_end = pattern_end;
    read_first(m, p);
    m->slice = SLICE;
    m->left = STEPS + (int64_t)len * STEPS_PER_BYTE;
    m->depth = DEPTH;
    m->captures = 0;
}

static void next_slice(matcher *m) {
    tarn_poll(m->L);
    m->left -= SLICE - m->slice;
    m->slice = SLICE;
    if (m->left < 0) {
        tarn_lua_error(m->L, "%s: the pattern backtracks too much on this string of %zu bytes "
                       "(fewer *, + and - in a row make it cheaper)", m->function,
                       (size_t)(m->end - m->text));
    }
}

static inline void pay(matcher *m, ptrdiff_t steps) {
    m->slice -= steps;
    if (m->slice < 0) {
        next_slice(m);
    }
}

// ---- single characters ----

static int byte_at(const char *s) { return (unsigned char)*s; }

// `letter` after a %: a class, its complement in upper case, or the character itself.
static bool in_class(int c, int letter) {
    int is;
    switch (letter | 0x20) {
    case 'a': is = isalpha(c); break;
    case 'c': is = iscntrl(c); break;
    case 'd': is = isdigit(c); break;
    case 'g': is = isgraph(c); break;
    case 'l': is = islower(c); break;
    case 'p': is = ispunct(c); break;
    case 's': is = isspace(c); break;
    case 'u': is = isupper(c); break;
    case 'w': is = isalnum(c); break;
    case 'x': is = isxdigit(c); break;
    case 'z': is = c == 0; break;  // deprecated, still there
    default: return letter == c;
    }
    return (is != 0) == ((letter & 0x20) != 0);
}

// The set from '[' at p to its ']' at `last`.
static bool in_set(int c, const char *p, const char *last) {
    bool found = true;
    p++;
    if (*p == '^') {
        found = false;
        p++;
    }
    while (p < last) {
        if (*p == '%') {
            if (in_class(c, byte_at(p + 1))) {
                return found;
            }
            p += 2;
        } else if (p[1] == '-' && p + 2 < last) {
            if (byte_at(p) <= c && c <= byte_at(p + 2)) {
                return found;
            }
            p += 3;
        } else if (byte_at(p++) == c) {
            return found;
        }
    }
    return !found;
}

// The end of the single-character item at p.
static const char *item_end(matcher *m, const char *p) {
    if (*p == '%') {
        if (p + 1 == m->pattern_end) {
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        }
        return p + 2;
    }
    if (*p != '[') {
        return p + 1;
    }
    const char *q = p + 1;
    q += *q == '^';
    do {  // a ']' in the first place is a member
        if (q == m->pattern_end) {
            luaL_error(m->L, "malformed pattern (missing ']')");
        }
        q += *q == '%' && q + 1 < m->pattern_end ? 2 : 1;
    } while (*q != ']');
    pay(m, (q - p) / 8);
    return q + 1;
}

static inline bool one(const matcher *m, const char *s, const char *p, const char *item) {
    if (s >= m->end) {
        return false;
    }
    switch (*p) {
    case '.': return true;
    case '%': return in_class(byte_at(s), byte_at(p + 1));
    case '[': return in_set(byte_at(s), p, item - 1);
    default: return *p == *s;
    }
}

// What one test of the item costs: a set is read from its start.
static ptrdiff_t price(const char *p, const char *item) { return 1 + (item - p) / 8; }

// ---- repetition ----

// The most first, then fewer. `s` is where the item may begin to repeat.
static const char *greedy(matcher *m, const char *s, const char *p, const char *item) {
    enum { PIECE = 1 << 12 };
    const char *most = *p == '.' ? m->end : s;
    for (ptrdiff_t n = PIECE; n == PIECE; pay(m, n * price(p, item))) {
        for (n = 0; n < PIECE && one(m, most, p, item); n++) {
            most++;
        }
    }
    for (; most >= s; most--) {
        const char *e = match(m, most, item + 1);
        if (e) {
            return e;
        }
    }
    return NULL;
}

static const char *lazy(matcher *m, const char *s, const char *p, const char *item) {
    ptrdiff_t cost = price(p, item);
    for (;; s++) {
        const char *e = match(m, s, item + 1);
        if (e) {
            return e;
        }
        pay(m, cost);
        if (!one(m, s, p, item)) {
            return NULL;
        }
    }
}

// ---- captures and the items that are longer than a character ----

static const char *open_capture(matcher *m, const char *s, const char *p) {  // p: after the '('
    ptrdiff_t len = OPEN;
    if (*p == ')') {
        len = POSITION;
        p++;
    }
    if (m->captures >= CAPTURES) {
        luaL_error(m->L, "too many captures");
    }
    m->capture[m->captures++] = (capture){s, len};
    const char *e = match(m, s, p);
    if (!e) {
        m->captures--;
    }
    return e;
}

static const char *close_capture(matcher *m, const char *s, const char *p) {
    int i = m->captures - 1;
    while (i >= 0 && m->capture[i].len != OPEN) {
        i--;
    }
    if (i < 0) {
        luaL_error(m->L, "invalid pattern capture");
    }
    m->capture[i].len = s - m->capture[i].start;
    const char *e = match(m, s, p);
    if (!e) {
        m->capture[i].len = OPEN;
    }
    return e;
}

// %1 … %9: the text of an earlier capture again.
static const char *again(matcher *m, const char *s, int digit) {
    int i = digit - '1';
    if (i < 0 || i >= m->captures || m->capture[i].len == OPEN) {
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    }
    const capture *c = &m->capture[i];
    if (c->len == POSITION || m->end - s < c->len) {
        return NULL;
    }
    pay(m, c->len / 64);
    return memcmp(c->start, s, (size_t)c->len) == 0 ? s + c->len : NULL;
}

// %bxy; p: at x.
static const char *balanced(matcher *m, const char *s, const char *p) {
    if (p + 1 >= m->pattern_end) {
        luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    }
    if (s >= m->end || *s != p[0]) {
        return NULL;
    }
    ptrdiff_t open = 1;
    for (s++; s < m->end; s++) {
        pay(m, 1);
        if (*s == p[1]) {
            if (--open == 0) {
                return s + 1;
            }
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

// %f[set]: between a character outside of the set and one inside; the ends count as NUL.
static bool at_frontier(const matcher *m, const char *s, const char *set, const char *set_end) {
    int before = s == m->text ? 0 : byte_at(s - 1);
    return !in_set(before, set, set_end - 1) && in_set(byte_at(s), set, set_end - 1);
}

// ---- the matcher ----

// An item of its own kind that begins with '%' (b, f, a digit): moves *p over it and returns where
// the text goes on, or NULL.
static const char *special(matcher *m, const char *s, const char **p) {
    const char *q = *p + 1;
    if (*q == 'b') {
        *p = q + 3;
        return balanced(m, s, q + 1);
    }
    if (*q == 'f') {
        if (q[1] != '[') {
            luaL_error(m->L, "missing '[' after '%%f' in pattern");
        }
        *p = item_end(m, q + 1);
        return at_frontier(m, s, q + 1, *p) ? s : NULL;
    }
    *p = q + 1;
    return again(m, s, *q);
}

// An item and what repeats it: *p moves on, or becomes NULL when the result is final. Returns where
// the text goes on, or NULL.
static inline const char *step(matcher *m, const char *s, const char **p) {
    const char *first = *p, *item = item_end(m, first), *e;
    bool is = one(m, s, first, item);
    *p = NULL;
    switch (*item) {
    case '?':
        if (is && (e = match(m, s + 1, item + 1)) != NULL) {
            return e;
        }
        *p = item + 1;
        return s;
    case '*':
    case '-':
        if (is) {
            return *item == '*' ? greedy(m, s, first, item) : lazy(m, s, first, item);
        }
        *p = item + 1;
        return s;
    case '+':
        return is ? greedy(m, s + 1, first, item) : NULL;
    default:
        *p = item;
        return is ? s + 1 : NULL;
    }
}

// The end of a match of the pattern from p at s, or NULL.
static const char *match(matcher *m, const char *s, const char *p) {
    if (m->depth-- == 0) {
        luaL_error(m->L, "pattern too complex");
    }
    while (s && p && p != m->pattern_end) {
        pay(m, 1);
        if (*p == '(') {
            s = open_capture(m, s, p + 1);
            break;
        }
        if (*p == ')') {
            s = close_capture(m, s, p + 1);
            break;
        }
        if (*p == '$' && p + 1 == m->pattern_end) {
            s = s == m->end ? s : NULL;
            break;
        }
        s = *p == '%' && is_special(byte_at(p + 1)) ? special(m, s, &p) : step(m, s, &p);
    }
    m->depth++;
    return s;
}

static const char *match_at(matcher *m, const char *s, const char *p) {
    m->captures = 0;
    m->depth = DEPTH;
    return match(m, s, p);
}

// The first place from `at` on where the pattern may match; NULL: nowhere.
static const char *candidate(matcher *m, const char *at) {
    enum { PIECE = 1 << 12 };
    if (m->first >= 0) {
        return at < m->end ? memchr(at, m->first, (size_t)(m->end - at)) : NULL;
    }
    if (m->class < 0) {
        return at <= m->end ? at : NULL;
    }
    for (ptrdiff_t n = 0; at < m->end && !in_class(byte_at(at), m->class); at++) {
        if (++n == PIECE) {
            pay(m, n);
            n = 0;
        }
    }
    return at < m->end ? at : NULL;
}

// ---- results ----

// Pushes capture i of the match s … e; the whole match when there are no captures.
static void push_capture(matcher *m, int i, const char *s, const char *e) {
    if (i >= m->captures) {
        if (i != 0) {
            luaL_error(m->L, "invalid capture index %%%d", i + 1);
        }
        lua_pushlstring(m->L, s, (size_t)(e - s));
        return;
    }
    const capture *c = &m->capture[i];
    if (c->len == OPEN) {
        luaL_error(m->L, "unfinished capture");
    } else if (c->len == POSITION) {
        lua_pushinteger(m->L, c->start - m->text + 1);
    } else {
        lua_pushlstring(m->L, c->start, (size_t)c->len);
    }
}

// All captures; s NULL: no whole match in their place.
static int push_captures(matcher *m, const char *s, const char *e) {
    int n = m->captures == 0 && s ? 1 : m->captures;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++) {
        push_capture(m, i, s, e);
    }
    return n;
}

// The place that the argument names, from 0; negative arguments count from the end.
static size_t first_place(lua_State *L, int arg, size_t len) {
    lua_Integer i = luaL_optinteger(L, arg, 1);
    if (i > 0) {
        return (size_t)i - 1;
    }
    return i == 0 || i < -(lua_Integer)len ? 0 : len - (size_t)-i;
}

static bool is_plain(const char *p, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (p[i] != '\0' && strchr("^$*+?.([%-", p[i])) {
            return false;
        }
    }
    return true;
}

// ---- find and match ----

// Candidates by their first byte while that goes well, else the search that is linear always.
static const char *find_text(const char *s, size_t len, const char *p, size_t n) {
    enum { TRIES = 64 };
    const char *end = s + len;
    for (int i = 0; i < TRIES && n > 0; i++) {
        s = (size_t)(end - s) < n ? NULL : memchr(s, *p, (size_t)(end - s) - n + 1);
        if (!s || memcmp(s, p, n) == 0) {
            return s;
        }
        s++;
    }
    return memmem(s, (size_t)(end - s), p, n);
}

static int push_plain(lua_State *L, const char *s, size_t len, size_t from, const char *p, size_t n) {
    const char *at = find_text(s + from, len - from, p, n);
    if (!at) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, at - s + 1);
    lua_pushinteger(L, at - s + (lua_Integer)n);
    return 2;
}

static int search(lua_State *L, bool find) {
    size_t len, n;
    const char *s = luaL_checklstring(L, 1, &len);
    const char *p = luaL_checklstring(L, 2, &n);
    size_t from = first_place(L, 3, len);
    if (from > len) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || is_plain(p, n))) {
        return push_plain(L, s, len, from, p, n);
    }
    matcher m;
    const char *pattern_end = p + n;
    bool anchored = *p == '^';
    p += anchored;
    start(&m, L, find ? "string.find" : "string.match", s, len, p, pattern_end);
    for (const char *at = s + from; anchored || (at = candidate(&m, at)); at++) {
        const char *e = match_at(&m, at, p);
        if (e && !find) {
            return push_captures(&m, at, e);
        }
        if (e) {
            lua_pushinteger(L, at - s + 1);
            lua_pushinteger(L, e - s);
            return 2 + push_captures(&m, NULL, NULL);
        }
        if (anchored) {
            break;
        }
    }
    luaL_pushfail(L);
    return 1;
}

static int l_find(lua_State *L) { return search(L, true); }
static int l_match(lua_State *L) { return search(L, false); }

// ---- gmatch ----

typedef struct {
    const char *at;         // where the next search begins
    const char *last;       // the end of the last match
} walk;

static int next_match(lua_State *L) {  // upvalues: subject, pattern, walk
    size_t len, n;
    const char *s = lua_tolstring(L, lua_upvalueindex(1), &len);
    const char *p = lua_tolstring(L, lua_upvalueindex(2), &n);
    walk *w = lua_touserdata(L, lua_upvalueindex(3));
    matcher m;
    start(&m, L, "string.gmatch", s, len, p, p + n);
    for (const char *at = w->at; (at = candidate(&m, at)); at++) {
        const char *e = match_at(&m, at, p);
        if (e && e != w->last) {
            w->at = w->last = e;
            return push_captures(&m, at, e);
        }
    }
    w->at = m.end + 1;
    return 0;
}

static int l_gmatch(lua_State *L) {
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    luaL_checkstring(L, 2);
    size_t from = first_place(L, 3, len);
    lua_settop(L, 2);
    walk *w = lua_newuserdatauv(L, sizeof *w, 0);
    w->at = s + (from > len ? len + 1 : from);
    w->last = NULL;
    lua_pushcclosure(L, next_match, 3);
    return 1;
}

// ---- gsub ----

typedef struct {
    luaL_Buffer b;
    size_t total;
} output;

static void add(matcher *m, output *o, const char *s, size_t n) {
    o->total += n;
    if (o->total > TARN_STRING_MAX) {
        tarn_too_long(m->L, m->function);
    }
    luaL_addlstring(&o->b, s, n);
}

// The replacement string with its %0 … %9 filled in.
static void add_template(matcher *m, output *o, const char *s, const char *e) {
    size_t n;
    const char *t = lua_tolstring(m->L, 3, &n);
    const char *end = t + n;
    for (const char *p; (p = memchr(t, '%', (size_t)(end - t))) != NULL; t = p + 2) {
        add(m, o, t, (size_t)(p - t));
        pay(m, 1);
        if (p[1] == '%') {
            add(m, o, "%", 1);
        } else if (p[1] == '0') {
            add(m, o, s, (size_t)(e - s));
        } else if (isdigit(byte_at(p + 1))) {
            size_t len;
            push_capture(m, p[1] - '1', s, e);
            lua_tolstring(m->L, -1, &len);
            o->total += len;
            luaL_addvalue(&o->b);
        } else {
            luaL_error(m->L, "invalid use of '%%' in replacement string");
        }
    }
    add(m, o, t, (size_t)(end - t));
}

// Adds what replaces the match s … e; false when the script left it as it was.
static bool add_replacement(matcher *m, output *o, const char *s, const char *e, int type) {
    lua_State *L = m->L;
    size_t len;
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, s, e), 1);
    } else if (type == LUA_TTABLE) {
        push_capture(m, 0, s, e);
        lua_gettable(L, 3);
    } else {
        add_template(m, o, s, e);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        add(m, o, s, (size_t)(e - s));
        return false;
    }
    if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
    lua_tolstring(L, -1, &len);
    o->total += len;
    if (o->total > TARN_STRING_MAX) {
        tarn_too_long(L, m->function);
    }
    luaL_addvalue(&o->b);
    return true;
}

static int l_gsub(lua_State *L) {
    size_t len, n;
    const char *s = luaL_checklstring(L, 1, &len);
    const char *p = luaL_checklstring(L, 2, &n);
    int type = lua_type(L, 3);
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)len + 1);
    luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                     type == LUA_TTABLE, 3, "string/function/table");
    matcher m;
    output o = {.total = 0};
    bool anchored = *p == '^', changed = false;
    const char *last = NULL;  // the end of the last match
    const char *kept = s;     // up to here the text is in the output
    const char *pattern_end = p + n;
    lua_Integer count = 0;
    p += anchored;
    start(&m, L, "string.gsub", s, len, p, pattern_end);
    luaL_buffinit(L, &o.b);
    for (const char *at = s; count < most && (anchored || (at = candidate(&m, at)));) {
        const char *e = match_at(&m, at, p);
        if (e && e != last) {
            count++;
            add(&m, &o, kept, (size_t)(at - kept));
            changed = add_replacement(&m, &o, at, e, type) || changed;
            at = last = kept = e;
        } else {
            at++;
        }
        if (anchored) {
            break;
        }
    }
    if (changed) {
        add(&m, &o, kept, (size_t)(m.end - kept));
        luaL_pushresult(&o.b);
    } else {
        lua_pushvalue(L, 1);
    }
    lua_pushinteger(L, count);
    return 2;
}

const luaL_Reg tarn_pattern_functions[] = {
    {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch}, {"gsub", l_gsub}, {NULL, NULL}};
