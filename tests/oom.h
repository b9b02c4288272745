// SPDX-License-Identifier: Apache-2.0
// Failing allocations: malloc and its relatives are interposed for the whole program, libraries
// included, and fail where a test says, in the thread that says so. A test program that includes
// this header is linked with oom.c (tests/CMakeLists.txt sees to it).
#ifndef TARN_TESTS_OOM_H
#define TARN_TESTS_OOM_H

#include <stdbool.h>

// At the head of a test that is nothing without them: ThreadSanitizer keeps the allocations for itself.
#ifdef __SANITIZE_THREAD__
#define oom_or_skip() skip()
#else
#define oom_or_skip() ((void)0)
#endif

// From now on allocation `n` (from 1) of this thread fails; with `onwards` all later ones too.
void oom_arm(long n, bool onwards);
// Nothing fails any more. How many allocations failed since oom_arm.
long oom_disarm(void);
// How many allocations this thread asked for between the last two of these calls.
long oom_asked(void);

// Runs attempt(arg) with allocation 1, 2, 3, … failing, alone, then again with all later ones failing
// too, until a run meets no failure. Every attempt must end cleanly by itself: an error or success,
// no crash, nothing left behind; it returns false to end the test at once. At most `most` attempts
// each way (0: no bound). Returns how many attempts met a failure, 0 if one returned false.
long oom_sweep(bool (*attempt)(void *arg), void *arg, long most);

#endif
