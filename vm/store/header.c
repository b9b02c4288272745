// SPDX-License-Identifier: Apache-2.0
// From header bytes to validated rows. Parsing fills rows in the order of the file; then they are
// put in order of offset, names are checked for doubles, and one walk proves that the tensors cover
// the data section exactly, which excludes overlaps, gaps, truncation and trailing bytes at once.
#include "vm/store/header.h"

#include <stdio.h>
#include <string.h>

#include "vm/base/size.h"
#include "vm/base/text.h"
#include "vm/store/sort.h"

typedef struct parser {
    tarn_table *t;
    tarn_json j;
    const char *path;
    int file;
    int64_t first;  // row number of the file's first tensor
    bool has_meta;
    tarn_error *err;
} parser;

const char *tarn_show_name(tarn_shown buf, const char *name, size_t len) {
    tarn_budget enough;
    tarn_budget_init(&enough, 1 << 16);
    tarn_text t;
    tarn_text_init(&t, &enough);
    tarn_text_show(&t, name, len, TARN_SHOWN_MAX);
    snprintf(buf, sizeof(tarn_shown), "%s", t.data ? t.data : "");
    tarn_text_free(&t);
    return buf;
}

void *tarn_store_alloc(tarn_budget *b, uint64_t n, size_t size, const char *what, tarn_error *err) {
    uint64_t bytes;
    void *p = tarn_mul_u64(n, size, &bytes) ? tarn_alloc(b, bytes) : NULL;
    if (!p) {
        tarn_raise_nomem(err, what, n * size);
    }
    return p;
}

// ---- the table ----

void tarn_table_init(tarn_table *t, tarn_budget *b) {
    memset(t, 0, sizeof *t);
    t->budget = b;
    tarn_arena_init(&t->arena, b);
}

void tarn_table_free(tarn_table *t) {
    tarn_free(t->budget, t->row, (size_t)t->room * sizeof *t->row);
    tarn_free(t->budget, t->by_name, (size_t)t->room * sizeof *t->by_name);
    tarn_arena_free(&t->arena);
}

static tarn_status reserve(tarn_table *t, int64_t more, tarn_error *err) {
    if (t->count + more <= t->room) {
        return TARN_OK;
    }
    int64_t room = t->count + more;
    if (t->count > 0 && room < t->room * 2) {
        room = t->room * 2;
    }
    tarn_store_tensor *row =
        tarn_store_alloc(t->budget, (uint64_t)room, sizeof *row, "the tensor table", err);
    uint32_t *by_name =
        row ? tarn_store_alloc(t->budget, (uint64_t)room, sizeof *by_name, "the tensor table", err)
            : NULL;
    if (!by_name) {
        tarn_free(t->budget, row, (size_t)room * sizeof *row);
        return TARN_NOMEM;
    }
    if (t->row) {
        memcpy(row, t->row, (size_t)t->count * sizeof *row);
        memcpy(by_name, t->by_name, (size_t)t->count * sizeof *by_name);
    }
    tarn_free(t->budget, t->row, (size_t)t->room * sizeof *row);
    tarn_free(t->budget, t->by_name, (size_t)t->room * sizeof *by_name);
    t->row = row;
    t->by_name = by_name;
    t->room = room;
    return TARN_OK;
}

static int order_names(const void *arg, uint32_t a, uint32_t b) {
    const tarn_store_tensor *row = arg;
    return tarn_compare_names(row[a].name, row[a].name_len, row[b].name, row[b].name_len);
}

static int order_offsets(const void *arg, uint32_t a, uint32_t b) {
    const tarn_store_tensor *x = (const tarn_store_tensor *)arg + a;
    const tarn_store_tensor *y = (const tarn_store_tensor *)arg + b;
    return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1)
                                : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static tarn_status sort_rows(tarn_budget *b, uint32_t *index, int64_t n, tarn_order_fn order,
                             const tarn_store_tensor *row, tarn_error *err) {
    uint32_t *spare = tarn_store_alloc(b, (uint64_t)n, sizeof *spare, "sorting tensors", err);
    if (!spare) {
        return TARN_NOMEM;
    }
    tarn_sort_indices(index, (size_t)n, spare, order, row);
    tarn_free(b, spare, (size_t)n * sizeof *spare);
    return TARN_OK;
}

