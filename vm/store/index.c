// SPDX-License-Identifier: Apache-2.0
// Reading the index of a sharded folder, and comparing it with what the shards hold.
#include "vm/store/index.h"

#include <string.h>

#include "vm/base/text.h"
#include "vm/store/sort.h"

static tarn_status syntax(const tarn_json *j, const char *path, tarn_error *err) {
    TARN_RAISE(err, "IndexFormat", "%s: %s at byte %zu", path, j->fault, j->fault_at);
}

static tarn_status twice(const char *path, const char *key, size_t len, tarn_error *err) {
    tarn_shown shown;
    TARN_RAISE(err, "DuplicateKey", "%s: '%s' is given twice", path,
               tarn_show_name(shown, key, len));
}

// A shard is a plain name: it cannot leave the folder (links are the opener's affair).
static bool is_plain(const tarn_json_string *s) {
    return s->len > 0 && s->len <= 255 && !memchr(s->s, '/', s->len) &&
           !memchr(s->s, '\\', s->len) && !memchr(s->s, '\0', s->len) && !tarn_json_is(s, ".", 1) &&
           !tarn_json_is(s, "..", 2);
}

static tarn_status grow(tarn_index *x, tarn_error *err) {
    int64_t room = x->room ? x->room * 2 : 1024;
    tarn_index_entry *e = tarn_store_alloc(x->budget, (uint64_t)room, sizeof *e, "the index", err);
    if (!e) {
        return TARN_NOMEM;
    }
    if (x->count > 0) {
        memcpy(e, x->entry, (size_t)x->count * sizeof *e);
    }
    tarn_free(x->budget, x->entry, (size_t)x->room * sizeof *e);
    x->entry = e;
    x->room = room;
    return TARN_OK;
}

static tarn_status parse_map(tarn_index *x, tarn_json *j, const char *path, tarn_error *err) {
    tarn_shown tensor, shard;
    tarn_json_open(j, '{');
    for (bool first = true; tarn_json_next(j, '}', &first);) {
        tarn_index_entry e = {.file = -1};
        if (!tarn_json_key(j, &e.name) || !tarn_json_text(j, &e.shard)) {
            break;
        }
        if (!is_plain(&e.shard)) {
            TARN_RAISE(err, "IndexPath",
                       "%s: tensor '%s' is mapped to '%s', before byte %zu: a shard has to be a "
                       "plain file name in the same folder",
                       path, tarn_show_name(tensor, e.name.s, e.name.len),
                       tarn_show_name(shard, e.shard.s, e.shard.len), j->at);
        }
        if (x->count == TARN_TENSORS_MAX) {
            TARN_RAISE(err, "LimitExceeded", "%s: weight_map holds more than %d tensors", path,
                       TARN_TENSORS_MAX);
        }
        TARN_TRY(x->count < x->room ? TARN_OK : grow(x, err));
        x->entry[x->count++] = e;
    }
    return j->fault ? syntax(j, path, err) : TARN_OK;
}

static tarn_status parse_metadata(tarn_index *x, tarn_json *j, const char *path, tarn_error *err) {
    if (tarn_json_peek(j) == 'n') {
        return tarn_json_null(j) ? TARN_OK : syntax(j, path, err);
    }
    tarn_json_open(j, '{');
    for (bool first = true; tarn_json_next(j, '}', &first);) {
        tarn_json_string key;
        if (!tarn_json_key(j, &key)) {
            break;
        }
        if (!tarn_json_is(&key, "total_size", 10)) {
            tarn_json_skip(j);
            continue;
        }
        if (x->has_total != TARN_TOTAL_ABSENT) {
            return twice(path, key.s, key.len, err);
        }
        // Anything but a plain number only earns the warning that a wrong one does.
        tarn_json at = *j;
        x->has_total = tarn_json_u64(&at, &x->total) ? TARN_TOTAL_KNOWN : TARN_TOTAL_ODD;
        tarn_json_skip(j);
    }
    return j->fault ? syntax(j, path, err) : TARN_OK;
}

static int order_names(const void *arg, uint32_t a, uint32_t b) {
    const tarn_index_entry *e = arg;
    return tarn_compare_names(e[a].name.s, e[a].name.len, e[b].name.s, e[b].name.len);
}

static int order_shards(const void *arg, uint32_t a, uint32_t b) {
    const tarn_index_entry *e = arg;
    return tarn_compare_names(e[a].shard.s, e[a].shard.len, e[b].shard.s, e[b].shard.len);
}

static tarn_status check_names(const tarn_index *x, const uint32_t *index, const char *path,
                               tarn_error *err) {
    for (int64_t i = 1; i < x->count; i++) {
        if (order_names(x->entry, index[i - 1], index[i]) == 0) {
            const tarn_json_string *name = &x->entry[index[i]].name;
            return twice(path, name->s, name->len, err);
        }
    }
    return TARN_OK;
}

