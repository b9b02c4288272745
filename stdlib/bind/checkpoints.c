// SPDX-License-Identifier: Apache-2.0
// model.list: the checkpoints that lie in a folder, in the order in which people number them. What is
// chosen from them, and averaged, is written in Lua (stdlib/checkpoints.lua).
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stdlib/bind/bind.h"

static const char ENDING[] = ".safetensors";

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

// By bytes, but runs of digits by their number: step-9 before step-10.
static int natural(const char *a, const char *b) {
    while (*a && *b) {
        if (!is_digit(*a) || !is_digit(*b)) {
            if (*a != *b) {
                break;
            }
            a++;
            b++;
            continue;
        }
        a += strspn(a, "0");
        b += strspn(b, "0");
        size_t m = strspn(a, "0123456789"), n = strspn(b, "0123456789");
        int order = m != n ? (m < n ? -1 : 1) : memcmp(a, b, m);
        if (order != 0) {
            return order;
        }
        a += m;
        b += n;
    }
    return (int)(unsigned char)*a - (int)(unsigned char)*b;
}

static int by_number(const void *a, const void *b) {
    const char *p = *(const char *const *)a, *q = *(const char *const *)b;
    int order = natural(p, q);
    return order != 0 ? order : strcmp(p, q);  // 7 and 007
}

static bool is_weights(const char *name) {
    size_t n = strlen(name), end = sizeof ENDING - 1;
    return name[0] != '.' && n > end && strcmp(name + n - end, ENDING) == 0;
}

// name-00001-of-00004.safetensors: a part of the model that this folder is.
static bool is_shard(const char *name) {
    const char *of = strstr(name, "-of-");
    return of && of > name && is_digit(of[-1]) && is_digit(of[4]) &&
           strcmp(of + 4 + strspn(of + 4, "0123456789"), ENDING) == 0;
}

static bool holds_weights(int folder, const char *name) {
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    bool found = false;
    if (!d) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    for (struct dirent *e; !found && (e = readdir(d));) {
        found = is_weights(e->d_name);
    }
    closedir(d);
    return found;
}

static bool is_checkpoint(int folder, const char *name) {
    struct stat st;
    if (name[0] == '.' || fstatat(folder, name, &st, 0) != 0) {
        return false;
    }
    return S_ISDIR(st.st_mode) ? holds_weights(folder, name)
                               : S_ISREG(st.st_mode) && is_weights(name) && !is_shard(name);
}

// Names with their terminators, one after the other, in the order of the file system.
static tarn_status read_folder(const char *path, tarn_text *names, int *count, tarn_error *err) {
    DIR *d = opendir(path);
    if (!d) {
        int why = errno;
        TARN_RAISE(err, why == ENOENT ? "NotFound" : "OpenFailed", "model.list: %s: %s", path,
                   why == ENOENT ? "there is no such folder" : strerror(why));
    }
    *count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (is_checkpoint(dirfd(d), e->d_name)) {
            tarn_text_add(names, e->d_name, strlen(e->d_name) + 1);
            ++*count;
        }
    }
    closedir(d);
    return names->failed ? tarn_raise_nomem(err, "a list of names", names->len) : TARN_OK;
}

static int l_list(lua_State *L) {
    const char *path = tarn_lua_check_path(L, 1);
    int count;
    tarn_error err;
    tarn_error_clear(&err);
    tarn_text *names = tarn_bind_new_text(L);
    TARN_LUA_TRY(L, read_folder(path, names, &count, &err), &err);
    const char **name = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *name, 0);
    const char *at = names->data;
    for (int i = 0; i < count; i++, at += strlen(at) + 1) {
        name[i] = at;
    }
    qsort(name, (size_t)count, sizeof *name, by_number);
    lua_createtable(L, count, 0);
    const char *slash = *path && path[strlen(path) - 1] == '/' ? "" : "/";
    for (int i = 0; i < count; i++) {
        lua_pushfstring(L, "%s%s%s", path, slash, name[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

tarn_status tarn_bind_checkpoints(tarn_host *h, tarn_error *err) {
    static const tarn_binding rows[] = {
        {{"model.list", "model.list(folder) -> {path, …}",
          "The checkpoints in a folder, as model.open takes them: .safetensors files (shards are parts, not checkpoints), and "
          "folders that hold one. Ordered by name with numbers as numbers: step-9 before step-10.",
          "print(table.concat(model.list \"examples/data\", \"\\n\"))\n-- > examples/data/base.safetensors\n"
          "-- > examples/data/digits.safetensors\n-- > examples/data/high.safetensors\n"
          "-- > examples/data/low.safetensors\n-- > examples/data/twin.safetensors"}, l_list},
    };
    tarn_bind_rows(h, "model", rows, 1);
    static const char path[] = "stdlib/checkpoints.lua";
    tarn_host_lazy(h, "model", path, tarn_bind_library);
    tarn_host_lazy(h, "merge", path, tarn_bind_library);
    (void)err;
    return TARN_OK;
}
