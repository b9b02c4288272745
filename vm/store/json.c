// SPDX-License-Identifier: Apache-2.0
// The strict JSON cursor. Every function leaves the cursor behind what it read, or notes the first
// fault and returns false.
#include "vm/store/json.h"

#include <string.h>

bool tarn_json_fail(tarn_json *j, size_t at, const char *fault) {
    if (!j->fault) {
        j->fault = fault;
        j->fault_at = at;
    }
    return false;
}

char tarn_json_peek(tarn_json *j) {
    while (j->at < j->len) {
        char c = j->text[j->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            return c;
        }
        j->at++;
    }
    return '\0';
}

static bool expect(tarn_json *j, char c, const char *fault) {
    if (j->fault || tarn_json_peek(j) != c || j->at == j->len) {
        return tarn_json_fail(j, j->at, j->at == j->len ? "the text ends too early" : fault);
    }
    j->at++;
    return true;
}

bool tarn_json_open(tarn_json *j, char bracket) {
    return expect(j, bracket, bracket == '{' ? "expected an object" : "expected an array");
}

bool tarn_json_next(tarn_json *j, char close, bool *first) {
    if (j->fault) {
        return false;
    }
    bool opening = *first;
    *first = false;
    if (tarn_json_peek(j) == close) {
        j->at++;
        return false;
    }
    if (opening) {
        return true;
    }
    return expect(j, ',', close == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
}

bool tarn_json_key(tarn_json *j, tarn_json_string *out) {
    if (!j->fault && tarn_json_peek(j) != '"' && j->at < j->len) {
        return tarn_json_fail(j, j->at, "expected a name in quotes");
    }
    return tarn_json_text(j, out) && expect(j, ':', "expected ':'");
}

// ---- strings ----

// Four hexadecimal digits at byte `at`; -1 when they are not there.
static int32_t hex4(const tarn_json *j, size_t at) {
    if (j->len - at < 4) {
        return -1;
    }
    int32_t v = 0;
    for (size_t i = at; i < at + 4; i++) {
        char c = j->text[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) {
            return -1;
        }
        v = v * 16 + d;
    }
    return v;
}

static char *put_utf8(char *to, uint32_t c) {
    if (c < 0x80) {
        *to++ = (char)c;
        return to;
    }
    if (c < 0x800) {
        *to++ = (char)(0xC0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xE0 | c >> 12);
        } else {
            *to++ = (char)(0xF0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 63));
        }
        *to++ = (char)(0x80 | (c >> 6 & 63));
    }
    *to++ = (char)(0x80 | (c & 63));
    return to;
}

// The escape whose backslash is at j->at: writes what it stands for to *to.
static bool unescape(tarn_json *j, char **to) {
    size_t start = j->at++;
    char c = j->at < j->len ? j->text[j->at++] : '\0';
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    const char *hit = c ? strchr(from, c) : NULL;
    if (hit) {
        *(*to)++ = into[hit - from];
        return true;
    }
    int32_t u = c == 'u' ? hex4(j, j->at) : -1;
    if (u < 0) {
        return tarn_json_fail(j, start, "not an escape that JSON knows");
    }
    j->at += 4;
    if (u >= 0xD800 && u <= 0xDFFF) {
        int32_t low = u <= 0xDBFF && j->len - j->at >= 6 && j->text[j->at] == '\\' &&
                              j->text[j->at + 1] == 'u'
                          ? hex4(j, j->at + 2)
                          : -1;
        if (low < 0xDC00 || low > 0xDFFF) {
            return tarn_json_fail(j, start, "half a surrogate pair");
        }
        j->at += 6;
        u = 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
    }
    *to = put_utf8(*to, (uint32_t)u);
    return true;
}

static bool is_plain(char c) { return c != '"' && c != '\\' && (unsigned char)c >= 0x20; }

bool tarn_json_text(tarn_json *j, tarn_json_string *out) {
    if (!expect(j, '"', "expected a string")) {
        return false;
    }
    size_t start = j->at;
    char *to = j->text + start;
    while (j->at < j->len) {
        size_t run = j->at;
        while (run < j->len && is_plain(j->text[run])) {
            run++;
        }
        if (to != j->text + j->at) {
            memmove(to, j->text + j->at, run - j->at);
        }
        to += run - j->at;
        j->at = run;
        if (run == j->len) {
            break;
        }
        if (j->text[run] == '"') {
            *to = '\0';
            *out = (tarn_json_string){.s = j->text + start, .len = (size_t)(to - j->text) - start};
            j->at++;
            return true;
        }
        if (j->text[run] != '\\') {
            return tarn_json_fail(j, run, "a control byte in a string");
        }
        if (!unescape(j, &to)) {
            return false;
        }
    }
    return tarn_json_fail(j, start - 1, "a string without its closing quote");
}

// ---- numbers and the rest ----

