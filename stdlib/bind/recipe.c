// SPDX-License-Identifier: Apache-2.0
// The module `recipe`, and what stdlib/recipe.lua needs of C for it: a recipe's own host, plans as models,
// digests, saving with what the recipe says of itself.
#include "stdlib/bind/recipe.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "stdlib/bind/model.h"
#include "vm/base/digest.h"
#include "vm/store/digests.h"

#define HANDLE "recipe host"

enum { PATHS = 256 };

typedef struct {
    tarn_recipe *r;
} handle;

static void release_handle(void *self) {
    handle *h = self;
    tarn_recipe_close(h->r);
    h->r = NULL;
}

// ---- names and where their models are, as a table { NAME = PATH or model } gives them ----

typedef struct {
    tarn_context *cx;
    int n;
    const char *name[PATHS], *path[PATHS];  // what a table on the stack keeps; the path of a model is NULL
    tarn_model *model[PATHS];
} paths;

// Texts of the table at idx; a table that keeps them is pushed.
static void read_paths(lua_State *L, int idx, const char *function, paths *p) {
    luaL_checktype(L, idx, LUA_TTABLE);
    p->cx = tarn_host_context(L);
    p->n = 0;
    lua_newtable(L);
    int kept = lua_gettop(L), slot = 0;
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        bool text = lua_type(L, -1) == LUA_TSTRING;
        p->model[p->n] = text ? NULL : tarn_bind_to_model(L, -1);
        if (lua_type(L, -2) != LUA_TSTRING || (!text && !p->model[p->n]) || p->n == PATHS - 1) {
            tarn_lua_error(L, "%s: expected { NAME = PATH, … }, fewer than %d of them", function, (int)PATHS);
        }
        p->name[p->n] = tarn_lua_check_path(L, -2);
        p->path[p->n++] = text ? tarn_lua_check_path(L, -1) : NULL;
        lua_rawseti(L, kept, ++slot);
        lua_pushvalue(L, -1);
        lua_rawseti(L, kept, ++slot);
    }
}

static int find_name(const paths *p, const char *name) {
    int k = 0;
    while (k < p->n && strcmp(p->name[k], name) != 0) {
        k++;
    }
    return k < p->n ? k : -1;
}

static tarn_status open_named(void *arg, const char *name, tarn_model **out, tarn_error *err) {
    const paths *p = arg;
    int k = find_name(p, name);
    tarn_open_options o = {.label = name};
    if (k >= 0 && p->model[k]) {
        *out = tarn_model_retain(p->model[k]);
        return TARN_OK;
    }
    return k >= 0 ? tarn_model_open(p->cx, p->path[k], &o, out, err) : TARN_OK;
}

static const char *plan_path(void *arg, const char *label, int n) {
    (void)n;
    int k = find_name(arg, label);
    return k >= 0 ? ((const paths *)arg)->path[k] : NULL;
}

// ---- a recipe's host ----

// open(path, text, seconds) -> handle
static int l_open(lua_State *L) {
    size_t len;
    const char *path = tarn_lua_check_path(L, 1), *text = luaL_checklstring(L, 2, &len);
    const char *slash = strrchr(path, '/');
    tarn_recipe_source source = {.owner = tarn_host_of(L), .name = path, .text = text, .len = len,
                                 .seconds = luaL_checknumber(L, 3)};
    lua_pushlstring(L, slash ? path : ".", slash == path ? 1 : slash ? (size_t)(slash - path) : 1);
    source.folder = lua_tostring(L, -1);
    tarn_error err;
    tarn_error_clear(&err);
    handle *h = tarn_lua_new(L, HANDLE, sizeof *h);
    TARN_LUA_TRY(L, tarn_recipe_open(tarn_host_context(L), &source, &h->r, &err), &err);
    return 1;
}

