// SPDX-License-Identifier: Apache-2.0
// The opener of the module plot, which hands it what Lua cannot do: SVG to PNG, by librsvg and cairo. They are
// opened on need, so that a machine without them runs everything else. Their few functions are declared here by
// hand, since nothing is linked with them: handles are opaque, and the one struct that crosses the border is four
// doubles.
#include <dlfcn.h>
#include <math.h>
#include <string.h>

#include "stdlib/bind/bind.h"

typedef struct { double x, y, width, height; } rectangle;
typedef int (*writer)(void *closure, const unsigned char *data, unsigned n);  // 0: written
typedef struct { unsigned domain; int code; char *message; } g_error;

typedef struct {
    void *(*handle_of)(const unsigned char *data, size_t n, g_error **err);
    int (*size_of)(void *handle, double *w, double *h);
    int (*render)(void *handle, void *cr, const rectangle *at, g_error **err);
    void *(*image)(int format, int w, int h);
    void *(*cairo)(void *surface);
    int (*status)(void *surface);
    int (*write)(void *surface, writer w, void *closure);
    void (*free_cairo)(void *cr);
    void (*free_image)(void *surface);
    void (*unref)(void *object);
    void (*free_error)(g_error *e);
} library;

static bool find(void *lib, const char *name, void *out) {
    void *f = dlsym(lib, name);  // also among what the library itself needs: cairo, gobject, glib
    memcpy(out, &f, sizeof f);
    return f != NULL;
}

// The library stays open until the program ends: glib cannot be unloaded.
static bool open_library(library *l) {
    void *lib = dlopen("librsvg-2.so.2", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!lib) {
        return false;
    }
    bool all = find(lib, "rsvg_handle_new_from_data", &l->handle_of) &&
               find(lib, "rsvg_handle_get_intrinsic_size_in_pixels", &l->size_of) &&
               find(lib, "rsvg_handle_render_document", &l->render) &&
               find(lib, "cairo_image_surface_create", &l->image) && find(lib, "cairo_create", &l->cairo) &&
               find(lib, "cairo_surface_status", &l->status) &&
               find(lib, "cairo_surface_write_to_png_stream", &l->write) &&
               find(lib, "cairo_destroy", &l->free_cairo) && find(lib, "cairo_surface_destroy", &l->free_image) &&
               find(lib, "g_object_unref", &l->unref) && find(lib, "g_error_free", &l->free_error);
    dlclose(lib);
    return all;
}

static int take(void *closure, const unsigned char *data, unsigned n) {
    tarn_text *out = closure;
    tarn_text_add(out, (const char *)data, n);
    return out->failed ? 1 : 0;
}

// What went wrong, or NULL.
static const char *draw(const library *l, const char *svg, size_t n, double scale, tarn_text *out) {
    const char *wrong = NULL;
    g_error *err = NULL;
    void *handle = l->handle_of((const unsigned char *)svg, n, &err), *image = NULL, *cr = NULL;
    double w = 0, h = 0;
    if (!handle) {
        wrong = "librsvg cannot read the SVG";
    } else if (!l->size_of(handle, &w, &h) || !(w * scale >= 1) || !(h * scale >= 1) || w * scale > 20000 ||
               h * scale > 20000) {
        wrong = "the image would have less than 1 or more than 20000 pixels on a side";
    } else {
        rectangle all = {0, 0, ceil(w * scale), ceil(h * scale)};
        image = l->image(0, (int)all.width, (int)all.height);  // ARGB32
        cr = l->status(image) == 0 ? l->cairo(image) : NULL;
        if (!cr || !l->render(handle, cr, &all, &err)) {
            wrong = "librsvg cannot draw the SVG";
        } else if (l->write(image, take, out) != 0) {
            wrong = "cairo cannot write the image";
        }
    }
    if (err) {
        l->free_error(err);
    }
    if (cr) {
        l->free_cairo(cr);
    }
    if (image) {
        l->free_image(image);
    }
    if (handle) {
        l->unref(handle);
    }
    return wrong;
}

// png(svg, scale) -> the bytes of a PNG; scale: pixels of the image for one of the SVG
static int l_png(lua_State *L) {
    size_t n = 0;
    const char *svg = luaL_checklstring(L, 1, &n);
    double scale = luaL_checknumber(L, 2);
    library l;
    if (!open_library(&l)) {
        return tarn_lua_error(L, "figure:save: PNG needs librsvg 2.52 or later (Debian: apt install librsvg2-2); "
                              "SVG needs nothing");
    }
    tarn_text *out = tarn_bind_new_text(L);
    const char *wrong = draw(&l, svg, n, scale, out);
    if (wrong && !out->failed) {
        return tarn_lua_error(L, "figure:save: %s", wrong);
    }
    return tarn_bind_push_text(L, out, "an image");
}

tarn_status tarn_bind_plot(tarn_host *h, tarn_error *err) {
    TARN_TRY(tarn_host_load_embedded(h, "stdlib/plot.lua", err));
    lua_State *L = tarn_host_running(h);
    tarn_bind_push_define(L);
    lua_pushcfunction(L, tarn_bind_check);
    lua_pushcfunction(L, l_png);
    lua_pushcfunction(L, tarn_bind_kind_of);
    return tarn_host_call(h, 4, 0, err);
}
