// SPDX-License-Identifier: Apache-2.0
// The writer: a layout (layout.h) put into a target (target.h). Bytes go to their final offsets by
// pwrite from any thread; headers are written last, so that a file begins with a header length of
// 0, which no reader accepts, until all of its data is there.
//
// Room for the header is fixed by the first byte of data: metadata set before costs what it costs,
// metadata set after has to fit into `reserve` bytes, kept as spaces at the end of the header.
//
// pwrite, not a mapping: of 0.9 GB in pieces of 4 MiB or 512 KiB by 2 threads, the mapping took
// twice as long in a memory file system (each page is cleared before it is filled) and four times
// on ext4 with the final sync; it also turns a full disk into a signal. On ext4 fallocate gives
// early ENOSPC and contiguous extents, and RWF_DONTCACHE starts the transfer at once: 0.4 s instead
// of 0.6 s. tmpfs takes room page by page on one thread, as slowly as writing does, so there the
// check of free space has to do.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vm/base/size.h"
#include "vm/store/file.h"
#include "vm/store/header.h"
#include "vm/store/layout.h"
#include "vm/store/target.h"

typedef struct {
    int fd;         // -1: closed
    int users;      // calls that are writing now
    uint64_t left;  // bytes not written yet
} output;

typedef struct {
    char *key, *value;  // in the arena
} pair;

struct tarn_writer {
    tarn_context *cx;
    const char *path;  // as given, without slashes at the end
    tarn_target target;
    tarn_layout layout;
    pthread_mutex_t lock;  // guards what follows
    output *files;         // [layout.nfiles]
    tarn_arena arena;
    pair *meta;  // [nmeta] sorted by key
    int nmeta, meta_room;
    uint64_t reserve;
    bool placed;         // the header's room is fixed
    uint64_t meta_most;  // bytes that the metadata may take once placed
};

static const char index_name[] = "model.safetensors.index.json";
static const uint64_t shard_default = 5000000000u;

static bool is_one_file(const char *path) {
    static const char end[] = ".safetensors";
    size_t n = strlen(path), m = sizeof end - 1;
    return n >= m && strcmp(path + n - m, end) == 0;
}

// ---- headers ----

// "__metadata__":{…}
static void write_meta(const tarn_writer *w, tarn_text *out) {
    tarn_text_puts(out, "\"__metadata__\":{");
    for (int k = 0; k < w->nmeta; k++) {
        tarn_text_puts(out, k > 0 ? "," : "");
        tarn_text_json(out, w->meta[k].key, strlen(w->meta[k].key));
        tarn_text_puts(out, ":");
        tarn_text_json(out, w->meta[k].value, strlen(w->meta[k].value));
    }
    tarn_text_puts(out, "}");
}

static tarn_status meta_length(const tarn_writer *w, uint64_t *n, tarn_error *err) {
    tarn_text t;
    tarn_text_init(&t, &w->cx->budget);
    write_meta(w, &t);
    bool failed = t.failed;
    *n = t.len;
    tarn_text_free(&t);
    return failed ? tarn_raise_nomem(err, "metadata", *n) : TARN_OK;
}

// Bytes before the data: 8, the header, spaces up to a multiple of 8.
static uint64_t data_start(const tarn_writer *w, int file) {
    uint64_t entries = w->layout.files[file].tensors.len;
    return (8 + 2 + w->meta_most + (entries > 0) + entries + 7) / 8 * 8;
}

static uint64_t file_size(const tarn_writer *w, int file) {
    return data_start(w, file) + w->layout.files[file].bytes;
}

// The room for metadata as it would be if data came now; refuses headers that readers refuse.
static tarn_status measure(tarn_writer *w, tarn_error *err) {
    uint64_t n;
    TARN_TRY(meta_length(w, &n, err));
    w->meta_most = n + w->reserve;
    for (int f = 0; f < w->layout.nfiles; f++) {
        if (data_start(w, f) - 8 > TARN_HEADER_MAX) {
            TARN_RAISE(err, "HeaderTooLarge",
                       "%s: the header of %s takes %" PRIu64 " bytes, more than "
                       "the %" PRIu64
                       " that readers accept\nhint: a smaller max_shard_size spreads the "
                       "tensors over more files",
                       w->path, w->layout.files[f].name, data_start(w, f) - 8, TARN_HEADER_MAX);
        }
    }
    return TARN_OK;
}

