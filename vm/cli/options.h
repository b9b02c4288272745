// SPDX-License-Identifier: Apache-2.0
// What the words after `tarn` ask for. Options of the program may stand before a command's name or
// among its arguments; what follows a script's name belongs to the script.
#ifndef TARN_CLI_OPTIONS_H
#define TARN_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "vm/base/context.h"
#include "vm/cli/commands.h"

typedef enum {
    TARN_RUN_PROMPT,   // no script: the prompt
    TARN_RUN_CODE,     // -e: `what` is the text
    TARN_RUN_STDIN,    // a script from standard input
    TARN_RUN_FILE,     // `what` is a path
    TARN_RUN_COMMAND,  // `command`
    TARN_RUN_HELP,     // on `what`, or on the program when it is NULL
    TARN_RUN_VERSION,
} tarn_run_kind;

typedef struct tarn_cli_options {
    tarn_options machine;   // threads, memory, hold, isa
    double seconds;         // wall-clock limit; 0: none
    bool quiet, json, traceback;
    bool prompt;            // -i: the prompt afterwards
    tarn_run_kind run;
    const char *what;
    const tarn_command *command;
    int nargs;
    const char **args;      // of the script or command; freed by tarn_cli_free
} tarn_cli_options;

// Fails on a word that means nothing here, with the nearest right one in the message. Words of argv
// are borrowed. `commands` must outlive the options.
tarn_status tarn_cli_parse(int argc, char **argv, const tarn_commands *commands,
                           tarn_cli_options *o, tarn_error *err);
void tarn_cli_free(tarn_cli_options *o);
// The table of options, for --help; its rows one by one: name, value and text of row i, false past the
// last. `value` is NULL where none follows.
void tarn_cli_print_options(FILE *to);
bool tarn_cli_option_at(int i, const char **name, const char **value, const char **text);

#endif
