// SPDX-License-Identifier: Apache-2.0
// The CSV reader goes over the text twice: once to count and check, once for the values, so that
// their memory is taken in one piece. A cursor yields fields; both passes use it.
#include "vm/format/csv.h"

#include <stdlib.h>
#include <string.h>

#include "vm/base/size.h"
#include "vm/base/text.h"

enum { MOST_COLUMNS = 1 << 20, POLL = 1 << 16 };

typedef struct {
    const char *s;
    size_t len;
} slice;

struct tarn_csv {
    tarn_context *cx;
    tarn_arena arena;  // texts: names of columns, labels
    const char *text, *end;
    const char *name;
    char separator;
    int64_t rows, fields;  // fields of a record
    int64_t label;         // column of labels from 0; -1: none
    char **header;         // [fields]; NULL: none
    int64_t classes;
    char **class_names;    // [classes]; NULL: labels are numbers
};

// ---- fields ----

typedef struct {
    const tarn_csv *t;
    const char *at;    // where the next field begins
    const char *line_start;
    int64_t line;
    // the field last read
    slice raw;         // without quotes around it
    bool doubled;      // holds doubled quotes
    bool last;         // ends its record
    int64_t field_line, field_column;
} cursor;

static cursor start(const tarn_csv *t) {
    return (cursor){.t = t, .at = t->text, .line_start = t->text, .line = 1};
}

static tarn_status refuse(const cursor *c, const char *code, const char *what, tarn_error *err) {
    TARN_RAISE(err, code, "%s:%lld:%lld: %s", c->t->name, (long long)c->field_line, (long long)c->field_column, what);
}

static void new_line(cursor *c, const char *at) {
    c->line++;
    c->line_start = at;
}

// Past a line end at p, if there is one: LF or CRLF.
static const char *line_end(const tarn_csv *t, const char *p) {
    if (p < t->end && *p == '\n') {
        return p + 1;
    }
    return p + 1 < t->end && p[0] == '\r' && p[1] == '\n' ? p + 2 : NULL;
}

// Empty lines between records are skipped; false at the end of the text.
static bool more(cursor *c) {
    for (const char *next; (next = line_end(c->t, c->at));) {
        c->at = next;
        new_line(c, next);
    }
    return c->at < c->t->end;
}

static tarn_status quoted(cursor *c, const char **after, tarn_error *err) {
    const char *p = c->at + 1, *end = c->t->end;
    c->doubled = false;
    for (;; p++) {
        p = p < end ? memchr(p, '"', (size_t)(end - p)) : NULL;
        if (!p) {
            return refuse(c, "CsvQuote", "the quote that opens here is not closed", err);
        }
        if (p + 1 == end || p[1] != '"') {
            break;
        }
        c->doubled = true;
        p++;
    }
    c->raw = (slice){c->at + 1, (size_t)(p - c->at - 1)};
    for (const char *q = c->at; (q = memchr(q, '\n', (size_t)(p - q)));) {
        q++;
        new_line(c, q);
    }
    *after = p + 1;
    return TARN_OK;
}

static tarn_status plain(cursor *c, const char **after, tarn_error *err) {
    const char *p = c->at, *end = c->t->end;
    for (; p < end && *p != c->t->separator && *p != '\n'; p++) {
        if (*p == '"' || *p == '\0') {
            c->field_column += p - c->at;
            return refuse(c, "CsvQuote", *p ? "a quote inside a field that does not begin with one" : "a NUL byte", err);
        }
    }
    bool crlf = p < end && *p == '\n' && p > c->at && p[-1] == '\r';
    c->raw = (slice){c->at, (size_t)(p - c->at) - crlf};
    c->doubled = false;
    *after = p - crlf;
    return TARN_OK;
}