// Numbers the shards in byte order of their names.
static tarn_status number_shards(tarn_index *x, const uint32_t *index, const char *path,
                                 tarn_error *err) {
    int n = 0;
    for (int64_t i = 0; i < x->count; i++) {
        n += i == 0 || order_shards(x->entry, index[i - 1], index[i]) != 0;
    }
    if (n > TARN_SHARDS_MAX) {
        TARN_RAISE(err, "LimitExceeded", "%s: names %d shards (limit %d)", path, n,
                   TARN_SHARDS_MAX);
    }
    x->file = tarn_store_alloc(x->budget, (uint64_t)n, sizeof *x->file, "the index", err);
    if (!x->file) {
        return TARN_NOMEM;
    }
    x->nfiles = n;
    int file = -1;
    for (int64_t i = 0; i < x->count; i++) {
        tarn_index_entry *e = &x->entry[index[i]];
        if (i == 0 || order_shards(x->entry, index[i - 1], index[i]) != 0) {
            x->file[++file] = e->shard.s;
        }
        e->file = file;
    }
    return TARN_OK;
}

static tarn_status check_map(tarn_index *x, const char *path, tarn_error *err) {
    if (x->count == 0) {
        TARN_RAISE(err, "IndexFormat", "%s: weight_map names no tensor", path);
    }
    size_t n = (size_t)x->count;
    uint32_t *index = tarn_store_alloc(x->budget, 2 * n, sizeof *index, "the index", err);
    if (!index) {
        return TARN_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        index[i] = (uint32_t)i;
    }
    tarn_sort_indices(index, n, index + n, order_names, x->entry);
    tarn_status s = check_names(x, index, path, err);
    if (s == TARN_OK) {
        tarn_sort_indices(index, n, index + n, order_shards, x->entry);
        s = number_shards(x, index, path, err);
    }
    tarn_free(x->budget, index, 2 * n * sizeof *index);
    return s;
}

tarn_status tarn_index_parse(tarn_index *x, tarn_budget *b, const char *path, char *text, size_t n,
                             tarn_error *err) {
    memset(x, 0, sizeof *x);
    x->budget = b;
    if (!tarn_utf8_valid(text, n)) {
        TARN_RAISE(err, "IndexFormat", "%s: not valid UTF-8", path);
    }
    tarn_json j = tarn_json_of(text, n);
    bool has_map = false, has_metadata = false;
    tarn_json_open(&j, '{');
    for (bool first = true; tarn_json_next(&j, '}', &first);) {
        tarn_json_string key;
        if (!tarn_json_key(&j, &key)) {
            break;
        }
        bool map = tarn_json_is(&key, "weight_map", 10), meta = tarn_json_is(&key, "metadata", 8);
        if ((map && has_map) || (meta && has_metadata)) {
            return twice(path, key.s, key.len, err);
        }
        has_map = has_map || map;
        has_metadata = has_metadata || meta;
        if (map) {
            TARN_TRY(parse_map(x, &j, path, err));
        } else if (meta) {
            TARN_TRY(parse_metadata(x, &j, path, err));
        } else {
            tarn_json_skip(&j);
        }
    }
    if (!tarn_json_end(&j)) {
        return syntax(&j, path, err);
    }
    if (!has_map) {
        TARN_RAISE(err, "IndexFormat", "%s: there is no weight_map", path);
    }
    return check_map(x, path, err);
}

void tarn_index_free(tarn_index *x) {
    tarn_free(x->budget, x->entry, (size_t)x->room * sizeof *x->entry);
    tarn_free(x->budget, x->file, (size_t)x->nfiles * sizeof *x->file);
}

tarn_status tarn_index_check(const tarn_index *x, const tarn_table *t, const char *path,
                             tarn_index_finding *found, tarn_error *err) {
    bool *mapped = tarn_alloc_zero(t->budget, (size_t)t->count);
    if (!mapped) {
        return tarn_raise_nomem(err, "the index", (size_t)t->count);
    }
    tarn_status s = TARN_OK;
    for (int64_t i = 0; i < x->count && s == TARN_OK; i++) {
        const tarn_index_entry *e = &x->entry[i];
        int64_t row = tarn_table_find(t, e->name.s, e->name.len);
        tarn_shown shown;
        if (row < 0) {
            s = tarn_raise(err, "MissingTensor", "%s: tensor '%s' is mapped to %s, which lacks it",
                           path, tarn_show_name(shown, e->name.s, e->name.len), e->shard.s);
        } else if (t->row[row].file != e->file) {
            s = tarn_raise(err, "MissingTensor", "%s: tensor '%s' is mapped to %s but lies in %s",
                           path, tarn_show_name(shown, e->name.s, e->name.len), e->shard.s,
                           x->file[t->row[row].file]);
        } else {
            mapped[row] = true;
        }
    }
    *found = (tarn_index_finding){0};
    for (int64_t i = t->count - 1; i >= 0 && s == TARN_OK; i--) {
        if (mapped[i]) {
            found->bytes += t->row[i].bytes;
        } else {
            found->unmapped++;
            found->first = i;
        }
    }
    tarn_free(t->budget, mapped, (size_t)t->count);
    return s;
}
