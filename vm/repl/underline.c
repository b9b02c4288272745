// SPDX-License-Identifier: Apache-2.0
// The offending piece of an entry. Messages name a line and a word; where that word
// stands in the line is found again here. A syntax error is at the first occurrence up to which the
// entry does not merely want more; for other errors all occurrences in the right place (behind a
// dot for a field) are marked.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "vm/repl/session.h"

enum { MARKS = 16, MARGIN = 2 };

typedef struct {
    const char *line;  // in the entry
    size_t len;
    char word[64];
    char before;       // '.', ':' : what has to stand before the word; 0: no such; ' ': anything
    bool syntax;
    size_t at[MARKS];
    int marks;
} offence;

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

// "input:12: …" -> the line's number and the rest; 0: another message.
static long line_of(const char **message) {
    static const char input[] = "input:";
    char *end;
    if (strncmp(*message, input, sizeof input - 1) != 0) {
        return 0;
    }
    long n = strtol(*message + sizeof input - 1, &end, 10);
    if (n < 1 || strncmp(end, ": ", 2) != 0) {
        return 0;
    }
    *message = end + 2;
    return n;
}

static bool find_line(const char *entry, long number, offence *o) {
    for (; number > 1; number--) {
        entry = strchr(entry, '\n');
        if (!entry) {
            return false;
        }
        entry++;
    }
    o->line = entry;
    o->len = strcspn(entry, "\n");
    return true;
}