tarn_status tarn_table_sort(tarn_table *t, tarn_error *err) {
    return sort_rows(t->budget, t->by_name, t->count, order_names, t->row, err);
}

int64_t tarn_table_find(const tarn_table *t, const char *name, size_t len) {
    int64_t lo = 0, hi = t->count;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        const tarn_store_tensor *r = &t->row[t->by_name[mid]];
        int c = tarn_compare_names(r->name, r->name_len, name, len);
        if (c == 0) {
            return t->by_name[mid];
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return -1;
}

// ---- syntax ----

static tarn_status syntax(parser *p, const char *of, const tarn_json_string *name) {
    tarn_shown shown;
    const tarn_json *j = &p->j;
    const char *code = "InvalidHeaderDeserialization";
    unsigned long long at = j->fault_at + 8;
    if (name) {
        TARN_RAISE(p->err, code, "%s: header: %s '%s': %s at byte %llu of the file", p->path, of,
                   tarn_show_name(shown, name->s, name->len), j->fault, at);
    }
    TARN_RAISE(p->err, code, "%s: header: %s at byte %llu of the file", p->path, j->fault, at);
}

static tarn_status bad_tensor(parser *p, const tarn_json_string *name, const char *code,
                              const char *what) {
    tarn_shown shown;
    TARN_RAISE(p->err, code, "%s: tensor '%s': %s, before byte %zu of the file", p->path,
               tarn_show_name(shown, name->s, name->len), what, p->j.at + 8);
}

static tarn_status parse_dtype(parser *p, const tarn_json_string *name, tarn_dtype *out) {
    tarn_json_string code;
    tarn_shown shown, dtype;
    if (!tarn_json_text(&p->j, &code)) {
        return syntax(p, "dtype of tensor", name);
    }
    for (int i = 0; i < TARN_DTYPE_COUNT; i++) {
        const char *known = tarn_dtype_get((tarn_dtype)i)->code;
        if (tarn_json_is(&code, known, strlen(known))) {
            *out = (tarn_dtype)i;
            return TARN_OK;
        }
    }
    TARN_RAISE(p->err, "InvalidHeaderDeserialization",
               "%s: tensor '%s': unknown dtype '%s' before byte %zu of the file", p->path,
               tarn_show_name(shown, name->s, name->len), tarn_show_name(dtype, code.s, code.len),
               p->j.at + 8);
}

static tarn_status parse_shape(parser *p, const tarn_json_string *name, int *rank,
                               int64_t shape[TARN_RANK_MAX]) {
    tarn_json *j = &p->j;
    *rank = 0;
    tarn_json_open(j, '[');
    for (bool first = true; tarn_json_next(j, ']', &first);) {
        uint64_t d;
        if (!tarn_json_u64(j, &d)) {
            break;
        }
        if (d > TARN_DIM_MAX) {
            return bad_tensor(p, name, "LimitExceeded", "a dimension beyond 2^48 - 1");
        }
        if (*rank == TARN_RANK_MAX) {
            return bad_tensor(p, name, "LimitExceeded", "more than 64 dimensions");
        }
        shape[(*rank)++] = (int64_t)d;
    }
    return j->fault ? syntax(p, "shape of tensor", name) : TARN_OK;
}

static tarn_status parse_offsets(parser *p, const tarn_json_string *name, uint64_t *begin,
                                 uint64_t *end) {
    tarn_json *j = &p->j;
    uint64_t *to[2] = {begin, end};
    int n = 0;
    tarn_json_open(j, '[');
    for (bool first = true; tarn_json_next(j, ']', &first); n++) {
        if (n == 2) {
            return bad_tensor(p, name, "InvalidHeaderDeserialization",
                              "data_offsets holds more than two numbers");
        }
        if (!tarn_json_u64(j, to[n])) {
            break;
        }
    }
    if (j->fault) {
        return syntax(p, "data_offsets of tensor", name);
    }
    if (n < 2) {
        return bad_tensor(p, name, "InvalidHeaderDeserialization",
                          "data_offsets holds fewer than two numbers");
    }
    return TARN_OK;
}

static void note_unknown(parser *p, const tarn_json_string *field, const tarn_json_string *name) {
    tarn_shown a, b;
    if (p->t->nunknown++ == 0) {
        snprintf(p->t->unknown, sizeof p->t->unknown, "field '%s' of tensor '%s'",
                 tarn_show_name(a, field->s, field->len), tarn_show_name(b, name->s, name->len));
    }
}

enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4 };

