// SPDX-License-Identifier: Apache-2.0
// The module `yaml`: text to Lua tables, and beside them where everything stood, so that whoever
// checks a configuration can point at the line. Writing YAML is not here.
#include "stdlib/bind/bind.h"
#include "vm/format/yaml.h"

#define TREE "yaml tree"

typedef struct {
    tarn_arena arena;
    bool open;
} tree;

static void release_tree(void *self) {
    tree *t = self;
    if (t->open) {
        tarn_arena_free(&t->arena);
        t->open = false;
    }
}

// Stack slots of the conversion: tables already made (by node: an alias is the same table), and the
// positions (by table).
typedef struct {
    int seen, at;
} slots;

static void set_integer(lua_State *L, const char *field, int v) {
    lua_pushinteger(L, v);
    lua_setfield(L, -2, field);
}

static void push_node(lua_State *L, const slots *s, const tarn_yaml *y);

// Pushes {kind =, line =, column =, keys =, lines =, columns =} of a list or map.
static void push_position(lua_State *L, const tarn_yaml *y) {
    bool map = y->kind == TARN_YAML_MAP;
    int n = (int)y->count;
    lua_createtable(L, 0, 6);
    lua_pushstring(L, map ? "map" : "list");
    lua_setfield(L, -2, "kind");
    set_integer(L, "line", y->line);
    set_integer(L, "column", y->column);
    lua_createtable(L, map ? n : 0, 0);            // keys
    lua_createtable(L, map ? 0 : n, map ? n : 0);  // lines
    lua_createtable(L, map ? 0 : n, map ? n : 0);  // columns
    for (int i = 0; i < n; i++) {
        const tarn_yaml *from = map ? y->keys[i] : y->items[i];
        if (map) {
            lua_pushlstring(L, from->text, from->len);
            lua_pushvalue(L, -1);
            lua_rawseti(L, -5, i + 1);
        } else {
            lua_pushinteger(L, i + 1);
        }
        lua_pushvalue(L, -1);
        lua_pushinteger(L, from->line);
        lua_rawset(L, -5);
        lua_pushinteger(L, from->column);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -4, "columns");
    lua_setfield(L, -3, "lines");
    lua_setfield(L, -2, "keys");
}

static void push_collection(lua_State *L, const slots *s, const tarn_yaml *y) {
    bool map = y->kind == TARN_YAML_MAP;
    int n = (int)y->count;
    luaL_checkstack(L, 12, "yaml");
    if (lua_rawgetp(L, s->seen, y) == LUA_TTABLE) {
        return;
    }
    lua_pop(L, 1);
    lua_createtable(L, map ? 0 : n, map ? n : 0);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, s->seen, y);
    lua_pushvalue(L, -1);
    push_position(L, y);
    lua_rawset(L, s->at);
    for (int i = 0; i < n; i++) {
        if (map) {
            lua_pushlstring(L, y->keys[i]->text, y->keys[i]->len);
            push_node(L, s, y->items[i]);
            lua_rawset(L, -3);
        } else {
            push_node(L, s, y->items[i]);
            lua_rawseti(L, -2, i + 1);
        }
    }
}

static void push_node(lua_State *L, const slots *s, const tarn_yaml *y) {
    switch (y->kind) {
    case TARN_YAML_NULL:
        lua_pushlightuserdata(L, NULL);
        break;
    case TARN_YAML_BOOL:
        lua_pushboolean(L, y->boolean);
        break;
    case TARN_YAML_INT:
        lua_pushinteger(L, y->integer);
        break;
    case TARN_YAML_FLOAT:
        lua_pushnumber(L, y->number);
        break;
    case TARN_YAML_STRING:
        lua_pushlstring(L, y->text, y->len);
        break;
    case TARN_YAML_LIST:
    case TARN_YAML_MAP:
        push_collection(L, s, y);
        break;
    }
}

