// SPDX-License-Identifier: Apache-2.0
// Headers of real models for the tests of names: tests/golden/headers, read through gzip and
// Jansson.
#ifndef TARN_TESTS_HEADERS_H
#define TARN_TESTS_HEADERS_H

#include "tests/support.h"

#include <dirent.h>
#include <jansson.h>

#include "merge/model/names.h"

#define HEADERS TARN_SOURCE_DIR "/tests/golden/headers"

static inline json_t *header_load(const char *model) {
    char command[8192];
    snprintf(command, sizeof command, "gzip -dc '%s/%s.json.gz'", HEADERS, model);
    FILE *f = popen(command, "r");
    json_error_t why;
    json_t *h = f ? json_loadf(f, 0, &why) : NULL;
    if (!f || pclose(f) != 0 || !h) {
        fail_msg("%s: %s", model, f ? why.text : "no gzip");
    }
    return h;
}

static inline json_t *json_read(const char *path) {
    json_error_t why;
    json_t *j = json_load_file(path, 0, &why);
    if (!j) {
        fail_msg("%s: %s", path, why.text);
    }
    return j;
}

// The tensors of a header as the engine takes them; everything lies in `a`.
static inline tarn_name_in *header_names(tarn_arena *a, json_t *h, int64_t *n) {
    json_t *tensors = json_object_get(h, "tensors"), *spec;
    const char *name;
    *n = (int64_t)json_object_size(tensors);
    tarn_name_in *in = tarn_arena_take(a, (size_t)*n * sizeof *in + 1);
    int64_t i = 0;
    json_object_foreach(tensors, name, spec) {
        json_t *dims = json_array_get(spec, 1);
        int rank = (int)json_array_size(dims);
        int64_t *shape = tarn_arena_take(a, (size_t)rank * sizeof *shape + 1);
        for (int d = 0; d < rank; d++) {
            shape[d] = json_integer_value(json_array_get(dims, (size_t)d));
        }
        tarn_dtype t;
        assert_true(tarn_dtype_find(json_string_value(json_array_get(spec, 0)), &t));
        in[i++] =
            (tarn_name_in){tarn_arena_string(a, name, strlen(name)), strlen(name), t, rank, shape};
    }
    return in;
}

static inline char *header_config(tarn_arena *a, json_t *h) {
    char *text = json_dumps(json_object_get(h, "config"), 0);
    char *kept = tarn_arena_string(a, text, strlen(text));
    free(text);
    return kept;
}

// Names of all families, sorted; free with free().
static inline int header_list(char list[64][64]) {
    struct dirent **found;
    int n = scandir(HEADERS, &found, NULL, alphasort), count = 0;
    for (int i = 0; i < n; i++) {
        const char *end = strstr(found[i]->d_name, ".json.gz");
        if (end && count < 64) {
            snprintf(list[count++], 64, "%.*s", (int)(end - found[i]->d_name), found[i]->d_name);
        }
        free(found[i]);
    }
    free(found);
    return count;
}

#endif