// Marks a field as met; false when it was met before.
static bool once(unsigned *has, unsigned field) {
    bool fresh = !(*has & field);
    *has |= field;
    return fresh;
}

// The object of one tensor, past its name.
static tarn_status parse_tensor(parser *p, const tarn_json_string *name) {
    tarn_json *j = &p->j;
    tarn_table *t = p->t;
    tarn_dtype dtype = TARN_U8;
    int rank = 0;
    int64_t shape[TARN_RANK_MAX];
    uint64_t begin = 0, end = 0;
    unsigned has = 0;
    tarn_json_open(j, '{');
    for (bool first = true; tarn_json_next(j, '}', &first);) {
        tarn_json_string key;
        bool fresh = true;
        if (!tarn_json_key(j, &key)) {
            break;
        }
        if (tarn_json_is(&key, "dtype", 5)) {
            fresh = once(&has, HAS_DTYPE);
            TARN_TRY(parse_dtype(p, name, &dtype));
        } else if (tarn_json_is(&key, "shape", 5)) {
            fresh = once(&has, HAS_SHAPE);
            TARN_TRY(parse_shape(p, name, &rank, shape));
        } else if (tarn_json_is(&key, "data_offsets", 12)) {
            fresh = once(&has, HAS_OFFSETS);
            TARN_TRY(parse_offsets(p, name, &begin, &end));
        } else if (tarn_json_skip(j)) {
            note_unknown(p, &key, name);
        }
        if (!fresh) {
            return bad_tensor(p, name, "DuplicateKey", "a field is given twice");
        }
    }
    if (j->fault) {
        return syntax(p, "tensor", name);
    }
    if (has != (HAS_DTYPE | HAS_SHAPE | HAS_OFFSETS)) {
        return bad_tensor(p, name, "InvalidHeaderDeserialization",
                          !(has & HAS_DTYPE)   ? "it has no dtype"
                          : !(has & HAS_SHAPE) ? "it has no shape"
                                               : "it has no data_offsets");
    }
    if (begin > end) {
        return bad_tensor(p, name, "InvalidOffset", "its data ends before it begins");
    }
    if (t->count == TARN_TENSORS_MAX) {
        return bad_tensor(p, name, "LimitExceeded", "there are more than 4194304 tensors");
    }
    TARN_TRY(t->count < t->room ? TARN_OK : reserve(t, 1, p->err));
    // One piece of the arena holds the shape and, behind it, the name.
    size_t dims = (size_t)rank * sizeof *shape;
    char *memory = tarn_arena_take(&t->arena, dims + name->len + 1);
    if (!memory) {
        return tarn_raise_nomem(p->err, "tensor names", dims + name->len + 1);
    }
    memcpy(memory, shape, dims);
    memcpy(memory + dims, name->s, name->len + 1);
    t->row[t->count++] = (tarn_store_tensor){
        .name = memory + dims,
        .name_len = name->len,
        .dtype = dtype,
        .rank = rank,
        .shape = (const int64_t *)(void *)memory,
        .file = p->file,
        .begin = begin,
        .bytes = end - begin,
    };
    return TARN_OK;
}