static tarn_status next_field(cursor *c, tarn_error *err) {
    const tarn_csv *t = c->t;
    const char *p = c->at;
    c->field_line = c->line;
    c->field_column = c->at - c->line_start + 1;
    TARN_TRY(c->at < t->end && *c->at == '"' ? quoted(c, &p, err) : plain(c, &p, err));
    const char *next = line_end(t, p);
    c->last = p >= t->end || next;
    if (c->last) {
        c->at = next ? next : p;
        if (next) {
            new_line(c, next);
        }
        return TARN_OK;
    }
    if (*p != t->separator) {
        c->field_line = c->line;
        c->field_column = p - c->line_start + 1;
        return refuse(c, "CsvQuote", "text after a closing quote; expected the separator or the end of the line", err);
    }
    c->at = p + 1;
    return TARN_OK;
}

static slice trimmed(slice s) {
    while (s.len > 0 && (*s.s == ' ' || *s.s == '\t')) {
        s.s++;
        s.len--;
    }
    while (s.len > 0 && (s.s[s.len - 1] == ' ' || s.s[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

// The field's text with its doubled quotes made single, in the arena.
static tarn_status keep(tarn_csv *t, const cursor *c, char **out, size_t *len, tarn_error *err) {
    char *p = tarn_arena_string(&t->arena, c->raw.s, c->raw.len);
    if (!p) {
        return tarn_raise_nomem(err, t->name, c->raw.len);
    }
    size_t n = 0;
    for (size_t i = 0; i < c->raw.len; i++) {
        p[n++] = p[i];
        i += c->doubled && p[i] == '"';
    }
    p[n] = '\0';
    if (memchr(p, '\0', n)) {
        return refuse(c, "CsvQuote", "a NUL byte", err);
    }
    *out = p;
    *len = n;
    return TARN_OK;
}

// ---- the first pass ----

// The number of fields of the record at c, whether one of them is a number.
static tarn_status measure_record(cursor *c, int64_t *fields, bool *number, tarn_error *err) {
    double v;
    *fields = 0;
    *number = false;
    do {
        TARN_TRY(next_field(c, err));
        slice s = trimmed(c->raw);
        *number = *number || tarn_csv_number(s.s, s.len, &v);
        if (++*fields > MOST_COLUMNS) {
            return refuse(c, "CsvLimit", "more than 1048576 fields in a line", err);
        }
    } while (!c->last);
    return TARN_OK;
}

static tarn_status read_header(tarn_csv *t, tarn_error *err) {
    cursor c = start(t);
    size_t len;
    (void)more(&c);
    t->header = tarn_arena_take(&t->arena, (size_t)t->fields * sizeof *t->header);
    if (!t->header) {
        return tarn_raise_nomem(err, t->name, (size_t)t->fields * sizeof *t->header);
    }
    for (int64_t i = 0; i < t->fields; i++) {
        TARN_TRY(next_field(&c, err));
        TARN_TRY(keep(t, &c, &t->header[i], &len, err));
    }
    return TARN_OK;
}

static tarn_status count_records(tarn_csv *t, cursor c, tarn_error *err) {
    t->rows = 0;
    while (more(&c)) {
        int64_t n = 0, line = c.line;
        do {
            TARN_TRY(next_field(&c, err));
            if (++n > t->fields) {
                break;
            }
        } while (!c.last);
        if (n != t->fields) {
            TARN_RAISE(err, "CsvFields", "%s:%lld: %s fields; the first line has %lld", t->name, (long long)line,
                       n > t->fields ? "more" : "fewer", (long long)t->fields);
        }
        if (++t->rows % POLL == 0) {
            TARN_TRY(tarn_cancel_check(&t->cx->cancel, err));
        }
    }
    return TARN_OK;
}

static const char *next_name(void *arg, size_t i) {
    const tarn_csv *t = arg;
    return i < (size_t)t->fields ? t->header[i] : NULL;
}

static tarn_status find_label(tarn_csv *t, const tarn_csv_options *o, tarn_error *err) {
    t->label = -1;
    if (o->label) {
        for (int64_t i = 0; t->header && i < t->fields && t->label < 0; i++) {
            t->label = strcmp(t->header[i], o->label) == 0 ? i : -1;
        }
        if (t->label >= 0) {
            return TARN_OK;
        }
        if (!t->header) {
            TARN_RAISE(err, "CsvLabel", "%s: no header, so that no column is called '%s'", t->name, o->label);
        }
        const char *near = tarn_nearest(o->label, next_name, t);
        tarn_raise(err, "CsvLabel", "%s: no column is called '%s'", t->name, o->label);
        return near ? tarn_error_append(err, "; did you mean '%s'?", near) : TARN_ERROR;
    }
    if (o->label_column != 0) {
        int64_t k = o->label_column > 0 ? o->label_column - 1 : t->fields + o->label_column;
        if (k < 0 || k >= t->fields) {
            TARN_RAISE(err, "CsvLabel", "%s: column %lld is asked for, but there are %lld", t->name,
                       (long long)o->label_column, (long long)t->fields);
        }
        t->label = k;
    }
    return TARN_OK;
}

static tarn_status scan(tarn_csv *t, const tarn_csv_options *o, tarn_error *err) {
    cursor c = start(t), first = c;
    bool number;
    int64_t values;
    if (!more(&c)) {
        TARN_RAISE(err, "CsvEmpty", "%s: the file holds no line", t->name);
    }
    first = c;
    TARN_TRY(measure_record(&c, &t->fields, &number, err));
    bool header = o->head == TARN_CSV_HEADER || (o->head == TARN_CSV_GUESS && !number);
    if (header) {
        TARN_TRY(read_header(t, err));
    }
    TARN_TRY(find_label(t, o, err));
    TARN_TRY(count_records(t, header ? c : first, err));
    if (!tarn_mul_i64(t->rows, t->fields * 8, &values)) {
        TARN_RAISE(err, "Overflow", "%s: too many values", t->name);
    }
    return TARN_OK;
}

tarn_status tarn_csv_open(tarn_context *cx, const char *text, size_t len, const char *name,
                          const tarn_csv_options *o, tarn_csv **out, tarn_error *err) {
    *out = NULL;
    tarn_csv *t = tarn_alloc_zero(&cx->budget, sizeof *t);
    if (!t) {
        return tarn_raise_nomem(err, name, sizeof *t);
    }
    size_t mark = len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;  // a byte order mark
    t->cx = cx;
    t->text = text + mark;
    t->end = text + len;
    t->name = name;
    t->separator = o->separator ? o->separator : ',';
    tarn_arena_init(&t->arena, &cx->budget);
    tarn_status s = scan(t, o, err);
    if (s != TARN_OK) {
        tarn_csv_close(t);
        return s;
    }
    *out = t;
    return TARN_OK;
}

int64_t tarn_csv_rows(const tarn_csv *t) { return t->rows; }
int64_t tarn_csv_columns(const tarn_csv *t) { return t->fields - (t->label >= 0); }
bool tarn_csv_labelled(const tarn_csv *t) { return t->label >= 0; }
const char *tarn_csv_column(const tarn_csv *t, int64_t i) {
    return t->header ? t->header[i + (t->label >= 0 && i >= t->label)] : NULL;
}
int64_t tarn_csv_classes(const tarn_csv *t) { return t->classes; }
const char *tarn_csv_class(const tarn_csv *t, int64_t i) { return t->class_names ? t->class_names[i] : NULL; }

// ---- the second pass ----

static tarn_status read_number(const cursor *c, int64_t field, double *v, tarn_error *err) {
    slice s = trimmed(c->raw);
    if (!c->doubled && tarn_csv_number(s.s, s.len, v)) {
        return TARN_OK;
    }
    const tarn_csv *t = c->t;
    if (s.len == 0) {
        refuse(c, "CsvNumber", "an empty field; expected a number", err);
    } else {
        tarn_text shown;
        tarn_text_init(&shown, &t->cx->budget);
        tarn_text_show(&shown, s.s, s.len, 40);
        tarn_raise(err, "CsvNumber", "%s:%lld:%lld: '%s' is no number", t->name, (long long)c->field_line,
                   (long long)c->field_column, shown.data ? shown.data : "");
        tarn_text_free(&shown);
    }
    return t->header ? tarn_error_append(err, " (column '%.100s')", t->header[field])
                     : tarn_error_append(err, " (field %lld)", (long long)field + 1);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool whole(const char *s, int64_t *v) {
    int64_t n = 0;
    size_t len = strlen(s);
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9' || len > 10) {
            return false;
        }
        n = n * 10 + (s[i] - '0');
    }
    *v = n;
    return len > 0 && n <= INT32_MAX;
}

// texts [rows] -> classes of the rows, in labels.
static tarn_status classify(tarn_csv *t, char **texts, int64_t *labels, tarn_error *err) {
    bool numbers = true;
    t->classes = 0;
    for (int64_t i = 0; i < t->rows && numbers; i++) {
        numbers = whole(texts[i], &labels[i]);
        t->classes = numbers && labels[i] >= t->classes ? labels[i] + 1 : t->classes;
    }
    if (numbers) {
        return TARN_OK;
    }
    char **sorted = tarn_arena_copy(&t->arena, texts, (size_t)t->rows * sizeof *texts);
    if (!sorted) {
        return tarn_raise_nomem(err, t->name, (size_t)t->rows * sizeof *texts);
    }
    qsort(sorted, (size_t)t->rows, sizeof *sorted, by_text);
    int64_t n = 0;
    for (int64_t i = 0; i < t->rows; i++) {
        if (n == 0 || strcmp(sorted[n - 1], sorted[i]) != 0) {
            sorted[n++] = sorted[i];
        }
    }
    for (int64_t i = 0; i < t->rows; i++) {
        char **found = bsearch(&texts[i], sorted, (size_t)n, sizeof *sorted, by_text);
        labels[i] = found - sorted;
    }
    t->classes = n;
    t->class_names = sorted;
    return TARN_OK;
}

static tarn_status read_label(tarn_csv *t, cursor *c, char **text, tarn_error *err) {
    size_t len;
    if (!c->doubled) {
        c->raw = trimmed(c->raw);
    }
    TARN_TRY(keep(t, c, text, &len, err));
    return len > 0 ? TARN_OK : refuse(c, "CsvLabel", "an empty label", err);
}

tarn_status tarn_csv_read(tarn_csv *t, double *numbers, int64_t *labels, tarn_error *err) {
    cursor c = start(t);
    char **texts = NULL;
    int64_t at = 0;
    if (t->label >= 0 && t->rows > 0) {
        texts = tarn_arena_take(&t->arena, (size_t)t->rows * sizeof *texts);
        if (!texts) {
            return tarn_raise_nomem(err, t->name, (size_t)t->rows * sizeof *texts);
        }
    }
    for (int64_t row = t->header ? -1 : 0; row < t->rows && more(&c); row++) {
        for (int64_t k = 0; k < t->fields; k++) {
            TARN_TRY(next_field(&c, err));
            if (row >= 0) {
                TARN_TRY(k == t->label ? read_label(t, &c, &texts[row], err)
                                       : read_number(&c, k, &numbers[at++], err));
            }
        }
        if (row % POLL == 0) {
            TARN_TRY(tarn_cancel_check(&t->cx->cancel, err));
        }
    }
    return texts ? classify(t, texts, labels, err) : TARN_OK;
}

void tarn_csv_close(tarn_csv *t) {
    if (t) {
        tarn_context *cx = t->cx;
        tarn_arena_free(&t->arena);
        tarn_free(&cx->budget, t, sizeof *t);
    }
}
