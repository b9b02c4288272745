// SPDX-License-Identifier: Apache-2.0
// From a path to a store: which files belong to a checkpoint, their headers in one table, and the
// tensors as sources. A source lives inside its store, so that a tensor has one source however
// often it is asked for, and expressions over it can be shared.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/base/digest.h"
#include "vm/base/text.h"
#include "vm/store/input.h"
#include "vm/store/index.h"
#include "vm/store/sort.h"

typedef struct stored_source {
    tarn_source source;
    tarn_store *store;
} stored_source;

enum { WARNINGS_MAX = 3 };  // one of each kind

struct tarn_store {
    atomic_size_t references;
    tarn_context *cx;
    bool strict;
    bool sealed;  // a header without its file
    const char *path, *folder;
    tarn_table table;
    stored_source *source;  // [table.count]
    int nfiles;
    tarn_input *file;
    int nwarnings;
    struct {
        const char *code, *message;
    } warning[WARNINGS_MAX];
};

static const char INDEX[] = "model.safetensors.index.json";
static const char SINGLE[] = "model.safetensors";

// ---- small things ----

// "folder/name" in the store's arena; NULL with OutOfMemory raised.
static const char *join(tarn_store *s, const char *folder, const char *name, tarn_error *err) {
    size_t a = strlen(folder), b = strlen(name);
    bool slash = a > 0 && folder[a - 1] != '/';
    char *p = tarn_arena_take(&s->table.arena, a + b + 2);
    if (!p) {
        tarn_raise_nomem(err, "a path", a + b + 2);
        return NULL;
    }
    memcpy(p, folder, a);
    memcpy(p + a, "/", 1);
    memcpy(p + a + slash, name, b + 1);
    return p;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && memcmp(s + n - m, end, m) == 0;
}

// Keeps a warning; in strict mode it is an error.
static tarn_status TARN_PRINTF(4, 5)
    warn(tarn_store *s, tarn_error *err, const char *code, const char *fmt, ...) {
    char message[sizeof err->message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (s->strict) {
        TARN_RAISE(err, code, "%s", message);
    }
    const char *kept = tarn_arena_string(&s->table.arena, message, strlen(message));
    if (!kept) {
        return tarn_raise_nomem(err, "a warning", strlen(message));
    }
    s->warning[s->nwarnings].code = code;
    s->warning[s->nwarnings++].message = kept;
    return TARN_OK;
}

// ---- headers ----

static tarn_status refuse_length(const tarn_input *f, uint64_t n, tarn_error *err) {
    static const char lfs[] = "version https://git-lfs";
    char head[sizeof lfs - 1] = {0};
    size_t have = f->size < sizeof head ? (size_t)f->size : sizeof head;
    if (tarn_input_read(f, 0, have, head, NULL) == TARN_OK && memcmp(head, lfs, sizeof head) == 0) {
        TARN_RAISE(err, "LfsPointer",
                   "%s: is a Git LFS pointer, not the model itself: fetch it with git lfs pull",
                   f->path);
    }
    static const char *const kinds[][2] = {
        {"PK\003\004", "a PyTorch checkpoint, or another zip file"},
        {"\200\002\212\012l\374\234", "a PyTorch checkpoint in the old form"},
        {"GGUF", "a GGUF file"},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (memcmp(head, kinds[k][0], strlen(kinds[k][0])) == 0) {
            TARN_RAISE(err, "HeaderTooLarge", "%s: is %s; tarn reads safetensors only", f->path,
                       kinds[k][1]);
        }
    }
    if (n > TARN_HEADER_MAX) {
        TARN_RAISE(
            err, "HeaderTooLarge",
            "%s: bytes 0 to 7 announce a header of %llu bytes (limit %llu): not a safetensors "
            "file, or a damaged one",
            f->path, (unsigned long long)n, (unsigned long long)TARN_HEADER_MAX);
    }
    TARN_RAISE(err, "InvalidHeaderLength",
               "%s: bytes 0 to 7 announce a header of %llu bytes, the file has only %llu", f->path,
               (unsigned long long)n, (unsigned long long)f->size);
}

static tarn_status read_header(tarn_store *s, int file, tarn_error *err) {
    const tarn_input *f = &s->file[file];
    if (f->size < 8) {
        TARN_RAISE(err, "HeaderTooSmall", "%s: has %llu bytes, a safetensors file has at least 8",
                   f->path, (unsigned long long)f->size);
    }
    unsigned char b[8];
    TARN_TRY(tarn_input_read(f, 0, 8, b, err));
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) {
        n = n << 8 | b[i];
    }
    if (n > TARN_HEADER_MAX || n > f->size - 8) {
        return refuse_length(f, n, err);
    }
    tarn_budget *budget = &s->cx->budget;
    char *text = tarn_store_alloc(budget, n, 1, "a header", err);
    if (!text) {
        return TARN_NOMEM;
    }
    tarn_status status = tarn_input_read(f, 8, n, text, err);
    if (status == TARN_OK) {
        status = tarn_header_parse(&s->table, file, f->path, text, n, f->size, err);
    }
    tarn_free(budget, text, n);
    return status;
}

