// SPDX-License-Identifier: Apache-2.0
// Where chunks come from: the script's folder, the library inside the binary, and text given to
// `load`. Compiled chunks are refused everywhere (a forged one corrupts memory). A module's name is
// made of plain words, so it cannot lead out of the folder; in a recipe links are not followed.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/lua/embedded.h"
#include "vm/lua/state.h"

#define LIBRARY "stdlib/lua/"
#define FD_CLASS "file descriptor"

enum { SOURCE_MAX = 64 << 20, PATH_ROOM = 512 };

static const char loaded_key;   // registry: path -> what the module returned
static const char loading;      // the value there while the module runs

// ---- files ----

// A descriptor that the collector closes if an error passes by.
static void close_box(void *self) {
    int *fd = self;  // fd + 1; 0: closed
    if (*fd > 0) {
        close(*fd - 1);
        *fd = 0;
    }
}

void tarn_loader_open(lua_State *L) {
    static const tarn_lua_class c = {FD_CLASS, close_box, NULL};
    tarn_lua_type(L, &c);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
}

// tarn_read_file of an open file.
static tarn_status read_text(lua_State *L, int fd, const char *shown, tarn_error *err) {
    luaL_Buffer b;
    struct stat st;
    size_t total = 0;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        TARN_RAISE(err, "NotAFile", "%s is a folder, not a script", shown);
    }
    int why = 0;
    luaL_buffinit(L, &b);
    for (;;) {
        size_t room = 1 << 16;
        ssize_t n = read(fd, luaL_prepbuffsize(&b, room), room);
        if (n < 0 && errno == EINTR) {
            tarn_poll(L);
            continue;
        }
        if (n <= 0) {
            why = n < 0 ? errno : 0;
            break;
        }
        luaL_addsize(&b, (size_t)n);
        total += (size_t)n;
        if (total > SOURCE_MAX) {
            break;
        }
        tarn_poll(L);
    }
    luaL_pushresult(&b);  // lua_settop may not close a buffer: a fault of this Lua release
    if (why == 0 && total <= SOURCE_MAX) {
        return TARN_OK;
    }
    lua_pop(L, 1);
    if (why != 0) {
        TARN_RAISE(err, "CannotRead", "cannot read %s: %s", shown, strerror(why));
    }
    TARN_RAISE(err, "SourceTooLarge", "%s is larger than %d MiB: not a script", shown,
               SOURCE_MAX >> 20);
}

tarn_status tarn_read_file(lua_State *L, const char *path, tarn_error *err) {
    int *box = tarn_lua_new(L, FD_CLASS, sizeof *box);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int why = errno;
        lua_pop(L, 1);
        TARN_RAISE(err, "CannotOpen", "cannot open %s: %s", path, strerror(why));
    }
    *box = fd + 1;
    tarn_status s = read_text(L, fd, path, err);
    close_box(box);
    if (s == TARN_OK) {
        lua_remove(L, -2);
    } else {
        lua_pop(L, 1);
    }
    return s;
}

// ---- compiling ----

typedef struct {
    const char *text;
    size_t len;
} pieces;

static const char *next_piece(lua_State *L, void *arg, size_t *size) {
    enum { PIECE = 1 << 16 };
    pieces *p = arg;
    const char *s = p->text;
    tarn_poll(L);
    *size = p->len < PIECE ? p->len : PIECE;
    p->text += *size;
    p->len -= *size;
    return s;
}

int tarn_compile(lua_State *L, const char *text, size_t len, const char *chunkname) {
    pieces p = {text, len};
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        p.text += 3;
        p.len -= 3;
    }
    if (p.len > 0 && *p.text == '#') {  // the newline stays, so that lines count right
        const char *end = memchr(p.text, '\n', p.len);
        size_t skip = end ? (size_t)(end - p.text) : p.len;
        p.text += skip;
        p.len -= skip;
    }
    bool binary = p.len > 0 && *p.text == *LUA_SIGNATURE;
    int status = lua_load(L, next_piece, &p, chunkname, "t");
    if (status == LUA_ERRSYNTAX && binary) {  // Lua's own words name no file
        lua_pop(L, 1);
        lua_pushfstring(L, "%s: attempt to load a binary chunk: scripts are text",
                        chunkname + (*chunkname == '@' || *chunkname == '='));
    }
    return status;
}

