// SPDX-License-Identifier: Apache-2.0
// Both ends of a question to a recipe in a jail. On the way there: fields of eight bytes of length (in
// the machine's own order: both ends are this program) and as many bytes. On the way back: a word, a
// line's end, and the answer or the message; the process that wrote it may have been taken over, so
// the length is bounded, the message is shown with its control bytes made visible, and the rest is JSON
// for a reader that expects the worst.
#include "vm/cli/untrusted.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stdlib/bind/model.h"
#include "stdlib/bind/recipe.h"
#include "vm/cli/report.h"
#include "vm/op/blas.h"

enum {
    ANSWER = 16 << 20,   // bytes; a plan has a few hundred a node
    SAID = 1 << 16,
    SHOWN = 1 << 12,     // of a flood
    SECONDS = 60,        // unless the run has a limit
    MEMORY = 1 << 29,    // bytes of the child, unless the run has fewer
    INPUTS = 256,
};

// ---- fields ----

static void add_field(tarn_text *t, const char *s, size_t len) {
    uint64_t n = len;
    tarn_text_add(t, (const char *)&n, sizeof n);
    tarn_text_add(t, s, len);
}

typedef struct {
    char *at;
    size_t left;
} fields;

static bool next_field(fields *f, char **s, size_t *len) {
    uint64_t n;
    if (f->left < sizeof n) {
        return false;
    }
    memcpy(&n, f->at, sizeof n);
    if (n > f->left - sizeof n) {
        return false;
    }
    *s = f->at + sizeof n;
    *len = (size_t)n;
    f->at += sizeof n + *len;
    f->left -= sizeof n + *len;
    return true;
}

// ---- the child ----

typedef struct {
    const char *name;
    size_t name_len;
    tarn_header_text header;
} sealed_input;

typedef struct {
    tarn_context cx;
    tarn_text question, answer;
    double seconds;
    size_t memory;
    char *name, *text, *what, *json;
    size_t name_len, text_len, what_len, json_len;
    int ninputs;
    sealed_input input[INPUTS];
} inmate;

// Only lengths are looked at here: the jail is still open.
static tarn_status read_question(inmate *m, tarn_error *err) {
    TARN_TRY(tarn_jail_question(&m->question, err));
    fields f = {m->question.data, m->question.len};
    bool good = next_field(&f, &m->name, &m->name_len) && next_field(&f, &m->text, &m->text_len) &&
                next_field(&f, &m->what, &m->what_len) && next_field(&f, &m->json, &m->json_len);
    while (good && f.left > 0 && m->ninputs < INPUTS) {
        sealed_input *in = &m->input[m->ninputs++];
        char *name, *header, *data, *config;
        size_t size;
        good = next_field(&f, &name, &in->name_len) && next_field(&f, &header, &in->header.len) &&
               next_field(&f, &data, &size) && size == sizeof in->header.data &&
               next_field(&f, &config, &in->header.config_len);
        if (good) {
            memcpy(&in->header.data, data, size);
            in->name = name;
            in->header.text = header;
            in->header.config = in->header.config_len > 0 ? config : NULL;
        }
    }
    if (!good || f.left > 0) {
        TARN_RAISE(err, "", "the question cannot be read");
    }
    return TARN_OK;
}

static tarn_status shut(void *arg, tarn_error *err) {
    const inmate *m = arg;
    tarn_blas_forgo();
    json_object_seed(0);  // the JSON library wants a random number once, which is out of reach behind the walls
    return tarn_jail_enter(TARN_JAIL_ALL, m->seconds, m->memory, err);
}

static tarn_status open_sealed(void *arg, const char *name, tarn_model **out, tarn_error *err) {
    inmate *m = arg;
    tarn_policy policy = {0};
    for (int k = 0; k < m->ninputs; k++) {
        const sealed_input *in = &m->input[k];
        if (strlen(name) == in->name_len && memcmp(name, in->name, in->name_len) == 0) {
            return tarn_model_of_header(&m->cx, name, &in->header, &policy, out, err);
        }
    }
    return TARN_OK;
}