static tarn_status reserve_files(tarn_store *s, int n, tarn_error *err) {
    s->file = tarn_store_alloc(&s->cx->budget, (uint64_t)n, sizeof *s->file, "files", err);
    if (!s->file) {
        return TARN_NOMEM;
    }
    s->nfiles = n;
    for (int i = 0; i < n; i++) {
        s->file[i] = (tarn_input){.fd = -1};
    }
    return TARN_OK;
}

static tarn_status check_unknown(tarn_store *s, tarn_error *err) {
    const tarn_table *t = &s->table;
    if (t->nunknown == 0) {
        return TARN_OK;
    }
    return warn(s, err, "UnknownField", "%s: the header holds %lld unknown fields, the first: %s",
                s->path, (long long)t->nunknown, t->unknown);
}

// ---- one file ----

static tarn_status open_single(tarn_store *s, int dir, const char *name, const char *path,
                               tarn_error *err) {
    TARN_TRY(reserve_files(s, 1, err));
    TARN_TRY(tarn_input_open(&s->file[0], dir, name, path, s->strict && dir != AT_FDCWD, err));
    return read_header(s, 0, err);
}

// ---- shards ----

// A tensor in two shards. The names are sorted, and each shard holds a name once.
static tarn_status check_doubles(const tarn_store *s, tarn_error *err) {
    const tarn_table *t = &s->table;
    for (int64_t i = 1; i < t->count; i++) {
        const tarn_store_tensor *a = &t->row[t->by_name[i - 1]], *b = &t->row[t->by_name[i]];
        if (tarn_compare_names(a->name, a->name_len, b->name, b->name_len) == 0) {
            tarn_shown shown;
            TARN_RAISE(err, "DuplicateTensor", "%s: tensor '%s' is also in %s",
                       s->file[b->file].path, tarn_show_name(shown, b->name, b->name_len),
                       s->file[a->file].path);
        }
    }
    return TARN_OK;
}

static tarn_status compare_index(tarn_store *s, const tarn_index *x, const char *path,
                                 tarn_error *err) {
    tarn_index_finding found;
    TARN_TRY(check_doubles(s, err));
    TARN_TRY(tarn_index_check(x, &s->table, path, &found, err));
    if (found.unmapped > 0) {
        tarn_shown shown;
        const tarn_store_tensor *r = &s->table.row[found.first];
        TARN_TRY(warn(s, err, "UnmappedTensor",
                      "%s: does not list %lld of the tensors in its shards, the first: '%s' in %s",
                      path, (long long)found.unmapped, tarn_show_name(shown, r->name, r->name_len),
                      x->file[r->file]));
    }
    unsigned long long total = found.bytes;
    if (x->has_total == TARN_TOTAL_ODD) {
        return warn(s, err, "TotalSize",
                    "%s: total_size is not a whole number (the tensors have %llu bytes)", path,
                    total);
    }
    if (x->has_total == TARN_TOTAL_KNOWN && x->total != found.bytes) {
        return warn(s, err, "TotalSize", "%s: total_size is %llu, the tensors have %llu bytes",
                    path, (unsigned long long)x->total, total);
    }
    return TARN_OK;
}

