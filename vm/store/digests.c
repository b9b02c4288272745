// SPDX-License-Identifier: Apache-2.0
// The memory of digests is a folder ($XDG_CACHE_HOME/tarn/digests) of one small file per checkpoint
// file, named by device and inode, so that a changed file replaces its own entry. An entry counts
// only when all of it fits: size and time of the file, a hash of its header's tensors, a checksum
// of the entry. Whatever goes wrong with the memory, digests are computed; nothing here is an
// error.
//
// A file changed within two seconds before it was hashed is not remembered: it could change again
// within the grain of its time stamp.
#include "vm/store/digests.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vm/store/file.h"
#include "vm/store/sort.h"

enum { READ = 1 << 18 };  // bytes read at once: what stays in the core's cache until it is hashed
static const uint64_t fresh = 2000000000;  // ns

// ---- lines ----

void tarn_digest_line(tarn_sha256 *h, tarn_text *line, const char *name, size_t name_len,
                      tarn_dtype dtype, int rank, const int64_t *shape,
                      const unsigned char *digest) {
    line->len = 0;
    size_t from = 0;
    for (size_t i = 0; i < name_len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == '\\') {
            tarn_text_add(line, name + from, i - from);
            tarn_text_printf(line, "\\x%02x", c);
            from = i + 1;
        }
    }
    tarn_text_add(line, name + from, name_len - from);
    tarn_text_printf(line, "\t%s\t[", tarn_dtype_get(dtype)->code);
    for (int d = 0; d < rank; d++) {
        tarn_text_printf(line, d > 0 ? ",%" PRId64 : "%" PRId64, shape[d]);
    }
    tarn_text_puts(line, "]");
    if (digest) {
        char hex[65];
        tarn_hex(digest, 32, hex);
        tarn_text_printf(line, "\t%s", hex);
    }
    tarn_text_puts(line, "\n");
    tarn_sha256_add(h, line->data, line->len);
}

static int by_name(const void *store, uint32_t a, uint32_t b) {
    const tarn_store_tensor *x = tarn_store_at(store, a), *y = tarn_store_at(store, b);
    return tarn_compare_names(x->name, x->name_len, y->name, y->name_len);
}

tarn_status tarn_digest_model(tarn_context *cx, const tarn_store *s, unsigned char (*digests)[32],
                              unsigned char out[32], tarn_error *err) {
    size_t n = (size_t)tarn_store_count(s), room = 2 * n * sizeof(uint32_t);
    uint32_t *order = tarn_alloc(&cx->budget, room);
    if (!order) {
        return tarn_raise_nomem(err, "a digest", room);
    }
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
    }
    tarn_sort_indices(order, n, order + n, by_name, s);
    tarn_text line;
    tarn_text_init(&line, &cx->budget);
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    for (size_t i = 0; i < n; i++) {
        const tarn_store_tensor *t = tarn_store_at(s, order[i]);
        tarn_digest_line(&h, &line, t->name, t->name_len, t->dtype, t->rank, t->shape,
                         digests ? digests[order[i]] : NULL);
    }
    bool failed = line.failed;
    tarn_sha256_end(&h, out);
    tarn_text_free(&line);
    tarn_free(&cx->budget, order, room);
    return failed ? tarn_raise_nomem(err, "a digest", 0) : TARN_OK;
}

// ---- the memory ----

// Tensors of one file: rows first … last - 1 of the store.
typedef struct {
    int64_t first, last;
    uint64_t bytes;
    uint64_t id[4];  // device, inode, size, mtime in ns
    unsigned char header[32];
} stored_file;

typedef struct {
    char magic[8];
    uint64_t id[4];
    unsigned char header[32];
    uint64_t count;
} entry_head;  // then [count][32] digests, then the SHA-256 of all before

static const char magic[8] = {'t', 'a', 'r', 'n', 'd', 'i', 'g', '1'};

// The folder's path, made on the way when `make`; false when there is no place for it.
static bool memory_folder(tarn_text *path, bool make) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    path->len = 0;
    if (cache && cache[0] == '/') {
        tarn_text_puts(path, cache);
    } else if (home && home[0] == '/') {
        tarn_text_puts(path, home);
        tarn_text_puts(path, "/.cache");
    } else {
        return false;
    }
    static const char *const below[] = {"", "/tarn", "/digests"};
    for (int k = 0; k < 3; k++) {
        tarn_text_puts(path, below[k]);
        if (make && !path->failed && mkdir(path->data, 0700) != 0 && errno != EEXIST) {
            return false;
        }
    }
    return !path->failed;
}

static bool entry_path(tarn_text *path, const stored_file *f, bool make) {
    if (!memory_folder(path, make)) {
        return false;
    }
    tarn_text_printf(path, "/%016" PRIx64 "%016" PRIx64, f->id[0], f->id[1]);
    return !path->failed;
}