// The documents of the text; pushes the tables that s names: of aliases, and of positions.
static tree *read_text(lua_State *L, const char *name, int *n, tarn_yaml ***docs, slots *s) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_settop(L, 2);
    tree *t = tarn_lua_new(L, TREE, sizeof *t);
    tarn_arena_init(&t->arena, &tarn_host_context(L)->budget);
    t->open = true;
    tarn_error err;
    tarn_error_clear(&err);
    if (tarn_yaml_read(&t->arena, text, len, name, n, docs, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    *s = (slots){lua_gettop(L) + 1, lua_gettop(L) + 2};
    lua_newtable(L);
    lua_newtable(L);
    return t;
}

static int l_read(lua_State *L) {
    const char *name = luaL_optstring(L, 2, "yaml");
    int n;
    tarn_yaml **docs;
    slots s;
    tree *t = read_text(L, name, &n, &docs, &s);
    if (n > 1) {
        return tarn_lua_error(L, "%s:%d: a second document; yaml.read takes one", name,
                              docs[1]->line);
    }
    if (n == 1) {
        push_node(L, &s, docs[0]);
    } else {
        lua_pushlightuserdata(L, NULL);
    }
    lua_pushvalue(L, s.at);
    release_tree(t);
    return 2;
}

static int l_documents(lua_State *L) {
    int n;
    tarn_yaml **docs;
    slots s;
    tree *t = read_text(L, luaL_optstring(L, 2, "yaml"), &n, &docs, &s);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        push_node(L, &s, docs[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushvalue(L, s.at);
    release_tree(t);
    return 2;
}

static const tarn_binding rows[] = {
    {{"yaml", "yaml", "YAML text to Lua tables.", NULL}, NULL},
    {{"yaml.read", "yaml.read(text, name = \"yaml\") -> value, positions",
      "One document. Maps become tables with string keys, lists tables from 1, null yaml.null (so "
      "does an empty text); an alias is the same table as its anchor. Plain scalars mean what they "
      "mean to PyYAML (YAML 1.1: yes and off are booleans, 010 is 8); what YAML 1.2 alone calls a "
      "number (1e-5) is one too. Merge keys (<<) are honoured. Errors name the file, line and "
      "column: bad syntax, duplicate keys, keys that are not scalars, tags other than the core "
      "ones, more than 16 MiB of text, 64 levels or 10^6 values with aliases written out.\n"
      "positions[t] tells of every table t of the value: kind (\"map\" or \"list\"), line, column, "
      "keys (of a map, in the order of the text), lines[key] and columns[key] (of the key, or of "
      "the item).",
      "local doc, at = yaml.read(\"model: a\\nweight: [0.5, no]\\n\", \"c.yml\")\n"
      "print(doc.model, doc.weight[1], doc.weight[2])\n-- > a\t0.5\tfalse\n"
      "print(at[doc].keys[2], at[doc].lines.weight, at[doc.weight].columns[2])\n"
      "-- > weight\t2\t15"},
     l_read},
    {{"yaml.documents", "yaml.documents(text, name = \"yaml\") -> list, positions",
      "All documents of a text (what lines of --- divide), each as yaml.read gives one; positions are "
      "those of the tables of all of them.",
      "print(#yaml.documents \"name: a\\n---\\nname: b\\n\")\n-- > 2"},
     l_documents},
    {{"yaml.null", "yaml.null", "What yaml.read puts for null, since tables cannot hold nil.",
      "print(yaml.read \"a: ~\".a == yaml.null)\n-- > true"},
     NULL},
};

tarn_status tarn_bind_yaml(tarn_host *h, tarn_error *err) {
    static const tarn_lua_class class = {TREE, release_tree, NULL};
    lua_State *L = tarn_host_state(h);
    (void)err;
    tarn_lua_type(L, &class);
    tarn_host_module(h, "yaml", rows, (int)(sizeof rows / sizeof *rows));
    tarn_host_push_module(h, "yaml");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    lua_pop(L, 1);
    return TARN_OK;
}