// ---- __metadata__ ----

static int order_keys(const void *arg, uint32_t a, uint32_t b) {
    const tarn_meta *m = arg;
    return tarn_compare_names(m[a].key, m[a].key_len, m[b].key, m[b].key_len);
}

static tarn_status check_keys(parser *p, const tarn_meta *meta, uint32_t n) {
    tarn_budget *b = p->t->budget;
    uint32_t *index = tarn_store_alloc(b, 2 * (uint64_t)n, sizeof *index, "metadata", p->err);
    if (!index) {
        return TARN_NOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        index[i] = i;
    }
    tarn_sort_indices(index, n, index + n, order_keys, meta);
    tarn_status s = TARN_OK;
    for (uint32_t i = 1; i < n && s == TARN_OK; i++) {
        if (order_keys(meta, index[i - 1], index[i]) == 0) {
            tarn_shown shown;
            const tarn_meta *m = &meta[index[i]];
            s = tarn_raise(p->err, "DuplicateKey", "%s: __metadata__ holds the key '%s' twice",
                           p->path, tarn_show_name(shown, m->key, m->key_len));
        }
    }
    tarn_free(b, index, 2 * (size_t)n * sizeof *index);
    return s;
}

// Adds a pair to a list that doubles as it grows.
static tarn_status add_pair(parser *p, tarn_meta **list, uint32_t *room, uint32_t n,
                            const tarn_meta *pair) {
    if (n == *room) {
        uint32_t more = *room ? *room * 2 : 16;
        tarn_budget *b = p->t->budget;
        tarn_meta *grown = tarn_store_alloc(b, more, sizeof *grown, "metadata", p->err);
        if (!grown) {
            return TARN_NOMEM;
        }
        if (n > 0) {
            memcpy(grown, *list, n * sizeof *grown);
        }
        tarn_free(b, *list, *room * sizeof *grown);
        *list = grown;
        *room = more;
    }
    (*list)[n] = *pair;
    return TARN_OK;
}

static tarn_status keep_pairs(parser *p, const tarn_meta *pair, uint32_t n) {
    tarn_arena *a = &p->t->arena;
    tarn_meta *kept = tarn_arena_take(a, n * sizeof *kept);
    for (uint32_t i = 0; kept && i < n; i++) {
        kept[i] = pair[i];
        kept[i].key = tarn_arena_string(a, pair[i].key, pair[i].key_len);
        kept[i].value = tarn_arena_string(a, pair[i].value, pair[i].value_len);
        if (!kept[i].key || !kept[i].value) {
            kept = NULL;
        }
    }
    if (!kept) {
        return tarn_raise_nomem(p->err, "metadata", n * sizeof *kept);
    }
    p->t->meta = kept;
    p->t->nmeta = n;
    return TARN_OK;
}

static tarn_status parse_meta(parser *p) {
    static const tarn_json_string self = {.s = "__metadata__", .len = 12};
    tarn_json *j = &p->j;
    if (p->has_meta) {
        TARN_RAISE(p->err, "DuplicateKey",
                   "%s: __metadata__ is given twice, at byte %zu of the file", p->path, j->at + 8);
    }
    p->has_meta = true;
    if (tarn_json_peek(j) == 'n') {
        return tarn_json_null(j) ? TARN_OK : syntax(p, "entry", &self);
    }
    tarn_meta *list = NULL;
    uint32_t room = 0, n = 0;
    tarn_status s = TARN_OK;
    tarn_json_open(j, '{');
    for (bool first = true; s == TARN_OK && tarn_json_next(j, '}', &first);) {
        tarn_json_string key, value;
        if (!tarn_json_key(j, &key) || !tarn_json_text(j, &value)) {
            break;
        }
        tarn_meta pair = {
            .key = key.s, .key_len = key.len, .value = value.s, .value_len = value.len};
        s = add_pair(p, &list, &room, n++, &pair);
    }
    if (s == TARN_OK && j->fault) {
        s = syntax(p, "entry", &self);
    }
    if (s == TARN_OK && n > 0) {
        s = check_keys(p, list, n);
    }
    if (s == TARN_OK && n > 0 && p->file == 0) {
        s = keep_pairs(p, list, n);
    }
    tarn_free(p->t->budget, list, room * sizeof *list);
    return s;
}