static bool use_memory(const tarn_context *cx, const tarn_digests_options *o) {
    const char *env = getenv("TARN_DIGESTS");
    return !(o && o->off) && !cx->rehash && !(env && strcmp(env, "off") == 0);
}

static entry_head head_of(const stored_file *f) {
    entry_head h = {.count = (uint64_t)(f->last - f->first)};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.id, f->id, sizeof h.id);
    memcpy(h.header, f->header, sizeof h.header);
    return h;
}

static bool read_all(int fd, void *p, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t r = read(fd, (char *)p + at, n - at);
        if (r <= 0 && !(r < 0 && errno == EINTR)) {
            return false;
        }
        at += r > 0 ? (size_t)r : 0;
    }
    return true;
}

// Fills out[last - first] when the memory knows this file.
static bool recall(tarn_context *cx, const stored_file *f, unsigned char (*out)[32]) {
    tarn_text path;
    tarn_text_init(&path, &cx->budget);
    int fd = entry_path(&path, f, false) ? open(path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    tarn_text_free(&path);
    if (fd < 0) {
        return false;
    }
    entry_head want = head_of(f), head;
    size_t bytes = (size_t)want.count * 32;
    unsigned char sum[32], stored[32];
    struct stat st;
    bool good = fstat(fd, &st) == 0 && (uint64_t)st.st_size == sizeof head + bytes + 32 &&
                read_all(fd, &head, sizeof head) && memcmp(&head, &want, sizeof head) == 0 &&
                read_all(fd, out, bytes) && read_all(fd, stored, 32);
    close(fd);
    if (good) {
        tarn_sha256 h;
        tarn_sha256_begin(&h);
        tarn_sha256_add(&h, &head, sizeof head);
        tarn_sha256_add(&h, out, bytes);
        tarn_sha256_end(&h, sum);
        good = memcmp(sum, stored, 32) == 0;
    }
    return good;
}

static bool write_entry(int fd, const stored_file *f, unsigned char (*digests)[32]) {
    entry_head head = head_of(f);
    size_t bytes = (size_t)head.count * 32;
    unsigned char sum[32];
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    tarn_sha256_add(&h, &head, sizeof head);
    tarn_sha256_add(&h, digests, bytes);
    tarn_sha256_end(&h, sum);
    return tarn_file_write(fd, 0, &head, sizeof head, false, "", NULL) == TARN_OK &&
           tarn_file_write(fd, sizeof head, digests, bytes, false, "", NULL) == TARN_OK &&
           tarn_file_write(fd, sizeof head + bytes, sum, 32, false, "", NULL) == TARN_OK;
}

// Atomic by rename; not synced: the checksum finds what a power cut leaves.
static void remember(tarn_context *cx, const stored_file *f, unsigned char (*digests)[32]) {
    tarn_text path, temp;
    tarn_text_init(&path, &cx->budget);
    tarn_text_init(&temp, &cx->budget);
    if (entry_path(&path, f, true)) {
        tarn_text_printf(&temp, "%s.XXXXXX", path.data);
        int fd = temp.failed ? -1 : mkostemp(temp.data, O_CLOEXEC);
        if (fd >= 0) {
            bool good = write_entry(fd, f, digests);
            good = close(fd) == 0 && good;
            if (!good || rename(temp.data, path.data) != 0) {
                unlink(temp.data);
            }
        }
    }
    tarn_text_free(&path);
    tarn_text_free(&temp);
}

// ---- computing ----

typedef struct {
    tarn_context *cx;
    tarn_store *store;
    int64_t first, n;          // tensors of the file at hand
    int64_t *piece;            // [n + 1] number of each tensor's first piece
    unsigned char (*sum)[32];  // [pieces]
    unsigned char *buffer;     // [threads][READ]
} hashing;

static tarn_status hash_piece(void *arg, int64_t task, int worker, tarn_error *err) {
    hashing *w = arg;
    int64_t low = 0, high = w->n;  // the last tensor whose first piece is at or before the task
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        *(w->piece[middle] <= task ? &low : &high) = middle;
    }
    const tarn_source *s = tarn_store_source(w->store, w->first + low);
    if (!s) {
        return tarn_raise_nomem(err, "a tensor", 0);
    }
    uint64_t at = (uint64_t)(task - w->piece[low]) * TARN_DIGEST_PIECE;
    uint64_t end = s->bytes - at < TARN_DIGEST_PIECE ? s->bytes : at + TARN_DIGEST_PIECE;
    unsigned char *buffer = w->buffer + (size_t)worker * READ;
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    tarn_status st = TARN_OK;
    while (at < end && st == TARN_OK) {
        uint64_t n = end - at < READ ? end - at : READ;
        st = s->read(s, at, n, buffer, err);
        tarn_sha256_add(&h, buffer, n);
        at += n;
        atomic_fetch_add(&w->cx->progress.done, n);
        if (w->cx->progress.show) {
            w->cx->progress.show(&w->cx->progress);
        }
    }
    tarn_sha256_end(&h, w->sum[task]);
    s->release(s);
    return st;
}