tarn_status tarn_writer_meta(tarn_writer *w, const char *key, const char *value, tarn_error *err) {
    if (!tarn_utf8_valid(key, strlen(key)) || !tarn_utf8_valid(value, strlen(value))) {
        TARN_RAISE(err, "InvalidName", "%s: metadata has to be valid UTF-8", w->path);
    }
    pthread_mutex_lock(&w->lock);
    int at = 0;
    while (at < w->nmeta && strcmp(w->meta[at].key, key) < 0) {
        at++;
    }
    bool replace = at < w->nmeta && strcmp(w->meta[at].key, key) == 0;
    pair fresh = {replace ? w->meta[at].key : tarn_arena_string(&w->arena, key, strlen(key)),
                  tarn_arena_string(&w->arena, value, strlen(value))};
    tarn_status s = TARN_OK;
    if (w->nmeta == w->meta_room && !replace) {
        int room = w->meta_room ? 2 * w->meta_room : 8;
        pair *more = tarn_arena_take(&w->arena, (size_t)room * sizeof *more);
        if (more && w->nmeta > 0) {
            memcpy(more, w->meta, (size_t)w->nmeta * sizeof *more);
        }
        w->meta = more ? more : w->meta;
        w->meta_room = more ? room : w->meta_room;
        s = more ? s : tarn_raise_nomem(err, "metadata", (size_t)room * sizeof *more);
    }
    s = s == TARN_OK && !(fresh.key && fresh.value)
            ? tarn_raise_nomem(err, "metadata", strlen(value))
            : s;
    if (s == TARN_OK) {
        pair before = w->meta[at];
        if (!replace) {
            memmove(&w->meta[at + 1], &w->meta[at], (size_t)(w->nmeta - at) * sizeof *w->meta);
            w->nmeta++;
        }
        w->meta[at] = fresh;
        uint64_t n = 0;
        s = w->placed ? meta_length(w, &n, err) : measure(w, err);
        if (s == TARN_OK && n > w->meta_most) {
            s = tarn_raise(err, "HeaderRoom",
                           "%s: metadata %s does not fit: %" PRIu64 " bytes in all, and "
                           "room for %" PRIu64 " was kept when data began",
                           w->path, key, n, w->meta_most);
        }
        if (s != TARN_OK && replace) {
            w->meta[at] = before;
        } else if (s != TARN_OK) {
            memmove(&w->meta[at], &w->meta[at + 1], (size_t)(--w->nmeta - at) * sizeof *w->meta);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return s;
}

// ---- files ----

// The path of a file for messages.
typedef char shown_path[512];
static const char *show_path(const tarn_writer *w, int file, shown_path out) {
    if (w->target.folder) {
        snprintf(out, sizeof(shown_path), "%s/%s", w->path, w->layout.files[file].name);
    } else {
        snprintf(out, sizeof(shown_path), "%s", w->path);
    }
    return out;
}

static tarn_status preallocate(const tarn_writer *w, int file, int fd, tarn_error *err) {
    struct statfs fs;
    uint64_t size = file_size(w, file);
    if (fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC) {
        return TARN_OK;
    }
    int r;
    while ((r = fallocate(fd, 0, 0, (off_t)size)) != 0 && errno == EINTR) {
        TARN_TRY(tarn_cancel_check(&w->cx->cancel, err));
    }
    if (r != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO)) {
        int e = errno;
        char need[32], verb[64];
        shown_path path;
        snprintf(verb, sizeof verb, "get room for %s", tarn_show_bytes(size, need));
        return tarn_file_fail(err, e, show_path(w, file, path), verb);
    }
    return TARN_OK;  // not every file system can: writing will show
}

// All files are made and given their room before the first byte.
static tarn_status make_files(tarn_writer *w, tarn_error *err) {
    for (int f = 0; f < w->layout.nfiles; f++) {
        int fd = tarn_target_file(&w->target, w->layout.files[f].name, err);
        if (fd < 0) {
            return TARN_ERROR;
        }
        tarn_status s = preallocate(w, f, fd, err);
        close(fd);
        TARN_TRY(s);
    }
    return TARN_OK;
}

// Files are open only while data for them comes: a model may have more shards than a process may
// have descriptors.
static tarn_status begin_use(tarn_writer *w, int file, int *fd, tarn_error *err) {
    output *f = &w->files[file];
    pthread_mutex_lock(&w->lock);
    w->placed = true;
    if (f->fd < 0) {
        f->fd = tarn_target_file(&w->target, w->layout.files[file].name, err);
    }
    f->users += f->fd >= 0;
    *fd = f->fd;
    pthread_mutex_unlock(&w->lock);
    return *fd < 0 ? TARN_ERROR : TARN_OK;
}

static void end_use(tarn_writer *w, int file, uint64_t written) {
    output *f = &w->files[file];
    pthread_mutex_lock(&w->lock);
    f->users--;
    f->left -= written < f->left ? written : f->left;
    int done = f->users == 0 && f->left == 0 ? f->fd : -1;
    f->fd = done >= 0 ? -1 : f->fd;
    pthread_mutex_unlock(&w->lock);
    if (done >= 0) {
        close(done);
    }
}

tarn_status tarn_writer_put(tarn_writer *w, int64_t i, uint64_t at, const void *p, uint64_t n,
                            tarn_error *err) {
    const tarn_layout_tensor *t = &w->layout.tensors[i];
    if (at > t->bytes || n > t->bytes - at) {
        tarn_shown name;
        TARN_RAISE(err, "OutOfRange",
                   "%s: bytes %" PRIu64 " to %" PRIu64 " lie outside tensor %s of %" PRIu64
                   " bytes",
                   w->path, at, at + n, tarn_show_name(name, t->name, t->name_len), t->bytes);
    }
    if (n == 0) {
        return TARN_OK;
    }
    int fd;
    TARN_TRY(begin_use(w, t->file, &fd, err));
    shown_path path;
    tarn_status s = tarn_file_write(fd, data_start(w, t->file) + t->offset + at, p, n, true,
                                    show_path(w, t->file, path), err);
    end_use(w, t->file, s == TARN_OK ? n : 0);
    return s;
}

// ---- side files ----

// A file of the folder; -1 when it is not to be written (*s says whether that is an error).
static int open_side(tarn_writer *w, const char *name, shown_path path, tarn_status *s,
                     tarn_error *err) {
    *s = TARN_OK;
    if (!w->target.folder) {
        return -1;
    }
    snprintf(path, sizeof(shown_path), "%s/%s", w->path, name);
    bool ours = strcmp(name, index_name) == 0;
    for (int f = 0; f < w->layout.nfiles; f++) {
        ours = ours || strcmp(name, w->layout.files[f].name) == 0;
    }
    if (ours || *name == '\0' || strchr(name, '/') || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0) {
        *s = tarn_raise(err, "InvalidName", "%s: this is no name for a file beside the weights",
                        path);
        return -1;
    }
    int fd = tarn_target_file(&w->target, name, err);
    if (fd >= 0 && ftruncate(fd, 0) != 0) {
        tarn_file_fail(err, errno, path, "write");
        close(fd);
        fd = -1;
    }
    *s = fd < 0 ? TARN_ERROR : TARN_OK;
    return fd;
}

tarn_status tarn_writer_side(tarn_writer *w, const char *name, const void *p, size_t n,
                             tarn_error *err) {
    shown_path path;
    tarn_status s;
    int fd = open_side(w, name, path, &s, err);
    if (fd < 0) {
        return s;
    }
    s = tarn_file_write(fd, 0, p, n, false, path, err);
    if (s != TARN_OK) {
        close(fd);
        return s;
    }
    return tarn_file_finish(fd, path, err);
}

static tarn_status copy_bytes(tarn_writer *w, int from, int to, const char *path,
                              const char *source, tarn_error *err) {
    char buffer[1 << 16];
    for (uint64_t at = 0;;) {
        TARN_TRY(tarn_cancel_check(&w->cx->cancel, err));
        ssize_t n = pread(from, buffer, sizeof buffer, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return tarn_file_fail(err, errno, source, "read");
        }
        if (n == 0) {
            return TARN_OK;
        }
        TARN_TRY(tarn_file_write(to, at, buffer, (uint64_t)n, false, path, err));
        at += (uint64_t)n;
    }
}

tarn_status tarn_writer_side_copy(tarn_writer *w, const char *name, const char *from,
                                  tarn_error *err) {
    shown_path path;
    tarn_status s;
    int fd = open_side(w, name, path, &s, err);
    if (fd < 0) {
        return s;
    }
    int source = open(from, O_RDONLY | O_CLOEXEC);
    s = source < 0 ? tarn_file_fail(err, errno, from, "read")
                   : copy_bytes(w, source, fd, path, from, err);
    if (source >= 0) {
        close(source);
    }
    if (s != TARN_OK) {
        close(fd);
        return s;
    }
    return tarn_file_finish(fd, path, err);
}

// ---- begin and end ----

static void release(tarn_writer *w) {
    for (int f = 0; w->files && f < w->layout.nfiles; f++) {
        if (w->files[f].fd >= 0) {
            close(w->files[f].fd);
        }
    }
    tarn_target_close(&w->target);
    tarn_layout_free(&w->layout);
    tarn_arena_free(&w->arena);
    pthread_mutex_destroy(&w->lock);
    tarn_free(&w->cx->budget, w, sizeof *w);
}

static tarn_status start(tarn_writer *w, const tarn_writer_options *o, tarn_error *err) {
    w->files = tarn_arena_take(&w->arena, (size_t)w->layout.nfiles * sizeof *w->files);
    if (!w->files) {
        return tarn_raise_nomem(err, "the list of shards",
                                (size_t)w->layout.nfiles * sizeof *w->files);
    }
    for (int f = 0; f < w->layout.nfiles; f++) {
        w->files[f] = (output){.fd = -1, .left = w->layout.files[f].bytes};
    }
    TARN_TRY(tarn_writer_meta(w, "format", "pt", err));
    uint64_t all = 0, largest = 0;
    for (int f = 0; f < w->layout.nfiles; f++) {
        uint64_t size = file_size(w, f);
        largest = size > largest ? size : largest;
        if (!tarn_add_u64(all, (size + 4095) / 4096 * 4096, &all)) {
            TARN_RAISE(err, "NoSpace", "%s: no file system holds this", w->path);
        }
    }
    TARN_TRY(tarn_target_open(w->cx, w->path, w->target.folder, o->overwrite, all, largest,
                              &w->target, err));
    return make_files(w, err);
}

tarn_status tarn_writer_open(tarn_context *cx, const char *path, int64_t n,
                             const tarn_writer_tensor *tensors, const tarn_writer_options *o,
                             tarn_writer **out, tarn_error *err) {
    static const tarn_writer_options none = {0};
    o = o ? o : &none;
    tarn_writer *w = tarn_alloc_zero(&cx->budget, sizeof *w);
    if (!w) {
        return tarn_raise_nomem(err, "a writer", sizeof *w);
    }
    w->cx = cx;
    w->target.folder = !is_one_file(path);
    w->target.base = w->target.fd = -1;
    w->reserve = o->reserve > 0 ? (uint64_t)o->reserve : 0;
    pthread_mutex_init(&w->lock, NULL);
    tarn_arena_init(&w->arena, &cx->budget);
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    w->path = tarn_arena_string(&w->arena, path, len);
    uint64_t most = o->max_shard_size > 0 ? o->max_shard_size : shard_default;
    tarn_status s = w->path ? TARN_OK : tarn_raise_nomem(err, "a path", len);
    if (s == TARN_OK) {
        bool one = !w->target.folder || o->weights;
        s = tarn_layout_make(cx, n, tensors, one ? UINT64_MAX : most, &w->layout, err);
        if (s == TARN_OK && o->weights) {
            snprintf(w->layout.files[0].name, sizeof w->layout.files[0].name, "%s", o->weights);
        }
        s = s == TARN_OK ? s : tarn_error_prefix(err, "%s", w->path);
    }
    s = s == TARN_OK ? start(w, o, err) : s;
    if (s != TARN_OK) {
        release(w);
        return s;
    }
    *out = w;
    return TARN_OK;
}

void tarn_writer_abort(tarn_writer *w) {
    if (w) {
        release(w);
    }
}

// Everything before the data of one file, then its sync.
static tarn_status finish_file(tarn_writer *w, int file, tarn_error *err) {
    shown_path path;
    show_path(w, file, path);
    if (w->files[file].left > 0) {
        TARN_RAISE(err, "Incomplete", "%s: %" PRIu64 " bytes of data were never written", path,
                   w->files[file].left);
    }
    uint64_t room = data_start(w, file) - 8, size = file_size(w, file);
    tarn_text h;
    tarn_text_init(&h, &w->cx->budget);
    tarn_text_puts(&h, "{");
    write_meta(w, &h);
    const tarn_text *entries = &w->layout.files[file].tensors;
    if (entries->len > 0) {
        tarn_text_puts(&h, ",");
        tarn_text_add(&h, entries->data, entries->len);
    }
    tarn_text_puts(&h, "}");
    while (!h.failed && h.len < room) {
        static const char spaces[] =
            "                                                                ";
        uint64_t n = room - h.len;
        tarn_text_add(&h, spaces, n < sizeof spaces - 1 ? (size_t)n : sizeof spaces - 1);
    }
    unsigned char length[8];
    for (int k = 0; k < 8; k++) {
        length[k] = (unsigned char)(room >> 8 * k);
    }
    tarn_status s = h.failed ? tarn_raise_nomem(err, "a header", h.len) : TARN_OK;
    int fd = s == TARN_OK ? tarn_target_file(&w->target, w->layout.files[file].name, err) : -1;
    s = s == TARN_OK && fd < 0 ? TARN_ERROR : s;
    s = s == TARN_OK ? tarn_file_write(fd, 8, h.data, h.len, false, path, err) : s;
    s = s == TARN_OK && ftruncate(fd, (off_t)size) != 0
            ? tarn_file_fail(err, errno, path, "set its size")
            : s;
    s = s == TARN_OK ? tarn_file_write(fd, 0, length, 8, false, path, err) : s;
    tarn_text_free(&h);
    if (s != TARN_OK) {
        if (fd >= 0) {
            close(fd);
        }
        return s;
    }
    return tarn_file_finish(fd, path, err);
}

static tarn_status write_index(tarn_writer *w, tarn_error *err) {
    tarn_text t;
    tarn_text_init(&t, &w->cx->budget);
    tarn_layout_index(&w->layout, &t);
    shown_path path;
    snprintf(path, sizeof path, "%s/%s", w->path, index_name);
    tarn_status s = t.failed ? tarn_raise_nomem(err, "the index", t.len) : TARN_OK;
    int fd = s == TARN_OK ? tarn_target_file(&w->target, index_name, err) : -1;
    s = s == TARN_OK && fd < 0 ? TARN_ERROR : s;
    s = s == TARN_OK ? tarn_file_write(fd, 0, t.data, t.len, false, path, err) : s;
    if (s == TARN_OK) {
        s = tarn_file_finish(fd, path, err);
    } else if (fd >= 0) {
        close(fd);
    }
    tarn_text_free(&t);
    return s;
}

static tarn_status finish(tarn_writer *w, tarn_error *err) {
    for (int f = 0; f < w->layout.nfiles; f++) {
        TARN_TRY(tarn_cancel_check(&w->cx->cancel, err));
        TARN_TRY(finish_file(w, f, err));
    }
    if (w->layout.nfiles > 1) {
        TARN_TRY(write_index(w, err));
    }
    TARN_TRY(tarn_cancel_check(&w->cx->cancel, err));
    return tarn_target_publish(&w->target, err);
}

tarn_status tarn_writer_commit(tarn_writer *w, tarn_error *err) {
    tarn_status s = finish(w, err);
    release(w);
    return s;
}
