// SPDX-License-Identifier: Apache-2.0
// Byte buffers and the small text services that messages need.
#include "vm/base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tarn_text_init(tarn_text *t, tarn_budget *b) {
    memset(t, 0, sizeof *t);
    t->budget = b;
}

void tarn_text_free(tarn_text *t) {
    tarn_free(t->budget, t->data, t->room);
    t->data = NULL;
    t->len = t->room = 0;
}

void tarn_text_add(tarn_text *t, const char *s, size_t len) {
    if (t->failed || len > SIZE_MAX / 4) {
        t->failed = true;
        return;
    }
    if (t->room - t->len < len + 1 || !t->data) {
        size_t room = t->room * 2 > t->len + len + 1 ? t->room * 2 : t->len + len + 64;
        char *data = tarn_alloc(t->budget, room);
        if (!data) {
            t->failed = true;
            return;
        }
        if (t->data) {
            memcpy(data, t->data, t->len);
        }
        tarn_free(t->budget, t->data, t->room);
        t->data = data;
        t->room = room;
    }
    memcpy(t->data + t->len, s, len);
    t->len += len;
    t->data[t->len] = '\0';
}

void tarn_text_puts(tarn_text *t, const char *s) { tarn_text_add(t, s, strlen(s)); }

void tarn_text_printf(tarn_text *t, const char *fmt, ...) {
    char small[512];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof small) {
        tarn_text_add(t, small, (size_t)n);
    } else if (n >= 0) {
        char *big = malloc((size_t)n + 1);
        if (big) {
            vsnprintf(big, (size_t)n + 1, fmt, again);
            tarn_text_add(t, big, (size_t)n);
            free(big);
        } else {
            t->failed = true;
        }
    } else {
        t->failed = true;
    }
    va_end(again);
}

// Length of the valid UTF-8 sequence at s, 0 when invalid.
static size_t sequence(const unsigned char *s, size_t len) {
    unsigned char c = s[0];
    if (c < 0x80) {
        return 1;
    }
    size_t n = c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (n == 0 || n > len) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) || (c == 0xF0 && s[1] < 0x90) ||
        (c == 0xF4 && s[1] > 0x8F)) {
        return 0;
    }
    return n;
}

bool tarn_utf8_valid(const char *s, size_t len) {
    const unsigned char *u = (const unsigned char *)s;
    for (size_t i = 0; i < len;) {
        uint64_t eight = UINT64_MAX;
        memcpy(&eight, u + i, len - i < 8 ? 0 : 8);
        size_t n = (eight & 0x8080808080808080U) == 0 ? 8 : sequence(u + i, len - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

void tarn_text_json(tarn_text *t, const char *s, size_t len) {
    const unsigned char *u = (const unsigned char *)s;
    tarn_text_add(t, "\"", 1);
    for (size_t i = 0; i < len;) {
        unsigned char c = u[i];
        if (c == '"' || c == '\\') {
            char esc[2] = {'\\', (char)c};
            tarn_text_add(t, esc, 2);
            i++;
        } else if (c < 0x20) {
            static const char plain[] = "\b\t\n\f\r", escape[] = "btnfr";
            const char *at = c ? strchr(plain, c) : NULL;
            if (at) {
                tarn_text_printf(t, "\\%c", escape[at - plain]);
            } else {
                tarn_text_printf(t, "\\u%04x", c);
            }
            i++;
        } else {
            size_t n = sequence(u + i, len - i);
            if (n == 0) {
                tarn_text_add(t, "\xEF\xBF\xBD", 3);
                i++;
            } else {
                tarn_text_add(t, s + i, n);
                i += n;
            }
        }
    }
    tarn_text_add(t, "\"", 1);
}

// What a terminal obeys or lays out otherwise than it is written: control characters (also those of two
// bytes, U+0080 to U+009F), line separators, marks and embeddings of direction.
static bool obeyed(const unsigned char *s, size_t n) {
    uint32_t c = n == 1   ? s[0]
                 : n == 2 ? (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3F)
                 : n == 3 ? (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F)
                          : 0x10000;
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x061C || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

void tarn_text_show(tarn_text *t, const char *s, size_t len, size_t max) {
    const unsigned char *u = (const unsigned char *)s;
    for (size_t i = 0; i < len;) {
        if (i >= max) {
            tarn_text_puts(t, "…");
            return;
        }
        size_t n = sequence(u + i, len - i);
        if (n > 0 && !obeyed(u + i, n)) {
            tarn_text_add(t, s + i, n);
            i += n;
            continue;
        }
        for (size_t end = i + (n ? n : 1); i < end; i++) {
            tarn_text_printf(t, "\\x%02x", u[i]);
        }
    }
}

int tarn_distance(const char *a, const char *b, int limit) {
    enum { MAX = 64 };
    size_t n = strlen(a), m = strlen(b);
    if (n > MAX || m > MAX) {
        return strcmp(a, b) == 0 ? 0 : limit + 1;
    }
    int rows[3][MAX + 1];
    int *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= m; j++) {
        above[j] = (int)j;
    }
    for (size_t i = 1; i <= n; i++) {
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) {
                best = above[j] + 1;
            }
            if (row[j - 1] + 1 < best) {
                best = row[j - 1] + 1;
            }
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best) {
                best = before[j - 2] + 1;
            }
            row[j] = best;
        }
        int *spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[m] > limit ? limit + 1 : above[m];
}

const char *tarn_nearest(const char *word, const char *(*next)(void *arg, size_t i), void *arg) {
    int limit = (int)strlen(word) / 3;
    limit = limit < 1 ? 1 : limit;
    const char *best = NULL;
    int least = limit + 1;
    const char *c;
    for (size_t i = 0; (c = next(arg, i)) != NULL; i++) {
        int d = tarn_distance(word, c, limit);
        if (d < least || (best && d == least && strcmp(c, best) < 0)) {
            least = d;
            best = c;
        }
    }
    return best;
}

const char *tarn_show_bytes(unsigned long long bytes, char *buf) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 999.95 && u < 5) {
        v /= 1000;
        u++;
    }
    snprintf(buf, 32, u == 0 ? "%.0f %s" : v < 9.995 ? "%.2f %s" : "%.1f %s", v, unit[u]);
    return buf;
}