static int64_t pieces_of(const tarn_store_tensor *t) {
    return (int64_t)((t->bytes + TARN_DIGEST_PIECE - 1) / TARN_DIGEST_PIECE);
}

static tarn_status hash_with(hashing *w, int64_t pieces, unsigned char (*out)[32],
                             tarn_error *err) {
    int64_t at = 0;
    for (int64_t i = 0; i < w->n; i++) {
        w->piece[i] = at;
        at += pieces_of(tarn_store_at(w->store, w->first + i));
    }
    w->piece[w->n] = at;
    TARN_TRY(tarn_pool_run(w->cx->pool, pieces, hash_piece, w, &w->cx->cancel, err));
    for (int64_t i = 0; i < w->n; i++) {
        tarn_sha256 h;
        tarn_sha256_begin(&h);
        tarn_sha256_add(&h, w->sum + w->piece[i], (size_t)(w->piece[i + 1] - w->piece[i]) * 32);
        tarn_sha256_end(&h, out[i]);
    }
    return TARN_OK;
}

static tarn_status hash_file(tarn_context *cx, tarn_store *s, const stored_file *f,
                             unsigned char (*out)[32], tarn_error *err) {
    int64_t pieces = 0;
    for (int64_t i = f->first; i < f->last; i++) {
        pieces += pieces_of(tarn_store_at(s, i));
    }
    hashing w = {.cx = cx, .store = s, .first = f->first, .n = f->last - f->first};
    size_t list = (size_t)(w.n + 1) * sizeof *w.piece, sums = (size_t)pieces * 32;
    size_t buffers = (size_t)tarn_pool_size(cx->pool) * READ;
    w.piece = tarn_alloc(&cx->budget, list);
    w.sum = tarn_alloc(&cx->budget, sums);
    w.buffer = tarn_alloc(&cx->budget, buffers);
    tarn_status st = w.piece && w.sum && w.buffer
                         ? hash_with(&w, pieces, out, err)
                         : tarn_raise_nomem(err, "digests", list + sums + buffers);
    tarn_free(&cx->budget, w.piece, list);
    tarn_free(&cx->budget, w.sum, sums);
    tarn_free(&cx->budget, w.buffer, buffers);
    return st;
}

// ---- files ----

// The rows of file `k`, which begin at row `first`, and what identifies it.
static bool look(tarn_context *cx, const tarn_store *s, int k, int64_t first, stored_file *f) {
    *f = (stored_file){.first = first, .last = first};
    tarn_store_file_id(s, k, f->id);
    tarn_text line;
    tarn_text_init(&line, &cx->budget);
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    for (; f->last < tarn_store_count(s); f->last++) {
        const tarn_store_tensor *t = tarn_store_at(s, f->last);
        if (t->file != k) {
            break;
        }
        f->bytes += t->bytes;
        tarn_digest_line(&h, &line, t->name, t->name_len, t->dtype, t->rank, t->shape, NULL);
        tarn_sha256_add(&h, &t->begin, sizeof t->begin);
    }
    bool good = !line.failed;
    tarn_sha256_end(&h, f->header);
    tarn_text_free(&line);
    return good;
}