static tarn_status serve(inmate *m, tarn_error *err) {
    tarn_arena a;
    tarn_arena_init(&a, &m->cx.budget);
    tarn_recipe *r;
    const char *name = tarn_arena_string(&a, m->name, m->name_len);
    const char *what = tarn_arena_string(&a, m->what, m->what_len);
    if (!name || !what) {
        return tarn_raise_nomem(err, "the question", 0);
    }
    tarn_recipe_source source = {.name = name, .text = m->text, .len = m->text_len, .seconds = m->seconds,
                                 .ready = shut, .ready_arg = m};
    TARN_TRY(tarn_recipe_open(&m->cx, &source, &r, err));
    return tarn_recipe_ask(r, what, m->json, m->json_len, open_sealed, m, &m->answer, err);
}

// Nothing is freed: the process ends here.
int tarn_untrusted_main(int argc, char **argv) {
    tarn_error err = {0};
    inmate *m = calloc(1, sizeof *m);
    if (!m || argc != 4) {
        free(m);
        return 1;
    }
    m->seconds = atof(argv[2]);
    m->memory = (size_t)strtoull(argv[3], NULL, 10);
    tarn_options o = {.threads = 1, .memory = m->memory};
    if (tarn_context_init(&m->cx, &o, &err) != TARN_OK) {
        free(m);
        return 1;
    }
    tarn_text_init(&m->question, &m->cx.budget);
    tarn_text_init(&m->answer, &m->cx.budget);
    tarn_status s = read_question(m, &err);
    s = s == TARN_OK ? serve(m, &err) : s;
    fflush(stdout);
    bool told;
    if (s == TARN_OK) {
        told = tarn_jail_answer("ok\n", 3) && tarn_jail_answer(m->answer.data, m->answer.len);
    } else {
        char head[64];
        snprintf(head, sizeof head, "error %s\n", err.code);
        told = tarn_jail_answer(head, strlen(head)) && tarn_jail_answer(err.message, strlen(err.message));
    }
    _exit(told ? 0 : 1);
}

// ---- the parent ----

static void show_said(const tarn_text *said, tarn_text *buffer) {
    tarn_report_lines(buffer, said->data ? said->data : "", said->len);
    if (buffer->len > 0 && !buffer->failed) {
        fwrite(buffer->data, 1, buffer->len, stdout);
        fputs(buffer->data[buffer->len - 1] == '\n' ? "" : "\n", stdout);
        fflush(stdout);
    }
}

