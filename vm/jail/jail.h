// SPDX-License-Identifier: Apache-2.0
// A process for code that nobody trusts. The parent starts this same program again, with a question
// to read, a pipe to answer on, a pipe for what it says, and nothing else: no other descriptor, no
// environment. The child sets itself up, takes the question in, shuts itself in (tarn_jail_enter)
// and only then looks at what was asked. The parent believes nothing: it reads at most so many bytes for at most so long, and a
// child that dies, hangs or floods is an error. Knows nothing of Lua or models.
#ifndef TARN_JAIL_JAIL_H
#define TARN_JAIL_JAIL_H

#include <stdbool.h>
#include <stddef.h>

#include "vm/base/cancel.h"
#include "vm/base/text.h"

// The child's descriptors; 2 is the same as 1.
enum { TARN_JAIL_QUESTION = 0, TARN_JAIL_SAID = 1, TARN_JAIL_ANSWER = 3 };

typedef struct tarn_jail {
    const char *const *argv;  // of the child, NULL-terminated
    double seconds;           // wall clock
    size_t answer, said;      // bytes, at most
    const tarn_cancel *cancel;
} tarn_jail;

// The child's answer and what it said; both may be there after a failure too. Codes: TimeLimit,
// OutputTooLarge, Forbidden (it tried a system call that is not allowed), ChildDied.
tarn_status tarn_jail_run(const tarn_jail *j, const char *question, size_t len, tarn_text *answer,
                          tarn_text *said, tarn_error *err);

// What shuts a child in; the program uses all of them, tests take single ones away.
typedef enum {
    TARN_JAIL_LIMITS = 1,    // rlimits: processor time, memory, files, processes
    TARN_JAIL_FILTER = 2,    // seccomp: memory and writing to the two pipes, no other system call
    TARN_JAIL_LANDLOCK = 4,  // no path can be opened, whatever the filter misses; where the kernel has it
    TARN_JAIL_ALL = 7,
} tarn_jail_wall;

// In the child: the whole question. Before the walls stand: behind them nothing can be read.
tarn_status tarn_jail_question(tarn_text *question, tarn_error *err);
// In the child: writes the answer; false when the parent has gone.
bool tarn_jail_answer(const char *text, size_t len);
// In the child. seconds: of processor time. memory: bytes beside what the process has mapped already.
tarn_status tarn_jail_enter(unsigned walls, double seconds, size_t memory, tarn_error *err);

#endif
