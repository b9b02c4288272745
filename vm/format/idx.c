// SPDX-License-Identifier: Apache-2.0
// The IDX reader: raw bytes from a file or memory, through zlib when they begin like gzip, then the
// header and the elements. Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten
// digits"; gzip: RFC 1952, whose members may follow one another.
#include "vm/format/idx.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "vm/base/size.h"
#include "vm/base/text.h"
#include "vm/format/file.h"

enum { ROOM = 1 << 16, PIECE = 1 << 20 };
enum { DEFLATE_RATIO = 1032 };  // no byte of deflate stands for more (zlib's technical notes)

struct tarn_idx {
    tarn_context *cx;
    const char *name;
    int fd;                      // -1: from memory
    const unsigned char *bytes;  // from memory: what is left
    uint64_t size;               // of the file
    uint64_t left;               // of it, not yet taken
    bool gzip;
    bool open;  // a stream of zlib is
    bool member_done;
    z_stream z;
    tarn_idx_header header;
    size_t held;  // bytes of the struct and the name
    unsigned char room[ROOM];
};

// ---- bytes ----

static tarn_status take_raw(tarn_idx *f, void *dst, size_t n, size_t *got, tarn_error *err) {
    n = n < f->left ? n : (size_t)f->left;
    *got = n;
    if (f->fd >= 0) {
        TARN_TRY(tarn_file_take(f->fd, dst, n, got, err));
        if (*got < n) {
            TARN_RAISE(err, "FileChanged", "became shorter while it was read");
        }
    } else if (n > 0) {
        memcpy(dst, f->bytes, n);
        f->bytes += n;
    }
    f->left -= n;
    return TARN_OK;
}

// zlib's memory is charged to the budget; its size stands before it.
static void *z_take(void *arg, unsigned items, unsigned size) {
    size_t bytes = (size_t)items * size + 64;
    size_t *p = tarn_alloc(arg, bytes);
    if (!p) {
        return NULL;
    }
    *p = bytes;
    return (char *)p + 64;
}
static void z_give(void *arg, void *at) {
    size_t *p = (size_t *)(void *)((char *)at - 64);
    tarn_free(arg, p, *p);
}

static tarn_status open_gzip(tarn_idx *f, tarn_error *err) {
    f->z.zalloc = z_take;
    f->z.zfree = z_give;
    f->z.opaque = &f->cx->budget;
    if (inflateInit2(&f->z, 15 + 16) != Z_OK) {  // 16: gzip and nothing else
        return tarn_raise_nomem(err, "a reader of gzip", 1 << 16);
    }
    f->open = true;
    return TARN_OK;
}

static tarn_status inflate_some(tarn_idx *f, tarn_error *err) {
    int r = inflate(&f->z, Z_NO_FLUSH);
    if (r == Z_MEM_ERROR) {
        return tarn_raise_nomem(err, "a reader of gzip", 1 << 16);
    }
    if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR) {
        TARN_RAISE(err, "DamagedGzip", "the gzip data are damaged: %s", f->z.msg ? f->z.msg : "unreadable");
    }
    f->member_done = r == Z_STREAM_END;
    return TARN_OK;
}

// Up to n bytes (at most 4 GiB) of what the gzip holds; fewer at the end of its last member.
static tarn_status take_gzip(tarn_idx *f, void *dst, size_t n, size_t *got, tarn_error *err) {
    f->z.next_out = dst;
    f->z.avail_out = (unsigned)n;
    for (*got = 0; *got < n; *got = n - f->z.avail_out) {
        if (f->z.avail_in == 0) {
            size_t more;
            TARN_TRY(take_raw(f, f->room, ROOM, &more, err));
            f->z.next_in = f->room;
            f->z.avail_in = (unsigned)more;
            if (more == 0 && f->member_done) {
                return TARN_OK;
            }
            if (more == 0) {
                TARN_RAISE(err, "Truncated", "the gzip data end in the middle");
            }
        }
        if (f->member_done) {
            inflateReset(&f->z);
            f->member_done = false;
        }
        TARN_TRY(inflate_some(f, err));
    }
    return TARN_OK;
}

