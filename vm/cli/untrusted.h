// SPDX-License-Identifier: Apache-2.0
// Recipes that nobody trusts: the questions of stdlib/bind/recipe.h asked of a process in a jail
// (vm/jail), which gets the recipe's text and the headers of its inputs and answers with text. What the
// answer says is checked by whoever uses it: a plan is validated like any hostile file.
#ifndef TARN_CLI_UNTRUSTED_H
#define TARN_CLI_UNTRUSTED_H

#include "vm/jail/jail.h"
#include "vm/lua/host.h"

// The first argument of the program that is started in the jail.
#define TARN_UNTRUSTED "--answer-untrusted"

// The whole life of that process; returns its exit code.
int tarn_untrusted_main(int argc, char **argv);

// Adds tarn.untrusted to the module `tarn`.
void tarn_untrusted_module(tarn_host *h);

#endif