// A reader of the script: called until it returns nothing. The pieces are kept at stack index 5.
static const char *call_reader(lua_State *L, void *arg, size_t *size) {
    size_t *total = arg;
    luaL_checkstack(L, 4, "load");
    tarn_poll(L);
    lua_pushvalue(L, 1);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        *size = 0;
        return NULL;
    }
    if (lua_type(L, -1) != LUA_TSTRING) {
        luaL_error(L, "load: the reader function must return a string");
    }
    lua_replace(L, 5);
    const char *s = lua_tolstring(L, 5, size);
    *total += *size;
    if (*total > SOURCE_MAX) {
        luaL_error(L, "load: the text is larger than %d MiB", SOURCE_MAX >> 20);
    }
    return s;
}

static int check_mode(lua_State *L, int idx) {
    const char *mode = luaL_optstring(L, idx, "t");
    if (!strchr(mode, 't')) {
        return tarn_lua_error(L, "compiled chunks are not accepted: mode '%.8s' must include 't'",
                              mode);
    }
    return 0;
}

static int finish_load(lua_State *L, int status, int env) {
    if (status != LUA_OK) {
        tarn_rethrow_fatal(L, status);
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (env) {
        lua_pushvalue(L, env);
        if (!lua_setupvalue(L, -2, 1)) {
            lua_pop(L, 1);
        }
    }
    return 1;
}

int tarn_load(lua_State *L) {
    int status;
    size_t len, total = 0;
    int env = lua_isnone(L, 4) ? 0 : 4;
    check_mode(L, 3);
    if (lua_type(L, 1) == LUA_TSTRING) {
        const char *s = lua_tolstring(L, 1, &len);
        const char *name = luaL_optstring(L, 2, s);
        pieces p = {s, len};
        status = lua_load(L, next_piece, &p, name, "t");
    } else {
        const char *name = luaL_optstring(L, 2, "=(load)");
        luaL_checktype(L, 1, LUA_TFUNCTION);
        lua_settop(L, 5);
        status = lua_load(L, call_reader, &total, name, "t");
    }
    return finish_load(L, status, env);
}

static int l_loadfile(lua_State *L) {
    tarn_error err;
    const char *path = tarn_lua_check_path(L, 1);
    size_t len;
    int env = lua_isnone(L, 3) ? 0 : 3;
    check_mode(L, 2);
    if (tarn_read_file(L, path, &err) != TARN_OK) {
        lua_pushnil(L);
        lua_pushstring(L, err.message);
        return 2;
    }
    const char *text = lua_tolstring(L, -1, &len);
    lua_pushfstring(L, "@%s", path);
    return finish_load(L, tarn_compile(L, text, len, lua_tostring(L, -1)), env);
}

static int l_dofile(lua_State *L) {
    lua_settop(L, 1);
    if (l_loadfile(L) == 2) {
        return lua_error(L);
    }
    lua_call(L, 0, LUA_MULTRET);
    return lua_gettop(L) - 3;  // path, text, chunk name
}

const luaL_Reg tarn_file_functions[] = {
    {"loadfile", l_loadfile}, {"dofile", l_dofile}, {NULL, NULL}};

// ---- modules ----

static const tarn_embedded_file *embedded(const char *path) {
    for (const tarn_embedded_file *f = tarn_embedded_files; f->path; f++) {
        if (strcmp(f->path, path) == 0) {
            return f;
        }
    }
    return NULL;
}

bool tarn_is_embedded(const char *path) { return embedded(path) != NULL; }

// Pushes what was loaded from `path` before; false (nothing pushed) when it was not.
static bool push_loaded(lua_State *L, const char *path) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key);
    lua_getfield(L, -1, path);
    lua_remove(L, -2);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    if (lua_touserdata(L, -1) == &loading) {
        tarn_lua_error(L, "require: %s is being loaded already: modules require each other in a "
                       "loop", path);
    }
    return true;
}