static tarn_status take(tarn_idx *f, void *dst, size_t n, size_t *got, tarn_error *err) {
    return f->gzip ? take_gzip(f, dst, n, got, err) : take_raw(f, dst, n, got, err);
}

// ---- the header ----

static int element_size(int type) {
    switch (type) {
    case TARN_IDX_U8:
    case TARN_IDX_I8:
        return 1;
    case TARN_IDX_I16:
        return 2;
    case TARN_IDX_I32:
    case TARN_IDX_F32:
        return 4;
    case TARN_IDX_F64:
        return 8;
    default:
        return 0;
    }
}

static tarn_status read_magic(tarn_idx *f, tarn_error *err) {
    unsigned char m[4] = {0};
    size_t got;
    TARN_TRY(take(f, m, 4, &got, err));
    if (got < 4 || m[0] != 0 || m[1] != 0) {
        TARN_RAISE(err, "NotIdx", "not an IDX file: it begins with %02x %02x %02x %02x%s; expected 00 00, a type "
                   "and the number of dimensions", m[0], m[1], m[2], m[3], got < 4 ? " (and ends there)" : "");
    }
    f->header.type = (tarn_idx_type)m[2];
    f->header.size = element_size(m[2]);
    f->header.rank = m[3];
    if (f->header.size == 0) {
        TARN_RAISE(err, "NotIdx", "not an IDX file: there is no type %02x of elements", m[2]);
    }
    if (m[3] < 1 || m[3] > TARN_IDX_RANK) {
        TARN_RAISE(err, "NotIdx", "an IDX file of %d dimensions; expected 1 to %d", m[3], TARN_IDX_RANK);
    }
    return TARN_OK;
}

static void show_shape(const tarn_idx_header *h, char *out, size_t room) {
    size_t n = 0;
    for (int d = 0; d < h->rank && n < room; d++) {
        n += (size_t)snprintf(out + n, room - n, d ? " x %lld" : "%lld", (long long)h->shape[d]);
    }
}

static tarn_status read_header(tarn_idx *f, tarn_error *err) {
    tarn_idx_header *h = &f->header;
    unsigned char b[4 * TARN_IDX_RANK];
    size_t got;
    char shape[128], size[32];
    bool fits = true;
    TARN_TRY(read_magic(f, err));
    TARN_TRY(take(f, b, 4 * (size_t)h->rank, &got, err));
    if (got < 4 * (size_t)h->rank) {
        TARN_RAISE(err, "Truncated", "the IDX file ends within its header");
    }
    h->bytes = (uint64_t)h->size;
    bool empty = false;
    for (int d = 0; d < h->rank; d++) {
        const unsigned char *p = b + 4 * d;
        h->shape[d] = (int64_t)p[0] << 24 | (int64_t)p[1] << 16 | (int64_t)p[2] << 8 | (int64_t)p[3];
        empty = empty || h->shape[d] == 0;
        fits = fits && (h->shape[d] == 0 || tarn_mul_u64(h->bytes, (uint64_t)h->shape[d], &h->bytes));
    }
    h->bytes = empty ? 0 : h->bytes;
    show_shape(h, shape, sizeof shape);
    uint64_t most = UINT64_MAX;
    if (!f->gzip) {
        most = f->left;
    } else if (f->size < UINT64_MAX / DEFLATE_RATIO) {
        most = f->size * DEFLATE_RATIO;
    }
    if (!empty && (!fits || h->bytes > most)) {
        TARN_RAISE(err, "Truncated", "the IDX file announces %s elements of %d bytes, but %s%s", shape, h->size,
                   tarn_show_bytes(most, size), f->gzip ? " are the most that so short a gzip file can hold" : " of data follow");
    }
    if (!f->gzip && h->bytes < most) {
        TARN_RAISE(err, "Trailing", "%llu bytes follow the %s elements that the IDX file announces",
                   (unsigned long long)(most - h->bytes), shape);
    }
    return TARN_OK;
}

// ---- elements ----