static tarn_status open_shards(tarn_store *s, int dir, const tarn_index *x, tarn_error *err) {
    TARN_TRY(reserve_files(s, x->nfiles, err));
    for (int i = 0; i < x->nfiles; i++) {
        const char *path = join(s, s->folder, x->file[i], err);
        if (!path) {
            return TARN_NOMEM;
        }
        TARN_TRY(tarn_cancel_check(&s->cx->cancel, err));
        tarn_status status = tarn_input_open(&s->file[i], dir, x->file[i], path, s->strict, err);
        if (status != TARN_OK && err && strcmp(err->code, "NotFound") == 0) {
            TARN_RAISE(err, "MissingShard", "%s: the index names this file, but it is not there",
                       path);
        }
        TARN_TRY(status);
        TARN_TRY(read_header(s, i, err));
    }
    return tarn_table_sort(&s->table, err);
}

static tarn_status open_index_text(tarn_store *s, int dir, const char *path, char *text, size_t n,
                                   tarn_error *err) {
    tarn_index x;
    tarn_status status = tarn_index_parse(&x, &s->cx->budget, path, text, n, err);
    if (status == TARN_OK) {
        status = open_shards(s, dir, &x, err);
    }
    if (status == TARN_OK) {
        status = compare_index(s, &x, path, err);
    }
    tarn_index_free(&x);
    return status;
}

static tarn_status open_sharded(tarn_store *s, int dir, const char *name, const char *path,
                                tarn_error *err) {
    tarn_input f;
    TARN_TRY(tarn_input_open(&f, dir, name, path, s->strict, err));
    char *text = NULL;
    tarn_status status = TARN_OK;
    if (f.size > TARN_HEADER_MAX) {
        status = tarn_raise(err, "LimitExceeded", "%s: has %llu bytes (limit %llu)", path,
                            (unsigned long long)f.size, (unsigned long long)TARN_HEADER_MAX);
    } else {
        text = tarn_store_alloc(&s->cx->budget, f.size, 1, "the index", err);
        status = text ? tarn_input_read(&f, 0, f.size, text, err) : TARN_NOMEM;
    }
    tarn_input_close(&f);
    if (status == TARN_OK) {
        status = open_index_text(s, dir, path, text, f.size, err);
    }
    tarn_free(&s->cx->budget, text, f.size);
    return status;
}

// ---- folders ----

typedef struct listing {
    int weights, indexes, foreign;
    char weight[256], index[256], other[256];  // the last one met of each kind
} listing;

static void list_folder(int dir, listing *l) {
    memset(l, 0, sizeof *l);
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again >= 0 ? fdopendir(again) : NULL;
    if (!d) {
        if (again >= 0) {
            close(again);
        }
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') {
            continue;  // what a stopped writer left, editors' files
        }
        if (ends_with(e->d_name, ".safetensors")) {
            l->weights++;
            snprintf(l->weight, sizeof l->weight, "%s", e->d_name);
        } else if (ends_with(e->d_name, ".safetensors.index.json")) {
            l->indexes++;
            snprintf(l->index, sizeof l->index, "%s", e->d_name);
        } else if (ends_with(e->d_name, ".bin") || ends_with(e->d_name, ".gguf") ||
                   ends_with(e->d_name, ".pt") || ends_with(e->d_name, ".pth") ||
                   ends_with(e->d_name, ".ckpt")) {
            l->foreign++;
            snprintf(l->other, sizeof l->other, "%s", e->d_name);
        }
    }
    closedir(d);
}

static tarn_status no_model(const tarn_store *s, const listing *l, tarn_error *err) {
    if (l->weights > 1 || l->indexes > 1) {
        TARN_RAISE(err, "AmbiguousModel",
                   "%s: holds %d .safetensors files and no %s that says how they belong together; "
                   "name one of the files",
                   s->path, l->weights, INDEX);
    }
    if (l->foreign > 0) {
        TARN_RAISE(err, "NotAModel",
                   "%s: holds no .safetensors file; %s is of a kind that tarn does not read",
                   s->path, l->other);
    }
    TARN_RAISE(err, "NotAModel", "%s: holds no .safetensors file", s->path);
}

