// SPDX-License-Identifier: Apache-2.0
// What the tests of vm/store share: temporary folders, files, tab-separated tables.
#ifndef TARN_TESTS_STORE_SUPPORT_H
#define TARN_TESTS_STORE_SUPPORT_H

#include <dirent.h>
#include <ftw.h>
#include <unistd.h>

#include "tests/support.h"

#include "vm/base/digest.h"
#include "vm/base/text.h"
#include "vm/store/store.h"

#define GOLDEN TARN_SOURCE_DIR "/tests/golden/store/"

typedef char path_text[512];

static inline void path_in(path_text out, const char *folder, const char *name) {
    int n = snprintf(out, sizeof(path_text), "%s/%s", folder, name);
    assert_in_range(n, 1, sizeof(path_text) - 1);
}

static inline int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}
static inline void remove_tree(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void make_folder(path_text out) {
    const char *tmp = getenv("TMPDIR");
    snprintf(out, sizeof(path_text), "%s/tarn-store-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(out));
}

static inline void write_bytes(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

// A file of header text and data, with the length in front.
static inline void write_safetensors(const char *path, const char *header, size_t n,
                                     const void *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    unsigned char length[8];
    for (int i = 0; i < 8; i++) {
        length[i] = (unsigned char)((uint64_t)n >> 8 * i);
    }
    assert_int_equal(fwrite(length, 1, 8, f), 8);
    assert_int_equal(fwrite(header, 1, n, f), n);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

// Calls row(arg, cells) for every line of a table of `n` columns, the heading excepted.
static inline void each_row(const char *path, int n, void (*row)(void *arg, char **cell),
                            void *arg) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *line = NULL;
    size_t room = 0;
    bool heading = true;
    while (getline(&line, &room, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *cell[8], *rest = line;
        for (int i = 0; i < n; i++) {
            cell[i] = strsep(&rest, "\t");
            assert_non_null(cell[i]);
        }
        if (!heading) {
            row(arg, cell);
        }
        heading = false;
    }
    free(line);
    fclose(f);
}

// Decodes hexadecimal in place ("-": empty); returns the number of bytes.
static inline size_t unhex(char *s) {
    if (strcmp(s, "-") == 0) {
        s[0] = '\0';
        return 0;
    }
    size_t n = strlen(s) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned v;
        assert_int_equal(sscanf(s + 2 * i, "%2x", &v), 1);
        s[i] = (char)v;
    }
    s[n] = '\0';
    return n;
}

static inline int open_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (d && readdir(d)) {
        n++;
    }
    closedir(d);
    return n;
}

#endif