// Walks the files; out: digests of the known ones, todo: the others. known[files], may be NULL.
static tarn_status survey(tarn_context *cx, tarn_store *s, const tarn_digests_options *o,
                          unsigned char (*out)[32], tarn_digests_todo *todo, bool *known,
                          tarn_error *err) {
    *todo = (tarn_digests_todo){0};
    bool use = use_memory(cx, o);
    int64_t first = 0;
    for (int k = 0; k < tarn_store_files(s); k++) {
        stored_file f;
        TARN_TRY(tarn_cancel_check(&cx->cancel, err));
        if (!look(cx, s, k, first, &f)) {
            return tarn_raise_nomem(err, "a digest", 0);
        }
        bool found = use && recall(cx, &f, out + first);
        todo->files += !found;
        todo->bytes += found ? 0 : f.bytes;
        if (known) {
            known[k] = found;
        }
        first = f.last;
    }
    return TARN_OK;
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static tarn_status compute(tarn_context *cx, tarn_store *s, bool use, const bool *known,
                           unsigned char (*out)[32], tarn_error *err) {
    int64_t first = 0;
    for (int k = 0; k < tarn_store_files(s); k++) {
        stored_file f;
        if (!look(cx, s, k, first, &f)) {
            return tarn_raise_nomem(err, "a digest", 0);
        }
        if (!known[k]) {
            uint64_t before = now();
            TARN_TRY(hash_file(cx, s, &f, out + first, err));
            TARN_TRY(tarn_store_check(s, err));
            if (use && f.id[3] < before && before - f.id[3] >= fresh) {
                remember(cx, &f, out + first);
            }
        }
        first = f.last;
    }
    return TARN_OK;
}

tarn_status tarn_digests_unknown(tarn_context *cx, tarn_store *s, const tarn_digests_options *o,
                                 tarn_digests_todo *out, tarn_error *err) {
    size_t room = (size_t)tarn_store_count(s) * 32;
    unsigned char(*digests)[32] = tarn_alloc(&cx->budget, room);
    if (!digests) {
        return tarn_raise_nomem(err, "digests", room);
    }
    tarn_status st = survey(cx, s, o, digests, out, NULL, err);
    tarn_free(&cx->budget, digests, room);
    return st;
}

tarn_status tarn_digests_get(tarn_context *cx, tarn_store *s, const tarn_digests_options *o,
                             unsigned char (*out)[32], tarn_error *err) {
    size_t files = (size_t)tarn_store_files(s);
    bool *known = tarn_alloc_zero(&cx->budget, files);
    if (!known) {
        return tarn_raise_nomem(err, "digests", files);
    }
    tarn_digests_todo todo;
    tarn_status st = survey(cx, s, o, out, &todo, known, err);
    if (st == TARN_OK && todo.files > 0) {
        tarn_progress_begin(cx, "hashing", todo.bytes);
        st = compute(cx, s, use_memory(cx, o), known, out, err);
        tarn_progress_end(cx);
    }
    tarn_free(&cx->budget, known, files);
    return st;
}

// ---- looking at the memory ----

bool tarn_digests_on(const tarn_context *cx) { return use_memory(cx, NULL); }

void tarn_digests_forget(tarn_context *cx, const tarn_store *s) {
    tarn_text path;
    tarn_text_init(&path, &cx->budget);
    for (int k = 0; k < tarn_store_files(s); k++) {
        stored_file f = {0};
        tarn_store_file_id(s, k, f.id);
        if (entry_path(&path, &f, false)) {
            unlink(path.data);
        }
    }
    tarn_text_free(&path);
}

// An entry is read for its head and checked as a whole.
static bool read_entry(tarn_context *cx, int fd, tarn_digest_entry *e) {
    enum { PIECE = 1 << 12 };
    entry_head head;
    struct stat st;
    *e = (tarn_digest_entry){0};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !read_all(fd, &head, sizeof head) ||
        memcmp(head.magic, magic, sizeof magic) != 0) {
        return false;
    }
    memcpy(e->id, head.id, sizeof e->id);
    e->tensors = head.count;
    uint64_t left = (uint64_t)st.st_size - sizeof head;
    if (head.count > left / 32 || left != head.count * 32 + 32) {
        return true;
    }
    unsigned char piece[PIECE], sum[32];
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    tarn_sha256_add(&h, &head, sizeof head);
    for (left -= 32; left > 0;) {
        size_t n = left < PIECE ? (size_t)left : PIECE;
        if (tarn_cancel_reason(&cx->cancel) != TARN_STOP_NONE || !read_all(fd, piece, n)) {
            return true;
        }
        tarn_sha256_add(&h, piece, n);
        left -= n;
    }
    tarn_sha256_end(&h, sum);
    e->whole = read_all(fd, piece, 32) && memcmp(piece, sum, 32) == 0;
    return true;
}

static int hex_name(const struct dirent *d) { return strspn(d->d_name, "0123456789abcdef") == 32 && !d->d_name[32]; }

bool tarn_digests_list(tarn_context *cx, bool clear, tarn_text *entries, tarn_text *folder) {
    struct dirent **names;
    if (!memory_folder(folder, false)) {
        return false;
    }
    int n = scandir(folder->data, &names, hex_name, alphasort);
    for (int k = 0; k < n; k++) {
        tarn_text path;
        tarn_digest_entry e;
        tarn_text_init(&path, &cx->budget);
        tarn_text_printf(&path, "%s/%s", folder->data, names[k]->d_name);
        int fd = path.failed ? -1 : open(path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        bool known = fd >= 0 && read_entry(cx, fd, &e);
        if (fd >= 0) {
            close(fd);
        }
        if (known && clear) {
            unlink(path.data);
        }
        tarn_text_free(&path);
        free(names[k]);
        if (known) {
            tarn_text_add(entries, (const char *)&e, sizeof e);
        }
    }
    if (n >= 0) {
        free(names);
    }
    return true;
}
