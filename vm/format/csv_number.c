// SPDX-License-Identifier: Apache-2.0
// Numbers in texts, under any locale. Most have few digits: a whole number below 2^53 times or over a
// power of ten up to 10^22 is exact but for one rounding (W. Clinger, "How to read floating point
// numbers accurately", PLDI 1990). The rest goes to the C library in the C locale.
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vm/format/csv.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool word(const char *s, size_t len, double *v) {
    if (len == 3 && strncasecmp(s, "nan", 3) == 0) {
        *v = NAN;
        return true;
    }
    if ((len == 3 && strncasecmp(s, "inf", 3) == 0) || (len == 8 && strncasecmp(s, "infinity", 8) == 0)) {
        *v = INFINITY;
        return true;
    }
    return false;
}

// The text is a number by its form, but too long for the quick way.
static bool slowly(const char *s, size_t len, double *v) {
    enum { LONGEST = 1000 };
    char plain[LONGEST + 1];
    if (len > LONGEST) {
        return false;
    }
    memcpy(plain, s, len);
    plain[len] = '\0';
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!c) {
        return false;
    }
    *v = strtod_l(plain, NULL, c);
    freelocale(c);
    return true;
}

bool tarn_csv_number(const char *s, size_t len, double *v) {
    static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    size_t i = 0;
    bool negative = len > 0 && s[0] == '-';
    if (len > 0 && (s[0] == '-' || s[0] == '+')) {
        i++;
    }
    if (word(s + i, len - i, v)) {
        *v = negative ? -*v : *v;
        return true;
    }
    uint64_t whole = 0;
    int digits = 0, scale = 0;
    bool point = false, any = false;
    for (; i < len && (is_digit(s[i]) || (s[i] == '.' && !point)); i++) {
        if (s[i] == '.') {
            point = true;
            continue;
        }
        any = true;
        digits += digits > 0 || s[i] != '0';
        whole = digits < 19 ? whole * 10 + (uint64_t)(s[i] - '0') : whole;
        scale -= point && scale > -1000000;
    }
    if (!any) {
        return false;
    }
    if (i < len && (s[i] == 'e' || s[i] == 'E')) {
        bool down = ++i < len && s[i] == '-';
        int e = 0;
        i += i < len && (s[i] == '-' || s[i] == '+');
        if (i == len || !is_digit(s[i])) {
            return false;
        }
        for (; i < len && is_digit(s[i]); i++) {
            e = e < 1000000 ? e * 10 + (s[i] - '0') : e;
        }
        scale += down ? -e : e;
    }
    if (i < len) {
        return false;
    }
    if (digits >= 19 || whole > (uint64_t)1 << 53 || scale < -22 || scale > 22) {
        return slowly(s, len, v);
    }
    double x = (double)whole;
    x = scale < 0 ? x / ten[-scale] : x * ten[scale];
    *v = negative ? -x : x;
    return true;
}