static void set_loaded(lua_State *L, const char *path) {  // pops the value
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key);
    lua_insert(L, -2);
    lua_setfield(L, -2, path);
    lua_pop(L, 1);
}

static int forget(lua_State *L) {  // to-be-closed: a module that failed may be tried again
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key);
    lua_getfield(L, -1, lua_tostring(L, lua_upvalueindex(1)));
    if (lua_touserdata(L, -1) == &loading) {
        lua_pushnil(L);
        lua_setfield(L, -3, lua_tostring(L, lua_upvalueindex(1)));
    }
    return 0;
}

static void push_forget(lua_State *L, const char *path) {
    lua_newtable(L);
    lua_newtable(L);
    lua_pushstring(L, path);
    lua_pushcclosure(L, forget, 1);
    lua_setfield(L, -2, "__close");
    lua_setmetatable(L, -2);
}

// Runs `text` as the module `name` from `path`; pushes its value.
static void run_module(lua_State *L, const char *name, const char *path, const char *shown,
                       const char *text, size_t len, bool library) {
    luaL_checkstack(L, 12, "require");
    push_forget(L, path);
    lua_toclose(L, -1);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&loading);
    set_loaded(L, path);
    lua_pushfstring(L, "@%s", shown);
    int status = tarn_compile(L, text, len, lua_tostring(L, -1));
    lua_remove(L, -2);
    if (status != LUA_OK) {
        tarn_rethrow_fatal(L, status);
        lua_error(L);
    }
    if (library) {
        tarn_env_push_library(L);
        lua_setupvalue(L, -2, 1);
    }
    lua_pushstring(L, name);
    lua_pushstring(L, shown);
    lua_call(L, 2, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, -1);
    set_loaded(L, path);
    lua_closeslot(L, -2);
    lua_remove(L, -2);
}

void tarn_push_embedded(lua_State *L, const char *path) {
    const tarn_embedded_file *f = embedded(path);
    if (!f) {
        tarn_lua_error(L, "%.200s is not in the library of this program", path);
    } else if (!push_loaded(L, path)) {
        run_module(L, path, path, path, f->text, f->len, true);
    }
}

// "nn.layer" -> "nn/layer" in buf; false when a part is not a plain word.
static bool module_path(const char *name, char *buf, size_t room) {
    size_t n = strlen(name);
    if (n == 0 || n >= room || name[0] == '.' || name[n - 1] == '.') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-';
        if (!word && (c != '.' || name[i - 1] == '.')) {
            return false;
        }
        buf[i] = c == '.' ? '/' : c;
    }
    buf[n] = '\0';
    return true;
}

// Opens the file below the folder, step by step; -1 when there is none (errno says why).
static int open_below(const tarn_host *h, const char *path) {
    char part[PATH_ROOM];
    int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
    flags |= h->trust == TARN_TRUST_RECIPE ? O_NOFOLLOW : 0;
    int at = h->folder;
    for (const char *s = path;; s++) {
        size_t n = strcspn(s, "/");
        memcpy(part, s, n);
        part[n] = '\0';
        bool last = s[n] == '\0';
        int fd = openat(at, part, last ? flags : flags | O_DIRECTORY);
        int why = errno;
        if (at != h->folder) {
            close(at);
        }
        errno = why;
        if (fd < 0 || last) {
            return fd;
        }
        at = fd;
        s += n;
    }
}

static bool require_file(lua_State *L, const char *name, const char *path) {
    tarn_host *h = tarn_host_of(L);
    tarn_error err;
    struct stat st;
    if (h->folder < 0) {
        return false;
    }
    const char *shown = lua_pushfstring(L, "%s%s%s", h->folder_name,
                                        *h->folder_name ? "/" : "", path);
    int slot = lua_gettop(L);
    if (push_loaded(L, shown)) {
        return true;
    }
    int *box = tarn_lua_new(L, FD_CLASS, sizeof *box);
    int fd = open_below(h, path);
    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR) {
            tarn_lua_error(L, "require '%s': cannot open %s: %s", name, shown,
                           errno == ELOOP ? "a link, which a recipe may not follow"
                                          : strerror(errno));
        }
        lua_settop(L, slot - 1);
        return false;
    }
    *box = fd + 1;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        tarn_lua_error(L, "require '%s': %s is not a regular file", name, shown);
    }
    TARN_LUA_TRY(L, read_text(L, fd, shown, &err), &err);
    close_box(box);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    run_module(L, name, shown, shown, text, len, false);
    return true;
}