static tarn_status open_folder(tarn_store *s, int dir, tarn_error *err) {
    listing l;
    const char *name = NULL;
    bool sharded = false;
    if (faccessat(dir, SINGLE, F_OK, 0) == 0) {
        name = SINGLE;
    } else if (faccessat(dir, INDEX, F_OK, 0) == 0) {
        name = INDEX;
        sharded = true;
    } else {
        list_folder(dir, &l);
        sharded = l.indexes == 1;
        if (!sharded && l.weights != 1) {
            return no_model(s, &l, err);
        }
        name = sharded ? l.index : l.weight;
    }
    const char *path = join(s, s->folder, name, err);
    if (!path) {
        return TARN_NOMEM;
    }
    return sharded ? open_sharded(s, dir, name, path, err) : open_single(s, dir, name, path, err);
}

enum { LISTED = 4096 };  // names of a folder that a suggestion looks at

static const char *next_listed(void *arg, size_t i) { return ((const char *const *)arg)[i]; }

// Of a path that leads nowhere: the entry that was probably meant in the last folder that exists.
static const char *near_path(tarn_store *s, tarn_error *err) {
    size_t n = strlen(s->path), start;
    struct stat st;
    char *folder;
    do {  // the shortest beginning that is not there: its folder is, or is the root
        while (n > 0 && s->path[n - 1] == '/') {
            n--;
        }
        for (start = n; start > 0 && s->path[start - 1] != '/'; start--) {
        }
        folder = tarn_arena_string(&s->table.arena, start ? s->path : ".", start ? start : 1);
        n = start;
    } while (folder && start > 0 && stat(folder, &st) != 0);
    const char **names = tarn_arena_take(&s->table.arena, (LISTED + 1) * sizeof *names);
    DIR *d = folder && names ? opendir(folder) : NULL;
    if (!d) {
        return NULL;
    }
    int count = 0;
    for (const struct dirent *e; count < LISTED && (e = readdir(d)) != NULL;) {
        names[count] = e->d_name[0] == '.' ? NULL : tarn_arena_string(&s->table.arena, e->d_name, strlen(e->d_name));
        count += names[count] != NULL;
    }
    closedir(d);
    names[count] = NULL;
    size_t len = strcspn(s->path + start, "/");
    const char *word = tarn_arena_string(&s->table.arena, s->path + start, len);
    const char *near = word ? tarn_nearest(word, next_listed, (void *)names) : NULL;
    return near ? join(s, start ? folder : "", near, err) : NULL;
}

static tarn_status open_path(tarn_store *s, tarn_error *err) {
    struct stat st;
    if (stat(s->path, &st) != 0) {
        int why = errno;
        bool absent = why == ENOENT || why == ENOTDIR;
        const char *near = absent ? near_path(s, err) : NULL;
        TARN_RAISE(err, absent ? "NotFound" : "OpenFailed", "%s: %s%s%s%s", s->path,
                   absent ? "there is no such file or folder" : strerror(why), near ? "; did you mean " : "",
                   near ? near : "", near ? "?" : "");
    }
    bool is_folder = S_ISDIR(st.st_mode);
    const char *slash = strrchr(s->path, '/');
    if (is_folder) {
        s->folder = s->path;
    } else {
        size_t n = !slash ? 0 : slash == s->path ? 1 : (size_t)(slash - s->path);
        s->folder = tarn_arena_string(&s->table.arena, slash ? s->path : ".", slash ? n : 1);
        if (!s->folder) {
            return tarn_raise_nomem(err, "a path", n);
        }
        if (!ends_with(s->path, ".index.json")) {
            return open_single(s, AT_FDCWD, s->path, s->path, err);
        }
    }
    int dir = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        TARN_RAISE(err, "OpenFailed", "%s: %s", s->folder, strerror(errno));
    }
    tarn_status status = is_folder ? open_folder(s, dir, err)
                                   : open_sharded(s, dir, slash ? slash + 1 : s->path, s->path, err);
    close(dir);
    return status;
}

