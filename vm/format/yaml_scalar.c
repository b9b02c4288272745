// SPDX-License-Identifier: Apache-2.0
// What a plain scalar of YAML means. The files we read were written for PyYAML's safe_load, which
// follows YAML 1.1, so its reading stands: yes/no/on/off are booleans, 010 is eight, 1_000 a
// thousand, 1:30 ninety. What 1.1 leaves a text and the core schema of YAML 1.2 calls a number is
// one (1e-5, 0o17), since who wrote it meant that. Dates stay texts. Decimal integers beyond 64
// bits become floats. Not here: quoted scalars (texts), tags (vm/format/yaml.c).
#include "vm/format/yaml_scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool one_of(const tarn_yaml *y, const char *const *words) {
    for (; *words; words++) {
        if (strlen(*words) == y->len && memcmp(*words, y->text, y->len) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_sign(char c) { return c == '-' || c == '+'; }

static int digit_of(char c) {
    if (is_digit(c)) {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

// Every rule works on the text after the sign; texts end with a NUL, and none of the classes below
// holds it.

static bool set_integer(tarn_yaml *y, bool negative, uint64_t v) {
    if (v > (uint64_t)INT64_MAX + negative) {
        return false;
    }
    y->kind = TARN_YAML_INT;
    y->integer = (int64_t)(negative ? 0 - v : v);
    y->number = (double)y->integer;
    return true;
}

// Digits of a base to the end of the text; underscores are skipped where `blank`. False also for
// what 64 bits do not hold.
static bool digits(tarn_yaml *y, bool negative, const char *s, int base, bool blank) {
    uint64_t v = 0;
    if (*s == '\0') {
        return false;
    }
    for (; *s; s++) {
        if (*s == '_' && blank) {
            continue;
        }
        int k = digit_of(*s);
        if (k >= base || __builtin_mul_overflow(v, (uint64_t)base, &v) ||
            __builtin_add_overflow(v, (uint64_t)k, &v)) {
            return false;
        }
    }
    return set_integer(y, negative, v);
}

// 1:30 and 20:30:15.5: base sixty. The first group has any length, the others are 0 to 59. Integers
// start with 1 to 9, the others have a point.
static bool sixties(tarn_yaml *y, bool negative, const char *s) {
    double total = 0;
    bool whole = *s != '0', first = true;
    for (;; s++) {
        double group = 0;
        int n = 0;
        for (; is_digit(*s) || (*s == '_' && first && n > 0); s++, n++) {
            group = *s == '_' ? group : group * 10 + (*s - '0');
        }
        if (n == 0 || (!first && (n > 2 || group > 59))) {
            return false;
        }
        total = total * 60 + group;
        if (*s != ':') {
            break;
        }
        first = false;
    }
    if (first) {
        return false;
    }
    if (*s == '.') {
        whole = false;
        double scale = 1;
        for (s++; is_digit(*s) || *s == '_'; s++) {
            scale = *s == '_' ? scale : scale / 10;
            total += *s == '_' ? 0 : (*s - '0') * scale;
        }
    } else if (!whole) {
        return false;
    }
    if (*s != '\0') {
        return false;
    }
    if (whole && total < 0x1p53) {
        return set_integer(y, negative, (uint64_t)total);
    }
    y->kind = TARN_YAML_FLOAT;
    y->number = negative ? -total : total;
    return true;
}

static bool integer(tarn_yaml *y) {
    const char *s = y->text;
    bool negative = *s == '-', sign = is_sign(*s);
    s += sign;
    if (s[0] == '0' && s[1] == 'b' && digits(y, negative, s + 2, 2, true)) {
        return true;
    }
    if (s[0] == '0' && s[1] == 'x' && digits(y, negative, s + 2, 16, true)) {
        return true;
    }
    if (s[0] == '0' && s[1] == 'o' && !sign) {  // YAML 1.2
        return digits(y, false, s + 2, 8, false);
    }
    if (s[0] == '0' && s[1] != '\0' && digits(y, negative, s + 1, 8, true)) {
        return true;
    }
    if (s[0] == '0' && s[1] != '\0') {
        return digits(y, negative, s, 10, false);  // 08: a text in 1.1, eight in 1.2
    }
    if (!is_digit(s[0])) {
        return false;
    }
    return digits(y, negative, s, 10, true);
}

static bool special(tarn_yaml *y) {
    static const char *const infinity[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const nan_words[] = {".nan", ".NaN", ".NAN", NULL};
    bool sign = is_sign(y->text[0]);
    tarn_yaml rest = {.text = y->text + sign, .len = y->len - sign};
    if (one_of(&rest, infinity)) {
        y->number = y->text[0] == '-' ? -INFINITY : INFINITY;
    } else if (one_of(y, nan_words)) {
        y->number = NAN;
    } else {
        return false;
    }
    y->kind = TARN_YAML_FLOAT;
    return true;
}

// Digits, a point, digits, an exponent. YAML 1.1 asks for the point and for a sign in the exponent,
// 1.2 for neither; 1.1 alone allows underscores.
static bool real(tarn_yaml *y) {
    enum { LONGEST = 400 };  // a longer text is no number
    char plain[LONGEST + 1];
    const char *s = y->text + is_sign(y->text[0]);
    size_t n = 0, count = 0;
    bool blank = false, point = false;
    if (y->len > LONGEST) {
        return false;
    }
    for (; is_digit(*s) || (*s == '_' && count > 0) || (*s == '.' && !point); s++) {
        blank = blank || *s == '_';
        point = point || *s == '.';
        count += is_digit(*s);
        if (*s != '_') {
            plain[n++] = *s;
        }
    }
    if (count == 0 || (blank && !point)) {
        return false;
    }
    if (*s == 'e' || *s == 'E') {
        plain[n++] = *s++;
        if (is_sign(*s)) {
            plain[n++] = *s++;
        } else if (blank) {
            return false;
        }
        if (!is_digit(*s)) {
            return false;
        }
        while (is_digit(*s)) {
            plain[n++] = *s++;
        }
    }
    if (*s != '\0') {
        return false;
    }
    plain[n] = '\0';
    y->number = strtod(plain, NULL);
    y->number = y->text[0] == '-' ? -y->number : y->number;
    y->kind = TARN_YAML_FLOAT;
    return true;
}

void tarn_yaml_scalar(tarn_yaml *y) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", "yes", "Yes",
                                        "YES",  "on",   "On",   "ON",  NULL};
    static const char *const falses[] = {"false", "False", "FALSE", "no",  "No",
                                         "NO",    "off",   "Off",   "OFF", NULL};
    y->kind = TARN_YAML_STRING;
    if (one_of(y, nulls)) {
        y->kind = TARN_YAML_NULL;
    } else if (one_of(y, trues) || one_of(y, falses)) {
        y->kind = TARN_YAML_BOOL;
        y->boolean = one_of(y, trues);
    } else if (strlen(y->text) == y->len && !integer(y) && !special(y) && !real(y)) {
        sixties(y, y->text[0] == '-', y->text + is_sign(y->text[0]));
    }
}