static bool require_embedded(lua_State *L, const char *folder, const char *path) {
    char full[PATH_ROOM + 32];
    snprintf(full, sizeof full, "%s%s", folder, path);
    if (!embedded(full)) {
        return false;
    }
    tarn_push_embedded(L, full);
    return true;
}

// Fills the table on top with the names that `require` knows as keys.
static void add_known(lua_State *L) {
    enum { NAMES = 128, ROOM = 64 };
    tarn_host *h = tarn_host_of(L);
    char names[NAMES][ROOM];
    int n = 0;
    int fd = h->folder >= 0 ? openat(h->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; dir && n < NAMES && (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        if (len > 4 && len - 4 < ROOM && strcmp(e->d_name + len - 4, ".lua") == 0) {
            snprintf(names[n++], ROOM, "%.*s", (int)(len - 4), e->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    } else if (fd >= 0) {
        close(fd);
    }
    for (int i = 0; i < n; i++) {  // nothing is open any more: these may raise
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, names[i]);
    }
    for (const tarn_embedded_file *f = tarn_embedded_files; f->path; f++) {
        size_t len = strlen(f->path), skip = sizeof LIBRARY - 1;
        if (strncmp(f->path, LIBRARY, skip) == 0 && len > skip + 4) {
            lua_pushlstring(L, f->path + skip, len - skip - 4);
            luaL_gsub(L, lua_tostring(L, -1), "/", ".");
            lua_pushboolean(L, 1);
            lua_rawset(L, -4);
            lua_pop(L, 1);
        }
    }
}

static int not_found(lua_State *L, const char *name) {
    tarn_host *h = tarn_host_of(L);
    lua_newtable(L);
    add_known(L);
    const char *near = tarn_nearest_key(L, -1, name);
    const char *folder = !h->folder_name ? NULL : *h->folder_name ? h->folder_name : ".";
    if (folder && h->folder < 0) {
        return tarn_lua_error(L, "module '%s' not found: the folder %s cannot be opened", name,
                              folder);
    }
    return tarn_lua_error(L, "module '%s' not found%s%s%s%s%s", name,
                          folder ? " in the folder " : "", folder ? folder : "",
                          near     ? "; did you mean '"
                          : folder ? " or in the library"
                                   : " in the library",
                          near ? near : "",
                          near ? "'?" : "");
}

static bool from_library(lua_State *L) {
    lua_Debug ar;
    return lua_getstack(L, 1, &ar) && lua_getinfo(L, "S", &ar) &&
           strncmp(ar.source, "@stdlib/", 8) == 0;
}

// A script's own files come before the library's; the library's own requires stay inside it, and find the
// parts of its modules too ("nn.layer" is stdlib/nn/layer.lua).
int tarn_require(lua_State *L) {
    char path[PATH_ROOM / 2], file[PATH_ROOM], init[PATH_ROOM];
    const char *name = tarn_lua_check_path(L, 1);
    lua_settop(L, 1);
    if (!module_path(name, path, sizeof path)) {
        return tarn_lua_error(L, "require: '%.60s' is not a module's name (words joined by dots; "
                              "files are looked for in the script's own folder)", name);
    }
    snprintf(file, sizeof file, "%s.lua", path);
    snprintf(init, sizeof init, "%s/init.lua", path);
    bool library = from_library(L);
    if ((!library && (require_file(L, name, file) || require_file(L, name, init))) ||
        require_embedded(L, LIBRARY, file) || require_embedded(L, LIBRARY, init) ||
        (library && strchr(name, '.') && require_embedded(L, "stdlib/", file))) {
        return 1;
    }
    lua_pushglobaltable(L);
    lua_pushvalue(L, 1);
    if (lua_rawget(L, -2) == LUA_TTABLE && tarn_is_module(L, lua_gettop(L))) {
        return 1;
    }
    return not_found(L, name);
}
