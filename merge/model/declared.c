// SPDX-License-Identifier: Apache-2.0
// Layers as config.json declares them, for networks whose names do not tell: the member "tarn" may hold
// "depth", an object from the beginnings of names (whole components) to a depth from 0 or to a place ("embed",
// "final", "head"). Where it is there it stands in the place of what names.c found; names that it leaves
// out are outside the layers. Nothing of it is trusted: what makes no sense is passed over.
#include <jansson.h>
#include <string.h>

#include "merge/model/names_table.h"

enum { DEEPEST = 100000 };

static tarn_place place_named(const char *text) {
    for (tarn_place p = TARN_PLACE_EMBED; p < TARN_PLACE_OTHER; p++) {
        if (strcmp(tarn_place_name(p), text) == 0) {
            return p;
        }
    }
    return TARN_PLACE_OTHER;
}

// The entry of the longest beginning of a name that is declared; NULL: none.
static const json_t *entry_of(const json_t *depth, const tarn_name_in *in) {
    enum { LONGEST = 256 };
    char text[LONGEST + 1];
    if (in->len > LONGEST || memchr(in->name, '\0', in->len)) {
        return NULL;
    }
    memcpy(text, in->name, in->len);
    for (size_t len = in->len; len > 0; len--) {
        if (len < in->len && text[len] != '.') {
            continue;
        }
        text[len] = '\0';
        const json_t *found = json_object_get(depth, text);
        if (found) {
            return found;
        }
    }
    return NULL;
}

static int depth_of(const json_t *entry) {
    json_int_t v = json_is_integer(entry) ? json_integer_value(entry) : -1;
    return v >= 0 && v < DEEPEST ? (int)v : -1;
}

static void apply(const json_t *depth, int64_t n, const tarn_name_in *in, tarn_names *out) {
    int last = -1;
    for (int64_t i = 0; i < n; i++) {
        const json_t *entry = entry_of(depth, &in[i]);
        tarn_name_info *info = &out->info[i];
        int d = depth_of(entry);
        const char *place = json_string_value(entry);
        info->place = d >= 0 ? TARN_PLACE_LAYER : place ? place_named(place) : TARN_PLACE_OTHER;
        info->stack = d >= 0 ? 0 : -1;
        info->depth = info->layer = d;
        last = d > last ? d : last;
    }
    out->nstacks = last >= 0;
    out->ndepth = last + 1;
}

tarn_status tarn_names_declared(tarn_context *cx, const char *config, size_t len, int64_t n,
                                const tarn_name_in *in, tarn_names *out, tarn_error *err) {
    static const char key[] = "\"tarn\"";
    json_t *root = NULL;
    if (!config || !memmem(config, len, key, sizeof key - 1)) {
        return TARN_OK;
    }
    TARN_TRY(tarn_config_read(cx, NULL, config, len, &root, err));
    const json_t *depth = json_object_get(json_object_get(root, "tarn"), "depth");
    if (json_is_object(depth)) {
        tarn_name_stack *stack = tarn_arena_take(out->arena, sizeof *stack);
        if (!stack) {
            json_decref(root);
            return tarn_raise_nomem(err, "the table of names", sizeof *stack);
        }
        apply(depth, n, in, out);
        *stack = (tarn_name_stack){"net", "", out->ndepth, 0, out->ndepth - 1, NULL};
        out->stacks = stack;
    }
    json_decref(root);
    return TARN_OK;
}
