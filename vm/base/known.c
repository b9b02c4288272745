// SPDX-License-Identifier: Apache-2.0
// A table with open addressing; a key is a digest, so its first bytes are the hash.
#include "vm/base/known.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 16 };  // slots: 5 MB

typedef struct tarn_known_entry {
    tarn_known_key key;
    double value[4];
    bool used;
} entry;

void tarn_known_init(tarn_known *m) {
    memset(m, 0, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
}

void tarn_known_free(tarn_known *m) {
    free(m->entry);
    pthread_mutex_destroy(&m->lock);
    memset(m, 0, sizeof *m);
}

// The entry of the key, or the free one that it would take; slots > 0.
static entry *find(entry *table, size_t slots, const tarn_known_key *key) {
    uint64_t h;
    memcpy(&h, key->bytes, sizeof h);
    size_t at = (size_t)h % slots;
    while (table[at].used && memcmp(&table[at].key, key, sizeof *key) != 0) {
        at = (at + 1) % slots;
    }
    return &table[at];
}

bool tarn_known_get(tarn_known *m, const tarn_known_key *key, double out[4]) {
    pthread_mutex_lock(&m->lock);
    const entry *e = m->slots ? find(m->entry, m->slots, key) : NULL;
    bool known = e && e->used;
    if (known) {
        memcpy(out, e->value, sizeof e->value);
    }
    pthread_mutex_unlock(&m->lock);
    return known;
}

// Room for one more; false: there is no memory.
static bool grow(tarn_known *m) {
    if (m->count * 2 < m->slots) {
        return true;
    }
    size_t slots = m->slots ? m->slots * 2 : 256;
    if (slots > MOST) {
        memset(m->entry, 0, m->slots * sizeof *m->entry);
        m->count = 0;
        return true;
    }
    entry *table = calloc(slots, sizeof *table);
    if (!table) {
        return false;
    }
    for (size_t i = 0; i < m->slots; i++) {
        if (m->entry[i].used) {
            *find(table, slots, &m->entry[i].key) = m->entry[i];
        }
    }
    free(m->entry);
    m->entry = table;
    m->slots = slots;
    return true;
}

void tarn_known_put(tarn_known *m, const tarn_known_key *key, const double value[4]) {
    pthread_mutex_lock(&m->lock);
    if (grow(m)) {
        entry *e = find(m->entry, m->slots, key);
        m->count += !e->used;
        e->key = *key;
        e->used = true;
        memcpy(e->value, value, sizeof e->value);
    }
    pthread_mutex_unlock(&m->lock);
}