static bool starts(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

static bool take_word(offence *o, const char *s, size_t n) {
    if (n == 0 || n >= sizeof o->word) {
        return false;
    }
    memcpy(o->word, s, n);
    o->word[n] = '\0';
    return true;
}

// Our own messages quote names only where they could be taken for words: "merge.tise: no such function",
// "base has no tensor fc1.wieght; did you mean …".
static bool find_absent(const char *message, offence *o) {
    static const char tensor[] = " has no tensor ", member[] = ": no such ";
    const char *at = strstr(message, tensor);
    if (at) {
        o->before = ' ';
        at += sizeof tensor - 1;
        return take_word(o, at, strcspn(at, " ;"));
    }
    at = strstr(message, member);
    const char *from = at;
    while (from && from > message && is_letter(from[-1])) {
        from--;
    }
    if (!from || from == message) {
        return false;
    }
    o->before = from[-1];
    return (o->before == '.' || o->before == ':') && take_word(o, from, (size_t)(at - from));
}

// The word that the message is about.
static bool find_word(const char *message, offence *o) {
    if (find_absent(message, o)) {
        return true;
    }
    const char *near = strstr(message, " near ");
    o->syntax = near != NULL;
    const char *quote = near ? near + 6 : strchr(message, '\'');
    if (!quote || *quote != '\'') {
        return false;
    }
    size_t n = strcspn(quote + 1, "'");
    if (quote[1 + n] != '\'' || !take_word(o, quote + 1, n)) {
        return false;
    }
    const char *kind = quote;
    while (kind > message && kind[-1] != '(') {
        kind--;
    }
    bool global =
        starts(kind, "global '") || starts(kind, "local '") || starts(message, "undefined");
    o->before = starts(kind, "field '")    ? '.'
                : starts(kind, "method '") ? ':'
                : global && !o->syntax     ? '\0'
                                           : ' ';
    return true;
}

// True if the entry up to there does more than end too early: the parser met the fault.
static bool fails_before(lua_State *L, const char *entry, const char *end) {
    if (luaL_loadbufferx(L, entry, (size_t)(end - entry), "=input", "t") == LUA_OK) {
        lua_pop(L, 1);
        return false;
    }
    size_t n;
    static const char eof[] = "<eof>";
    const char *s = lua_tolstring(L, -1, &n);
    bool wants_more = s && n >= sizeof eof - 1 && strcmp(s + n - (sizeof eof - 1), eof) == 0;
    lua_pop(L, 1);
    return !wants_more;
}

static bool stands_alone(const offence *o, size_t i, size_t n) {
    char before = i > 0 ? o->line[i - 1] : ' ', after = i + n < o->len ? o->line[i + n] : ' ';
    if (is_letter(o->word[0]) && is_letter(before)) {
        return false;
    }
    if (is_letter(o->word[n - 1]) && is_letter(after)) {
        return false;
    }
    bool behind = before == '.' || before == ':';
    return o->before == ' ' || (o->before ? before == o->before : !behind);
}

static void find_marks(lua_State *L, const char *entry, offence *o) {
    size_t n = strlen(o->word);
    for (size_t i = 0; i + n <= o->len && o->marks < MARKS; i++) {
        if (memcmp(o->line + i, o->word, n) != 0 || !stands_alone(o, i, n)) {
            continue;
        }
        if (!o->syntax) {
            o->at[o->marks++] = i;
        } else if (fails_before(L, entry, o->line + i + n)) {
            o->at[0] = i;
            o->marks = 1;
            return;
        }
    }
}

// ---- drawing ----

static int width_of(const char *s, size_t n) {
    mbstate_t state = {0};
    int columns = 0;
    for (size_t i = 0; i < n;) {
        wchar_t c = 0;
        size_t used = mbrtowc(&c, s + i, n - i, &state);
        if (used == 0 ||
            used > n - i) {  // not a character of the locale: one column for a lead byte
            columns += ((unsigned char)s[i] & 0xC0) != 0x80;
            memset(&state, 0, sizeof state);
            i++;
            continue;
        }
        int w = wcwidth(c);
        columns += c == L'\t' ? 1 : w > 0 ? w : 0;
        i += used;
    }
    return columns;
}

static void draw(const offence *o) {
    size_t from = 0, end = o->len, n = strlen(o->word);
    int room = tarn_repl_columns() - MARGIN - 2;
    // A long line is cut on both sides so that the first mark shows.
    while (from < o->at[0] && width_of(o->line + from, o->at[0] + n - from) > room) {
        from++;
        while (from < o->at[0] && ((unsigned char)o->line[from] & 0xC0) == 0x80) {
            from++;
        }
    }
    while (end > from + n && width_of(o->line + from, end - from) > room) {
        end--;
        while (end > from && ((unsigned char)o->line[end] & 0xC0) == 0x80) {
            end--;
        }
    }
    fprintf(stderr, "%*s", MARGIN, "");
    for (size_t i = from; i < end; i++) {
        fputc((unsigned char)o->line[i] < 0x20 ? ' ' : o->line[i], stderr);
    }
    fprintf(stderr, "\n%*s", MARGIN, "");
    int at = 0;
    for (int k = 0; k < o->marks && o->at[k] + n <= end; k++) {
        int to = width_of(o->line + from, o->at[k] - from);
        fprintf(stderr, "%*s^", to - at, "");
        at = to + 1;
        for (int wide = width_of(o->word, n); wide > 1; wide--, at++) {
            fputc('~', stderr);
        }
    }
    fputc('\n', stderr);
}

static bool ends_with(const char *s, size_t n, const char *end) {
    size_t len = strlen(end);
    return n >= len && memcmp(s + n - len, end, len) == 0;
}

// A function of an earlier entry fails with a place in that entry.
static bool is_this_entry(const char *entry, const char *traceback) {
    const char *frame = traceback ? strstr(traceback, "\tinput:") : NULL;
    return !frame || ends_with(frame + 1, strcspn(frame + 1, "\n"), "in main chunk") ||
           strstr(entry, "function");
}

void tarn_underline(tarn_host *h, const char *entry, const char *message, const char *traceback) {
    lua_State *L = tarn_host_state(h);
    offence o = {0};
    long number = line_of(&message);
    if (number > 0 && lua_checkstack(L, 4) && find_line(entry, number, &o) &&
        find_word(message, &o) && (o.syntax || is_this_entry(entry, traceback))) {
        find_marks(L, entry, &o);
        if (o.marks > 0) {
            draw(&o);
        }
    }
}
