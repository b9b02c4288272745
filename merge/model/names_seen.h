// SPDX-License-Identifier: Apache-2.0
// What names.c hands to layers.c, private to the two: each name with what its frame says of its
// numbers.
#ifndef TARN_MODEL_NAMES_SEEN_H
#define TARN_MODEL_NAMES_SEEN_H

#include "merge/model/names_table.h"

enum {
    TARN_NAMES_SEEN = 256,    // bytes: longer names are not looked at
    TARN_NAMES_NUMBERS = 12,  // of one name
    TARN_NAMES_KINDS = 4096,  // frames of one model; so are shapes and stacks bounded
};

// A number that ends a component of a name.
typedef struct tarn_number {
    int begin, end;
    int32_t value;  // -1: more than nine digits
    bool whole;     // a component of its own, not the end of a word
} tarn_number;

// A name with every run of digits written as 0.
typedef struct tarn_frame {
    int count;  // of numbers
    tarn_stem_kind kind[TARN_NAMES_NUMBERS];
    signed char order[TARN_NAMES_NUMBERS];
    int unit;        // row of tarn_unit_rows, -1
    int group[2];    // which numbers its groups are, -1
    unsigned blank;  // bit k: number k is written as 0 in the shape
} tarn_frame;

typedef struct tarn_names_seen {
    tarn_context *cx;
    tarn_error *err;
    tarn_arena *scratch;
    int64_t n;
    const tarn_name_in *in;
    tarn_names *out;
    const tarn_frame **frames;  // [n], NULL: not looked at
    bool unet;
} tarn_names_seen;

int tarn_numbers_scan(const char *s, int len, tarn_number *out);
// Fills stacks, depths and what the infos say of layers (layers.c).
tarn_status tarn_names_layers(const tarn_names_seen *seen);

#endif