// ask(handle, question, json, { NAME = PATH or model }) -> json
static int l_ask(lua_State *L) {
    const handle *h = tarn_lua_check(L, 1, HANDLE);
    size_t len;
    const char *question = luaL_checkstring(L, 2), *json = luaL_checklstring(L, 3, &len);
    paths *p = lua_newuserdatauv(L, sizeof *p, 0);
    read_paths(L, 4, "recipe", p);
    tarn_text *answer = tarn_bind_new_text(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_recipe_ask(h->r, question, json, len, open_named, p, answer, &err), &err);
    return tarn_bind_push_text(L, answer, "the answer of a recipe");
}

// ---- plans ----

static int l_of_plan(lua_State *L) {
    static const char *const names[] = {"input", NULL};
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_settop(L, 2);
    tarn_lua_check_options(L, 2, "model.of_plan", names, false);
    paths *p = lua_newuserdatauv(L, sizeof *p, 0);
    if (lua_isnil(L, 2) || lua_getfield(L, 2, "input") == LUA_TNIL) {
        lua_newtable(L);
    }
    read_paths(L, lua_gettop(L), "model.of_plan", p);
    tarn_plan_options o;
    tarn_error err;
    tarn_error_clear(&err);
    tarn_model **m = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, tarn_plan_read(tarn_host_context(L), text, len, plan_path, p, m, &o, &err), &err);
    lua_pushstring(L, o.has_dtype ? tarn_dtype_get(o.dtype)->name : NULL);
    return 2;
}

static int l_digest(lua_State *L) {
    const tarn_model *m = tarn_bind_check_model(L, 1);
    char hex[65];
    tarn_error err;
    tarn_error_clear(&err);
    if (!m->store || m->nin > 0) {
        return tarn_lua_error(L, "model:digest: %s is not in files", tarn_model_label(m));
    }
    tarn_bind_force(L, "model:digest()");
    TARN_LUA_TRY(L, tarn_model_digest(m, hex, &err), &err);
    lua_pushstring(L, hex);
    return 1;
}

// ---- saving ----

static const char *field(lua_State *L, int idx, const char *name, size_t *len) {
    lua_getfield(L, idx, name);
    const char *s = lua_tolstring(L, -1, len);
    lua_pop(L, 1);  // the table keeps it
    return s;
}

// The list `inputs` of the table at idx: { {label, source, license}, … }.
static void read_about_inputs(lua_State *L, int idx, tarn_about *a) {
    lua_getfield(L, idx, "inputs");
    int list = lua_gettop(L), n = (int)lua_rawlen(L, list);
    tarn_about_input *rows = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *rows, 0);
    for (int k = 0; k < n; k++) {
        lua_rawgeti(L, list, k + 1);
        int row = lua_gettop(L);
        rows[k] = (tarn_about_input){field(L, row, "label", NULL), field(L, row, "source", NULL),
                                     field(L, row, "license", NULL)};
        lua_pop(L, 1);
    }
    a->inputs = rows;
    a->ninputs = n;
}

// save(model, path, about, overwrite)
static int l_save(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    const char *path = tarn_lua_check_path(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    tarn_about a = {.name = field(L, 3, "name", NULL), .version = field(L, 3, "version", NULL),
                    .license = field(L, 3, "license", NULL), .summary = field(L, 3, "summary", NULL)};
    a.recipe = field(L, 3, "text", &a.recipe_len);
    a.lock = field(L, 3, "lock", &a.lock_len);
    tarn_save_options o = {.about = &a, .overwrite = lua_toboolean(L, 4)};
    tarn_error err;
    tarn_error_clear(&err);
    read_about_inputs(L, 3, &a);
    tarn_bind_force(L, "recipe.run");
    TARN_LUA_TRY(L, tarn_model_save(tarn_host_context(L), m, path, &o, &err), &err);
    return 0;
}

// ---- files ----

static int l_sha256(lua_State *L) {
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    unsigned char sum[32];
    char hex[65];
    tarn_sha256_of(s, len, sum);
    tarn_hex(sum, 32, hex);
    lua_pushstring(L, hex);
    return 1;
}

// real(path) -> the path without links, or nil when nothing is there
static int l_real(lua_State *L) {
    char full[PATH_MAX];
    lua_pushstring(L, realpath(tarn_lua_check_path(L, 1), full));
    return 1;
}

// kind(path) -> "folder", "file" or nil
static int l_kind(lua_State *L) {
    struct stat st;
    bool there = stat(tarn_lua_check_path(L, 1), &st) == 0;
    lua_pushstring(L, !there ? NULL : S_ISDIR(st.st_mode) ? "folder" : S_ISREG(st.st_mode) ? "file" : NULL);
    return 1;
}

// make_folder(path): one that is there is fine
static int l_make_folder(lua_State *L) {
    const char *path = tarn_lua_check_path(L, 1);
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        return tarn_lua_error(L, "cannot make the folder %s: %s", path, strerror(errno));
    }
    return 0;
}

