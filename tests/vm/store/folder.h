// SPDX-License-Identifier: Apache-2.0
// What the tests of vm/store's writing half share: scratch folders, whole files, and a naive look
// at what a saved model holds that shares no code with the program.
#ifndef TARN_TESTS_STORE_FOLDER_H
#define TARN_TESTS_STORE_FOLDER_H

#include "tests/vm/store/store_support.h"

#include <fcntl.h>
#include <sys/stat.h>

// folder/name, valid for the next 63 calls.
static inline char *at_path(const char *folder, const char *name) {
    static char *ring[64];
    static int k;
    char *out = malloc(strlen(folder) + strlen(name) + 2);
    strcat(strcat(strcpy(out, folder), "/"), name);
    free(ring[k % 64]);
    return ring[k++ % 64] = out;
}

static inline char *scratch(void) {  // one at a time
    static path_text path;
    make_folder(path);
    return path;
}

static inline char *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        return NULL;
    }
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*n + 1);
    if (fread(data, 1, *n, f) != *n) {
        fail_msg("short read of %s", path);
    }
    data[*n] = '\0';
    fclose(f);
    return data;
}

static inline int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Names in a folder, sorted, each followed by a space.
static inline char *names_in(const char *folder) {
    char *list[256];
    size_t n = 0, len = 1;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL && n < 256;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            list[n++] = strdup(e->d_name);
            len += strlen(e->d_name) + 1;
        }
    }
    if (d) {
        closedir(d);
    }
    qsort(list, n, sizeof *list, by_text);
    static char *out;
    free(out);
    out = calloc(1, len + 1);
    for (size_t i = 0; i < n; i++) {
        strcat(strcat(out, list[i]), " ");
        free(list[i]);
    }
    return out;
}

// The bytes of the tensor whose JSON name (escaped, in quotes) is `key`, found by looking for its
// entry in the header's text; NULL when the file is not whole.
static inline const unsigned char *tensor_in(const char *file, size_t size, const char *key,
                                             size_t *bytes) {
    uint64_t n = 0;
    if (size < 8) {
        return NULL;
    }
    memcpy(&n, file, 8);
    if (n == 0 || n > size - 8) {
        return NULL;
    }
    char want[256];
    snprintf(want, sizeof want, "\"%s\":{\"dtype\":", key);
    const char *at = memmem(file + 8, n, want, strlen(want));
    const char *offsets = at ? strstr(at, "\"data_offsets\":[") : NULL;
    unsigned long long begin, end;
    if (!offsets || sscanf(offsets, "\"data_offsets\":[%llu,%llu]", &begin, &end) != 2 ||
        end < begin || end > size - 8 - n) {
        return NULL;
    }
    *bytes = (size_t)(end - begin);
    return (const unsigned char *)file + 8 + n + begin;
}

#endif
