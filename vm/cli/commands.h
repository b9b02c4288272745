// SPDX-License-Identifier: Apache-2.0
// The program's own commands: Lua files embedded under scripts/. A command's file begins, after its
// SPDX line, with a comment block that is its documentation and the declaration of its arguments:
//
//     -- inspect MODEL: tensors, shapes, types and sizes of a checkpoint
//     --
//     -- Options:
//     --   --stats         read the data too and show minimum, maximum, mean and norm
//     --   --names REGEX   only tensors whose name matches
//
// The first line up to the colon is the usage, the rest of it the summary; all lines below are the
// help text. stdlib's `command` module parses arguments by the same text.
#ifndef TARN_CLI_COMMANDS_H
#define TARN_CLI_COMMANDS_H

#include <stddef.h>
#include <stdio.h>

#include "vm/base/status.h"
#include "vm/lua/embedded.h"

enum { TARN_COMMANDS_MAX = 64, TARN_COMMAND_NAME = 32 };

typedef struct tarn_command {
    char name[TARN_COMMAND_NAME];
    const tarn_embedded_file *file;
    const char *usage;    // "inspect MODEL", not terminated
    size_t usage_len;
    const char *summary;  // to the end of the line, not terminated
    size_t summary_len;
    const char *help;     // the comment lines below the first, with their "--"
    size_t help_len;
    int failure;          // the exit code of a run that fails: what its line tarn.exit_on_error(N) says, or 1
} tarn_command;

typedef struct tarn_commands {
    int count;
    tarn_command row[TARN_COMMANDS_MAX];
} tarn_commands;

void tarn_commands_find(tarn_commands *c);
const tarn_command *tarn_command_named(const tarn_commands *c, const char *name);  // or NULL
const char *tarn_command_nearest(const tarn_commands *c, const char *name);        // or NULL
void tarn_commands_list(const tarn_commands *c, FILE *to);
void tarn_command_help(const tarn_command *c, FILE *to);

#endif