// ---- the whole ----

static tarn_status parse_entries(parser *p) {
    tarn_json *j = &p->j;
    tarn_json_open(j, '{');
    for (bool first = true; tarn_json_next(j, '}', &first);) {
        tarn_json_string name;
        if (!tarn_json_key(j, &name)) {
            break;
        }
        if (tarn_json_is(&name, "__metadata__", 12)) {
            TARN_TRY(parse_meta(p));
        } else {
            TARN_TRY(parse_tensor(p, &name));
        }
    }
    tarn_json_end(j);
    return j->fault ? syntax(p, "", NULL) : TARN_OK;
}

static tarn_status order_rows(parser *p) {
    tarn_table *t = p->t;
    tarn_store_tensor *row = t->row + p->first;
    int64_t n = t->count - p->first;
    bool ordered = true;
    for (int64_t i = 1; i < n && ordered; i++) {
        ordered = order_offsets(row, (uint32_t)(i - 1), (uint32_t)i) <= 0;
    }
    if (ordered) {
        return TARN_OK;
    }
    uint32_t *index = t->by_name + p->first;  // not in use yet
    for (int64_t i = 0; i < n; i++) {
        index[i] = (uint32_t)i;
    }
    TARN_TRY(sort_rows(t->budget, index, n, order_offsets, row, p->err));
    tarn_store_tensor *sorted =
        tarn_store_alloc(t->budget, (uint64_t)n, sizeof *row, "sorting tensors", p->err);
    if (!sorted) {
        return TARN_NOMEM;
    }
    for (int64_t i = 0; i < n; i++) {
        sorted[i] = row[index[i]];
    }
    memcpy(row, sorted, (size_t)n * sizeof *row);
    tarn_free(t->budget, sorted, (size_t)n * sizeof *row);
    return TARN_OK;
}

static tarn_status check_names(parser *p) {
    tarn_table *t = p->t;
    uint32_t *index = t->by_name + p->first;
    int64_t n = t->count - p->first;
    for (int64_t i = 0; i < n; i++) {
        index[i] = (uint32_t)(p->first + i);
    }
    TARN_TRY(sort_rows(t->budget, index, n, order_names, t->row, p->err));
    for (int64_t i = 1; i < n; i++) {
        if (order_names(t->row, index[i - 1], index[i]) == 0) {
            tarn_shown shown;
            const tarn_store_tensor *r = &t->row[index[i]];
            TARN_RAISE(p->err, "DuplicateKey",
                       "%s: tensor '%s' is in the header twice, at offsets %llu and %llu", p->path,
                       tarn_show_name(shown, r->name, r->name_len),
                       (unsigned long long)t->row[index[i - 1]].begin,
                       (unsigned long long)r->begin);
        }
    }
    return TARN_OK;
}

// Elements and bytes of a row from its shape, by a checked left fold: [0, 2^47, 2^47] is empty,
// [2^47, 2^47, 0] overflows, as in the reference.
static const char *measure(tarn_store_tensor *r, uint64_t *bytes, const char **why) {
    uint64_t numel = 1, bits;
    for (int i = 0; i < r->rank; i++) {
        if (!tarn_mul_u64(numel, (uint64_t)r->shape[i], &numel)) {
            *why = "its shape has more elements than 64 bits can count";
            return "ValidationOverflow";
        }
    }
    if (numel > INT64_MAX ||
        !tarn_mul_u64(numel, (uint64_t)tarn_dtype_get(r->dtype)->bits, &bits)) {
        *why = "its size in bits overflows 64 bits";
        return "ValidationOverflow";
    }
    if (bits % 8 != 0) {
        *why = "its elements do not fill whole bytes";
        return "MisalignedSlice";
    }
    r->numel = (int64_t)numel;
    *bytes = bits / 8;
    return NULL;
}