static void swap(unsigned char *p, uint64_t n, int size) {
    for (uint64_t i = 0; i < n; i++, p += size) {
        for (int k = 0; k < size / 2; k++) {
            unsigned char t = p[k];
            p[k] = p[size - 1 - k];
            p[size - 1 - k] = t;
        }
    }
}

static tarn_status read_elements(tarn_idx *f, unsigned char *dst, tarn_error *err) {
    const tarn_idx_header *h = &f->header;
    unsigned char beyond;
    size_t got;
    for (uint64_t done = 0; done < h->bytes; done += got) {
        size_t n = h->bytes - done < PIECE ? (size_t)(h->bytes - done) : PIECE;
        TARN_TRY(tarn_cancel_check(&f->cx->cancel, err));
        TARN_TRY(take(f, dst + done, n, &got, err));
        if (got < n) {
            TARN_RAISE(err, "Truncated", "the IDX file ends after %llu bytes of data; its header announces %llu",
                       (unsigned long long)(done + got), (unsigned long long)h->bytes);
        }
    }
    TARN_TRY(take(f, &beyond, 1, &got, err));
    if (got > 0) {
        TARN_RAISE(err, "Trailing", "more data follow than the %llu bytes that the IDX file announces",
                   (unsigned long long)h->bytes);
    }
    if (h->size > 1) {
        swap(dst, h->bytes / (uint64_t)h->size, h->size);
    }
    return TARN_OK;
}

// ---- opening ----

static tarn_status begin(tarn_idx *f, tarn_error *err) {
    unsigned char *room = f->room;
    size_t got;
    TARN_TRY(take_raw(f, room, 2, &got, err));
    f->gzip = got == 2 && room[0] == 0x1F && room[1] == 0x8B;
    if (f->fd < 0) {  // back to the beginning
        f->bytes -= got;
    } else if (lseek(f->fd, 0, SEEK_SET) != 0) {
        TARN_RAISE(err, "ReadFailed", "cannot be read from its beginning");
    }
    f->left += got;
    if (f->gzip) {
        TARN_TRY(open_gzip(f, err));
    }
    return read_header(f, err);
}

static tarn_status make(tarn_context *cx, const char *name, int fd, const void *data, uint64_t size,
                        tarn_idx **out, tarn_error *err) {
    size_t n = strlen(name) + 1;
    tarn_idx *f = tarn_alloc(&cx->budget, sizeof *f + n);
    if (!f) {
        if (fd >= 0) {
            close(fd);
        }
        return tarn_raise_nomem(err, name, sizeof *f + n);
    }
    memset(f, 0, sizeof *f - sizeof f->room);
    f->held = sizeof *f + n;
    f->name = memcpy(f + 1, name, n);
    f->cx = cx;
    f->fd = fd;
    f->bytes = data;
    f->size = f->left = size;
    tarn_status s = begin(f, err);
    if (s != TARN_OK) {
        tarn_error_prefix(err, "%s", name);
        tarn_idx_close(f);
        return s;
    }
    *out = f;
    return TARN_OK;
}

tarn_status tarn_idx_open(tarn_context *cx, const char *path, tarn_idx **out, tarn_error *err) {
    int fd;
    uint64_t size;
    *out = NULL;
    TARN_TRY(tarn_file_open(path, &fd, &size, err));
    return make(cx, path, fd, NULL, size, out, err);
}

tarn_status tarn_idx_open_bytes(tarn_context *cx, const void *data, size_t bytes, const char *name,
                                tarn_idx **out, tarn_error *err) {
    *out = NULL;
    return make(cx, name, -1, data, bytes, out, err);
}

const tarn_idx_header *tarn_idx_header_of(const tarn_idx *f) { return &f->header; }

tarn_status tarn_idx_read(tarn_idx *f, void *dst, tarn_error *err) {
    tarn_status s = read_elements(f, dst, err);
    return s == TARN_OK ? s : tarn_error_prefix(err, "%s", f->name);
}

void tarn_idx_close(tarn_idx *f) {
    if (!f) {
        return;
    }
    if (f->open) {
        inflateEnd(&f->z);
    }
    if (f->fd >= 0) {
        close(f->fd);
    }
    tarn_free(&f->cx->budget, f, f->held);
}