static bool is_digit(const tarn_json *j) {
    return j->at < j->len && j->text[j->at] >= '0' && j->text[j->at] <= '9';
}

bool tarn_json_u64(tarn_json *j, uint64_t *out) {
    if (j->fault) {
        return false;
    }
    tarn_json_peek(j);
    size_t start = j->at;
    uint64_t v = 0;
    for (; is_digit(j); j->at++) {
        uint64_t d = (uint64_t)(j->text[j->at] - '0');
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v)) {
            return tarn_json_fail(j, start, "a number beyond 64 bits");
        }
    }
    if (j->at == start) {
        return tarn_json_fail(j, start, "expected a number of digits only");
    }
    if (j->text[start] == '0' && j->at - start > 1) {
        return tarn_json_fail(j, start, "a number with a leading zero");
    }
    char c = j->at < j->len ? j->text[j->at] : '\0';
    if (c == '.' || c == 'e' || c == 'E') {
        return tarn_json_fail(j, j->at, "expected a whole number of digits only");
    }
    *out = v;
    return true;
}

static bool digits(tarn_json *j) {
    size_t start = j->at;
    while (is_digit(j)) {
        j->at++;
    }
    return j->at > start || tarn_json_fail(j, j->at, "expected a digit");
}

static bool number(tarn_json *j) {
    size_t start = j->at;
    if (j->at < j->len && j->text[j->at] == '-') {
        start = ++j->at;
    } else if (!is_digit(j)) {
        return tarn_json_fail(j, j->at,
                              j->at < j->len ? "expected a value" : "the text ends too early");
    }
    if (!digits(j)) {
        return false;
    }
    if (j->text[start] == '0' && j->at - start > 1) {
        return tarn_json_fail(j, start, "a number with a leading zero");
    }
    if (j->at < j->len && j->text[j->at] == '.') {
        j->at++;
        if (!digits(j)) {
            return false;
        }
    }
    if (j->at < j->len && (j->text[j->at] | 0x20) == 'e') {
        j->at++;
        if (j->at < j->len && (j->text[j->at] == '-' || j->text[j->at] == '+')) {
            j->at++;
        }
        return digits(j);
    }
    return true;
}

static bool literal(tarn_json *j, const char *word, size_t len) {
    tarn_json_peek(j);
    if (j->fault || j->len - j->at < len || memcmp(j->text + j->at, word, len) != 0) {
        return tarn_json_fail(j, j->at, "expected a value");
    }
    j->at += len;
    return true;
}

bool tarn_json_null(tarn_json *j) { return literal(j, "null", 4); }

bool tarn_json_bool(tarn_json *j, bool *out) {
    *out = tarn_json_peek(j) == 't';
    return *out ? literal(j, "true", 4) : literal(j, "false", 5);
}

bool tarn_json_number(tarn_json *j, tarn_json_string *out, bool *whole) {
    tarn_json_peek(j);
    size_t start = j->at;
    if (j->fault || !number(j)) {
        return false;
    }
    *out = (tarn_json_string){.s = j->text + start, .len = j->at - start};
    *whole = true;
    for (size_t i = start; i < j->at; i++) {
        char c = j->text[i];
        *whole = *whole && c != '.' && c != 'e' && c != 'E';
    }
    return true;
}

static bool scalar(tarn_json *j) {
    tarn_json_string ignored;
    switch (tarn_json_peek(j)) {
    case '"':
        return tarn_json_text(j, &ignored);
    case 'n':
        return literal(j, "null", 4);
    case 't':
        return literal(j, "true", 4);
    case 'f':
        return literal(j, "false", 5);
    default:
        return number(j);
    }
}

bool tarn_json_skip(tarn_json *j) {
    char open[TARN_JSON_DEPTH];  // the closing bracket of each level
    int depth = 0;
    bool first = false;
    tarn_json_string ignored;
    do {
        char c = j->fault ? '\0' : tarn_json_peek(j);
        if (c == '{' || c == '[') {
            if (depth == TARN_JSON_DEPTH) {
                return tarn_json_fail(j, j->at, "values are nested too deeply");
            }
            j->at++;
            open[depth++] = c == '{' ? '}' : ']';
            first = true;
        } else if (j->fault || !scalar(j)) {
            return false;
        }
        // Leave what ends here, then step to the next member or element.
        while (depth > 0 && !tarn_json_next(j, open[depth - 1], &first)) {
            if (j->fault) {
                return false;
            }
            depth--;
        }
        if (depth > 0 && open[depth - 1] == '}' && !tarn_json_key(j, &ignored)) {
            return false;
        }
    } while (depth > 0);
    return true;
}

bool tarn_json_end(tarn_json *j) {
    tarn_json_peek(j);
    return !j->fault &&
           (j->at == j->len || tarn_json_fail(j, j->at, "something follows the closing bracket"));
}