// ---- sources ----

static const stored_source *stored(const tarn_source *s) { return (const stored_source *)s; }

static tarn_status read_source(const tarn_source *s, uint64_t at, uint64_t n, void *dst,
                               tarn_error *err) {
    const tarn_store *store = stored(s)->store;
    const tarn_store_tensor *r = &store->table.row[stored(s) - store->source];
    if (store->sealed) {
        tarn_shown shown;
        TARN_RAISE(err, "DataNotHere",
                   "tensor '%s' of %s: only names, dtypes and shapes are known here, not the data",
                   tarn_show_name(shown, r->name, r->name_len), store->path);
    }
    tarn_status status = tarn_input_read(&store->file[r->file], r->begin + at, n, dst, err);
    if (status != TARN_OK) {
        tarn_shown shown;
        tarn_error_prefix(err, "tensor '%s'", tarn_show_name(shown, r->name, r->name_len));
    }
    return status;
}

static bool identity_of_source(const tarn_source *s, unsigned char out[32]) {
    const tarn_store *store = stored(s)->store;
    const tarn_store_tensor *r = &store->table.row[stored(s) - store->source];
    const tarn_input *f = &store->file[r->file];
    if (store->sealed || !f->settled) {
        return false;
    }
    const uint64_t id[] = {f->device, f->inode, f->size, (uint64_t)f->mtime, r->begin, r->bytes, r->dtype};
    tarn_sha256_of(id, sizeof id, out);
    return true;
}

static void retain(tarn_store *s) { atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed); }
static void retain_source(const tarn_source *s) { retain(stored(s)->store); }
static void release_source(const tarn_source *s) { tarn_store_release(stored(s)->store); }

static tarn_status make_sources(tarn_store *s, tarn_error *err) {
    const tarn_table *t = &s->table;
    s->source =
        tarn_store_alloc(&s->cx->budget, (uint64_t)t->count, sizeof *s->source, "tensors", err);
    if (!s->source) {
        return TARN_NOMEM;
    }
    for (int64_t i = 0; i < t->count; i++) {
        const tarn_store_tensor *r = &t->row[i];
        s->source[i] = (stored_source){
            .source = {.name = r->name,
                       .where = s->file[r->file].path,
                       .dtype = r->dtype,
                       .rank = r->rank,
                       .shape = r->shape,
                       .numel = r->numel,
                       .bytes = r->bytes,
                       .read = read_source,
                       .identity = identity_of_source,
                       .retain = retain_source,
                       .release = release_source},
            .store = s,
        };
    }
    return TARN_OK;
}

// ---- the store ----

static void free_store(tarn_store *s) {
    for (int i = 0; i < s->nfiles; i++) {
        tarn_input_close(&s->file[i]);
    }
    tarn_budget *b = &s->cx->budget;
    tarn_free(b, s->file, (size_t)s->nfiles * sizeof *s->file);
    tarn_free(b, s->source, (size_t)s->table.count * sizeof *s->source);
    tarn_table_free(&s->table);
    tarn_free(b, s, sizeof *s);
}

tarn_status tarn_store_open(tarn_context *cx, const char *path, const tarn_store_options *o,
                            tarn_store **out, tarn_error *err) {
    *out = NULL;
    tarn_store *s = tarn_alloc_zero(&cx->budget, sizeof *s);
    if (!s) {
        return tarn_raise_nomem(err, path, sizeof *s);
    }
    s->cx = cx;
    s->strict = o && o->strict;
    atomic_init(&s->references, 1);
    tarn_table_init(&s->table, &cx->budget);
    s->path = tarn_arena_string(&s->table.arena, path, strlen(path));
    tarn_status status = s->path ? open_path(s, err) : tarn_raise_nomem(err, path, strlen(path));
    if (status == TARN_OK) {
        status = check_unknown(s, err);
    }
    if (status == TARN_OK) {
        status = make_sources(s, err);
    }
    if (status != TARN_OK) {
        free_store(s);
        return status;
    }
    *out = s;
    return TARN_OK;
}