// temporary() -> a new folder in TMPDIR
static int l_temporary(lua_State *L) {
    const char *folder = getenv("TMPDIR");
    tarn_text *path = tarn_bind_new_text(L);
    tarn_text_printf(path, "%s/tarn-XXXXXX", folder && *folder ? folder : "/tmp");
    if (!path->failed && !mkdtemp(path->data)) {
        return tarn_lua_error(L, "cannot make the folder %s: %s", path->data, strerror(errno));
    }
    return tarn_bind_push_text(L, path, "a path");
}

// ---- the digest store ----

static void push_entry(lua_State *L, const tarn_digest_entry *e) {
    lua_createtable(L, 0, 6);
    tarn_bind_set_integer(L, "device", (lua_Integer)e->id[0]);
    tarn_bind_set_integer(L, "inode", (lua_Integer)e->id[1]);
    tarn_bind_set_integer(L, "size", (lua_Integer)e->id[2]);
    tarn_bind_set_integer(L, "changed", (lua_Integer)(e->id[3] / 1000000000u));
    tarn_bind_set_integer(L, "tensors", (lua_Integer)e->tensors);
    lua_pushboolean(L, e->whole);
    lua_setfield(L, -2, "whole");
}

// digests(clear) -> { {device, inode, size, changed, tensors, whole}, … }, folder or nil, on
static int l_digests(lua_State *L) {
    bool clear = lua_toboolean(L, 1);
    tarn_context *cx = tarn_host_context(L);
    tarn_text *folder = tarn_bind_new_text(L), *entries = tarn_bind_new_text(L);
    bool there = tarn_digests_list(cx, clear, entries, folder);
    lua_newtable(L);
    tarn_digest_entry e;
    for (size_t k = 0; k < entries->len / sizeof e; k++) {
        memcpy(&e, entries->data + k * sizeof e, sizeof e);
        push_entry(L, &e);
        lua_rawseti(L, -2, (lua_Integer)k + 1);
    }
    if (there) {
        tarn_bind_push_text(L, folder, "a path");
    } else {
        lua_pushnil(L);
    }
    lua_pushboolean(L, tarn_digests_on(cx));
    return 3;
}

// forget(model): its digests are computed anew when they are next wanted
static int l_forget(lua_State *L) {
    const tarn_model *m = tarn_bind_check_model(L, 1);
    if (m->store) {
        tarn_digests_forget(m->cx, m->store);
    }
    return 0;
}

static const char recipe_key = 0;  // registry: make(t) -> recipe, or nil and what is wrong

static int l_recipe(lua_State *L) {
    lua_settop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &recipe_key);
    lua_insert(L, 1);
    lua_call(L, 1, 2);
    if (lua_isnil(L, 1)) {
        return tarn_lua_error(L, "%s", lua_tostring(L, 2));
    }
    lua_settop(L, 1);
    return 1;
}