static void add_input(lua_State *L, tarn_text *q, const char *name, const char *path) {
    tarn_open_options o = {.label = name};
    tarn_error err;
    tarn_error_clear(&err);
    tarn_model **m = tarn_bind_new_model(L);
    if (tarn_model_open(tarn_host_context(L), path, &o, m, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    tarn_text *header = tarn_bind_new_text(L);
    uint64_t data = tarn_store_header((*m)->store, header);
    add_field(q, name, strlen(name));
    add_field(q, header->data ? header->data : "", header->len);
    add_field(q, (const char *)&data, sizeof data);
    add_field(q, (*m)->config ? (*m)->config : "", (*m)->config ? (*m)->config_len : 0);
    q->failed = q->failed || header->failed;
    tarn_text_free(header);
    lua_pop(L, 2);
}

static tarn_text *push_question(lua_State *L) {
    tarn_text *q = tarn_bind_new_text(L);
    for (int i = 1; i <= 4; i++) {
        size_t len;
        const char *s = luaL_checklstring(L, i, &len);
        add_field(q, s, len);
    }
    int n = 0;
    lua_pushnil(L);
    while (lua_next(L, 5)) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING || ++n > INPUTS) {
            tarn_lua_error(L, "tarn.untrusted: inputs are { NAME = PATH, … }, at most %d", INPUTS);
        }
        add_input(L, q, lua_tostring(L, -2), lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    if (q->failed) {
        tarn_lua_error(L, "tarn.untrusted: the headers of the inputs do not fit in memory");
    }
    return q;
}

// Pushes the answer; else the record says what the child said, or what became of it.
static tarn_status read_answer(lua_State *L, const tarn_text *a, tarn_error *err) {
    const char *s = a->data ? a->data : "";
    const char *end = memchr(s, '\n', a->len);
    size_t skip = end ? (size_t)(end - s) + 1 : 0;
    if (skip == 3 && memcmp(s, "ok", 2) == 0) {
        lua_pushlstring(L, s + skip, a->len - skip);
        return TARN_OK;
    }
    char code[32] = "";
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if (skip < 7 || skip > 7 + sizeof code - 1 || memcmp(s, "error ", 6) != 0 ||
        strspn(s + 6, letters) != skip - 7) {
        TARN_RAISE(err, "AnswerInvalid", "its process answered what is no answer");
    }
    memcpy(code, s + 6, skip - 7);
    tarn_text *message = tarn_bind_new_text(L);
    tarn_report_lines(message, s + skip, a->len - skip < 1500 ? a->len - skip : 1500);
    tarn_status status = tarn_raise(err, code, "%s", message->data ? message->data : "it failed without a message");
    tarn_text_free(message);
    return status;
}

static int l_untrusted(lua_State *L) {
    tarn_context *cx = tarn_host_context(L);
    char seconds[32], memory[32];
    luaL_checktype(L, 5, LUA_TTABLE);
    double limit = luaL_optnumber(L, 6, SECONDS);
    luaL_argcheck(L, limit > 0 && limit < 1e6, 6, "a number of seconds expected");
    lua_settop(L, 5);
    tarn_text *question = push_question(L), *answer = tarn_bind_new_text(L), *said = tarn_bind_new_text(L);
    snprintf(seconds, sizeof seconds, "%.3f", limit);
    snprintf(memory, sizeof memory, "%zu", cx->budget.limit < MEMORY ? cx->budget.limit : (size_t)MEMORY);
    const char *argv[] = {"tarn", TARN_UNTRUSTED, seconds, memory, NULL};
    tarn_jail j = {.argv = argv, .seconds = limit + 1, .answer = ANSWER, .said = SAID, .cancel = &cx->cancel};
    tarn_error err;
    tarn_error_clear(&err);
    tarn_status s = tarn_jail_run(&j, question->data, question->len, answer, said, &err);
    tarn_text_free(question);
    said->len = strcmp(err.code, "OutputTooLarge") == 0 && said->len > SHOWN ? SHOWN : said->len;
    show_said(said, tarn_bind_new_text(L));
    bool own = s != TARN_OK;  // words of this side
    s = own ? s : read_answer(L, answer, &err);
    if (s != TARN_OK) {
        own = own || strcmp(err.code, "AnswerInvalid") == 0;
        if (own && s == TARN_ERROR) {
            tarn_error_prefix(&err, "%s, run without trust", lua_tostring(L, 1));
        }
        return tarn_lua_raise(L, &err);
    }
    return 1;
}

static const tarn_binding rows[] = {
    {{"tarn.untrusted", "tarn.untrusted(name, text, question, json, {NAME = PATH, …}, seconds) -> string",
      "Asks a recipe a question (\"describe\" or \"build\", with its details in JSON) in a process that has no files, no "
      "network and no other processes: it gets the recipe's text, by `name` in messages, and what the headers and "
      "config.json of the inputs say. Returns the answer, JSON which a hostile recipe may have made to its liking. A process "
      "that dies, takes longer than `seconds` (60), or says too much is an error. What the recipe printed is printed. "
      "`tarn run --untrusted` does this.",
      "local text = [[return recipe { name = \"half\", inputs = { a = {} }, build = function(m) return 0.5 * m.a end }]]\n"
      "local answer = tarn.untrusted(\"half.lua\", text, \"build\", \"{}\", { a = \"examples/data/base.safetensors\" })\n"
      "print(model.of_plan(require(\"json.decode\").decode(answer).outputs[1].plan,\n"
      "  { input = { a = \"examples/data/base.safetensors\" } }):mass())\n-- > 0.5"}, l_untrusted},
};

void tarn_untrusted_module(tarn_host *h) {
    tarn_host_module(h, "tarn", rows, sizeof rows / sizeof *rows);
}