// One file that is never open. Its size follows from the header, which is proved against it.
static tarn_status open_header(tarn_store *s, char *text, size_t n, uint64_t data, tarn_error *err) {
    s->path = s->path ? tarn_arena_string(&s->table.arena, s->path, strlen(s->path)) : NULL;
    if (!s->path) {
        return tarn_raise_nomem(err, "a header", n);
    }
    s->folder = s->path;
    TARN_TRY(reserve_files(s, 1, err));
    s->file[0].path = s->path;
    TARN_TRY(tarn_header_parse(&s->table, 0, s->path, text, n, 8 + n + data, err));
    return make_sources(s, err);
}

tarn_status tarn_store_of_header(tarn_context *cx, const char *name, char *text, size_t n,
                                 uint64_t data, tarn_store **out, tarn_error *err) {
    *out = NULL;
    tarn_store *s = tarn_alloc_zero(&cx->budget, sizeof *s);
    if (!s) {
        return tarn_raise_nomem(err, name, sizeof *s);
    }
    s->cx = cx;
    s->sealed = true;
    s->path = name;
    atomic_init(&s->references, 1);
    tarn_table_init(&s->table, &cx->budget);
    tarn_status status = open_header(s, text, n, data, err);
    if (status != TARN_OK) {
        free_store(s);
        return status;
    }
    *out = s;
    return TARN_OK;
}

uint64_t tarn_store_header(const tarn_store *s, tarn_text *out) {
    uint64_t at = 0;
    tarn_text_puts(out, "{");
    for (int64_t i = 0; i < s->table.count; i++) {
        const tarn_store_tensor *r = &s->table.row[i];
        tarn_text_puts(out, i ? "," : "");
        tarn_text_json(out, r->name, r->name_len);
        tarn_text_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", tarn_dtype_get(r->dtype)->code);
        for (int d = 0; d < r->rank; d++) {
            tarn_text_printf(out, "%s%lld", d ? "," : "", (long long)r->shape[d]);
        }
        tarn_text_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                         (unsigned long long)(at + r->bytes));
        at += r->bytes;
    }
    tarn_text_puts(out, "}");
    return at;
}

void tarn_store_release(tarn_store *s) {
    if (s && atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) == 1) {
        free_store(s);
    }
}

int64_t tarn_store_count(const tarn_store *s) { return s->table.count; }
const tarn_store_tensor *tarn_store_at(const tarn_store *s, int64_t i) { return &s->table.row[i]; }
int64_t tarn_store_find(const tarn_store *s, const char *name, size_t len) {
    return tarn_table_find(&s->table, name, len);
}
const tarn_source *tarn_store_source(tarn_store *s, int64_t i) {
    retain(s);
    return &s->source[i].source;
}

const char *tarn_store_folder(const tarn_store *s) { return s->folder; }
int tarn_store_files(const tarn_store *s) { return s->nfiles; }
const char *tarn_store_file(const tarn_store *s, int i) { return s->file[i].path; }
void tarn_store_file_id(const tarn_store *s, int i, uint64_t id[4]) {
    const tarn_input *f = &s->file[i];
    id[0] = f->device;
    id[1] = f->inode;
    id[2] = f->size;
    id[3] = (uint64_t)f->mtime;
}

int tarn_store_meta_count(const tarn_store *s) { return (int)s->table.nmeta; }
void tarn_store_meta(const tarn_store *s, int i, const char **key, const char **value) {
    *key = s->table.meta[i].key;
    *value = s->table.meta[i].value;
}

int tarn_store_warnings(const tarn_store *s) { return s->nwarnings; }
void tarn_store_warning(const tarn_store *s, int i, const char **code, const char **message) {
    *code = s->warning[i].code;
    *message = s->warning[i].message;
}

tarn_status tarn_store_check(const tarn_store *s, tarn_error *err) {
    for (int i = 0; i < s->nfiles; i++) {
        TARN_TRY(tarn_input_check(&s->file[i], err));
    }
    return TARN_OK;
}
