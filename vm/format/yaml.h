// SPDX-License-Identifier: Apache-2.0
// YAML read into a tree: the subset that configurations use (one document, core schema scalars,
// anchors with bounded expansion). Tags other than the core ones, duplicate keys, and non-scalar
// keys are errors with line and column. libyaml does the scanning.
#ifndef TARN_FORMAT_YAML_H
#define TARN_FORMAT_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vm/base/arena.h"
#include "vm/base/status.h"

typedef enum {
    TARN_YAML_NULL,
    TARN_YAML_BOOL,
    TARN_YAML_INT,
    TARN_YAML_FLOAT,
    TARN_YAML_STRING,
    TARN_YAML_LIST,
    TARN_YAML_MAP,
} tarn_yaml_kind;

typedef struct tarn_yaml tarn_yaml;
struct tarn_yaml {
    tarn_yaml_kind kind;
    int line, column;  // 1-based
    bool quoted;       // a quoted scalar (always STRING)
    bool boolean;
    int64_t integer;
    double number;      // FLOAT, and INT as a double
    const char *text;   // every scalar as written (unquoted), NUL-terminated
    size_t len;
    int64_t count;      // LIST, MAP: entries
    tarn_yaml **items;  // LIST: values; MAP: values
    tarn_yaml **keys;   // MAP: scalars
};

// All documents of the text (at least one node each); *n of them. Limits: 16 MB of text, depth 64,
// 1e6 nodes after aliases are expanded (error "YamlLimit").
tarn_status tarn_yaml_read(tarn_arena *a, const char *text, size_t len, const char *name, int *n,
                           tarn_yaml ***docs, tarn_error *err);

#endif
