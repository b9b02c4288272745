// SPDX-License-Identifier: Apache-2.0
// A recipe file turned into a plan. The script runs in a host of its own at `recipe` trust, and what
// crosses the border is text: a question in JSON goes in, an answer in JSON comes out, with plans in the
// place of models. So the one who runs the plan needs no trust in the one who wrote the script, and the
// host may as well be in another process.
//
//     "describe"  {}                                   what the recipe says of itself
//     "build"     {"params": {name: value, …},         {"outputs": [{"name", "plan"}, …]}
//                  "adapters": {input: text of its adapter_config.json}}
//     "check"     {"params": …, "outputs": [name, …]}  {}; an error when the output is not as it should be
//     "score"     the same                             {"score": number or {name: number, …}}
//     "try"       {"params": …}                        the score of what build makes, without saving it
//
// Models come in through one callback, by the name of the input ("out" and "out:NAME" for what was saved);
// building sees headers alone and may not ask for values.
#ifndef TARN_BIND_RECIPE_H
#define TARN_BIND_RECIPE_H

#include "stdlib/bind/bind.h"

typedef struct tarn_recipe tarn_recipe;

// Opens the model of this name under this label; *out stays NULL where there is none.
typedef tarn_status (*tarn_recipe_opener)(void *arg, const char *name, tarn_model **out, tarn_error *err);

typedef struct tarn_recipe_source {
    tarn_host *owner;    // the host whose script waits; NULL: none
    const char *name;    // of the file, for messages
    const char *text;
    size_t len;
    const char *folder;  // where `require` looks; NULL: nowhere
    double seconds;      // limit of each answer that reads no data; 0: none
    // Called when the host is ready, before the script is looked at; NULL: nothing to do.
    tarn_status (*ready)(void *arg, tarn_error *err);
    void *ready_arg;
} tarn_recipe_source;

// Runs the script, which has to return a recipe; all mistakes of the recipe are in one message.
tarn_status tarn_recipe_open(tarn_context *cx, const tarn_recipe_source *source, tarn_recipe **out,
                             tarn_error *err);
tarn_status tarn_recipe_ask(tarn_recipe *r, const char *question, const char *json, size_t len,
                            tarn_recipe_opener open, void *arg, tarn_text *answer, tarn_error *err);
void tarn_recipe_close(tarn_recipe *r);  // r may be NULL

tarn_status tarn_bind_recipe(tarn_host *h, tarn_error *err);

#endif