static tarn_status bad_row(parser *p, const tarn_store_tensor *r, const char *code,
                           const char *what, uint64_t expected, uint64_t got) {
    tarn_shown shown;
    TARN_RAISE(p->err, code, "%s: tensor '%s' (%s, offset %llu): %s (expected %llu, got %llu)",
               p->path, tarn_show_name(shown, r->name, r->name_len), tarn_dtype_get(r->dtype)->code,
               (unsigned long long)r->begin, what, (unsigned long long)expected,
               (unsigned long long)got);
}

// The walk over the data section; turns offsets into places in the file.
static tarn_status check_data(parser *p, uint64_t start, uint64_t size) {
    uint64_t at = 0;
    for (int64_t i = p->first; i < p->t->count; i++) {
        tarn_store_tensor *r = &p->t->row[i];
        if (r->begin != at) {
            return bad_row(p, r, "InvalidOffset",
                           "its data does not begin where the data before it ends", at, r->begin);
        }
        uint64_t bytes;
        const char *why, *code = measure(r, &bytes, &why);
        if (code) {
            tarn_shown shown;
            TARN_RAISE(p->err, code, "%s: tensor '%s' (%s, offset %llu): %s", p->path,
                       tarn_show_name(shown, r->name, r->name_len), tarn_dtype_get(r->dtype)->code,
                       (unsigned long long)r->begin, why);
        }
        if (bytes != r->bytes) {
            return bad_row(p, r, "TensorInvalidInfo",
                           "data_offsets and the size of its shape in bytes differ", bytes,
                           r->bytes);
        }
        at += bytes;  // no overflow: it is the end that was read
    }
    if (at != size - start) {
        TARN_RAISE(
            p->err, "MetadataIncompleteBuffer",
            "%s: the header describes %llu bytes of data from offset %llu on, the file holds "
            "%llu: it is %s",
            p->path, (unsigned long long)at, (unsigned long long)start,
            (unsigned long long)(size - start),
            at > size - start ? "truncated" : "longer than its header says");
    }
    for (int64_t i = p->first; i < p->t->count; i++) {
        p->t->row[i].begin += start;
    }
    return TARN_OK;
}

tarn_status tarn_header_parse(tarn_table *t, int file, const char *path, char *text, size_t n,
                              uint64_t size, tarn_error *err) {
    if (!tarn_utf8_valid(text, n)) {
        TARN_RAISE(err, "InvalidHeader", "%s: the header (bytes 8 to %llu) is not valid UTF-8",
                   path, (unsigned long long)n + 8);
    }
    parser p = {.t = t,
                .j = tarn_json_of(text, n),
                .path = path,
                .file = file,
                .first = t->count,
                .err = err};
    // Every tensor is an object of at least 48 bytes: so many there can be at most. At least one
    // row, so that there is a table.
    int64_t objects = 1;
    for (size_t i = 0; i < n; i++) {
        objects += text[i] == '{';
    }
    int64_t most = (int64_t)(n / 48) + 1 < objects ? (int64_t)(n / 48) + 1 : objects;
    most = most < TARN_TENSORS_MAX - t->count ? most : TARN_TENSORS_MAX - t->count;
    TARN_TRY(reserve(t, most, err));
    TARN_TRY(parse_entries(&p));
    TARN_TRY(order_rows(&p));
    TARN_TRY(check_names(&p));
    return check_data(&p, n + 8, size);
}
