// SPDX-License-Identifier: Apache-2.0
// Numbers that were computed once: up to four doubles by a 32-byte key that says what they are of. Bounded
// (it begins anew when it is full) and outside of the budget, so that it never stands in the way of work;
// where memory is short it forgets. May be used from any thread.
#ifndef TARN_BASE_KNOWN_H
#define TARN_BASE_KNOWN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct tarn_known_key {
    unsigned char bytes[32];  // a SHA-256
} tarn_known_key;

typedef struct tarn_known {
    pthread_mutex_t lock;
    struct tarn_known_entry *entry;  // [slots], open addressing
    size_t slots, count;
} tarn_known;

void tarn_known_init(tarn_known *m);
void tarn_known_free(tarn_known *m);
bool tarn_known_get(tarn_known *m, const tarn_known_key *key, double out[4]);
void tarn_known_put(tarn_known *m, const tarn_known_key *key, const double value[4]);

#endif