static const tarn_binding rows[] = {
    {{"recipe", "recipe { name =, inputs =, build =, … } -> recipe",
      "A merge that others can run and repeat: what it needs, what can be set, and a function that makes the result. A file that returns one "
      "is run by `tarn run`, with what it declares and nothing else in reach. It is checked as a whole; all mistakes are told at once.\n"
      "  name: of the result. version, license, summary, authors (a text or a list): said in its model card\n"
      "  tarn: the version of the program that it is written for, \"0.1\"\n"
      "  inputs: { NAME = source or { source, license =, doc =, architecture =, shape = { [tensor] = {n, …} }, adapter_of =, optional = false } }. A source is "
      "hub:organisation/name@revision, looked for in the hub's local cache, or a path below the recipe's folder; without one, and in the place of "
      "one, --NAME PATH on the command line. architecture is the model_type of config.json. adapter_of = the name of another input: this one is a folder with an adapter of it, as PEFT "
      "writes it, and build gets what the adapter adds, as model.lora gives it\n"
      "  params: { NAME = default or { default, type =, min =, max =, choices =, doc = } }. type is number, integer, boolean, string or list (of "
      "numbers): by default that of the default\n"
      "  build(m, p): from the inputs and the parameters a model, or a table of models with names. It sees headers, and no values; an input that is not there is nil, one "
      "that is not declared an error\n"
      "  check(out, m, p): after the run; an error, or false and a message, says that the output is wrong\n"
      "  score(out, m, p): a number, or { NAME = number }, by which outputs compare: for sweeps\n"
      "Hashes of the inputs are not in the recipe: `tarn lock` writes them to a file beside it.",
      "local r = recipe { name = \"half and half\", inputs = { a = {}, b = {} }, params = { t = { 0.5, min = 0, max = 1 } },\n"
      "  build = function(m, p) return (1 - p.t) * m.a + p.t * m.b end }\nprint(r)\n-- > recipe half and half: 2 inputs, 1 params"}, l_recipe},
};

static const tarn_binding model_rows[] = {
    {{"model.of_plan", "model.of_plan(json, {input = {NAME = PATH}}) -> model, dtype",
      "The model of a plan's text (plan.json, or what a saved model embeds), over its inputs, which are found by their names and whose headers "
      "are checked. Not run. dtype is the one that m:save was given, or nil.",
      "local path = \"examples/data/base.safetensors\"\nlocal json = (0.5 * model.open(path)):plan().json\n"
      "print(model.of_plan(json, { input = { base = path } }):mass())\n-- > 0.5"}, l_of_plan},
    {{"model:digest", "m:digest() -> string",
      "The SHA-256 of the contents of a model in files: names, dtypes, shapes and data, whatever the files are called and however tensors are "
      "spread over them. Reads what the digest store does not know.",
      "print(#model.open(\"examples/data/base.safetensors\"):digest())\n-- > 64"}, l_digest},
};

static const luaL_Reg natives[] = {
    {"open", l_open},     {"ask", l_ask},         {"save", l_save},     {"sha256", l_sha256}, {"real", l_real},
    {"kind", l_kind},     {"digests", l_digests}, {"forget", l_forget}, {"make_folder", l_make_folder},
    {"temporary", l_temporary}, {"kind_of", tarn_bind_kind_of}, {NULL, NULL},
};

tarn_status tarn_bind_recipe(tarn_host *h, tarn_error *err) {
    static const tarn_lua_class class = {HANDLE, release_handle, NULL};
    lua_State *L = tarn_host_state(h);
    tarn_lua_type(L, &class);
    tarn_bind_rows(h, "model", model_rows, (int)(sizeof model_rows / sizeof *model_rows));
    tarn_host_module(h, "recipe", rows, (int)(sizeof rows / sizeof *rows));
    TARN_TRY(tarn_host_load_embedded(h, "stdlib/recipe.lua", err));
    tarn_bind_push_define(L);
    lua_pushcfunction(L, tarn_bind_check);
    luaL_newlib(L, natives);
    lua_pushstring(L, tarn_plan_version());
    lua_setfield(L, -2, "version");
    TARN_TRY(tarn_host_call(h, 3, 1, err));
    lua_rawsetp(L, LUA_REGISTRYINDEX, &recipe_key);
    return TARN_OK;
}
