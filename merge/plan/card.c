// SPDX-License-Identifier: Apache-2.0
// README.md of a saved folder: a model card in the form that model hubs read (YAML front matter, then
// Markdown). What was there and does not bear the mark of this program is somebody's own and stays.
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merge/plan/output.h"

static const char mark[] = "<!-- written by tarn; take this line away and the file is yours: it is not replaced then -->";

enum { HEAD = 1 << 16 };  // bytes of a card that are looked at

// The first bytes of FOLDER/README.md into `buf`, terminated; false when there is none.
static bool read_card(const char *folder, char *buf) {
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s/README.md", folder);
    FILE *f = len > 0 && len < (int)sizeof path ? fopen(path, "rbe") : NULL;
    if (!f) {
        return false;
    }
    size_t n = fread(buf, 1, HEAD - 1, f);
    buf[n] = '\0';
    fclose(f);
    return true;
}

// `license: x` of the front matter of a card, without quotes.
static bool license_of(tarn_context *cx, const char *folder, char *out, size_t room) {
    char *text = tarn_alloc(&cx->budget, HEAD);
    bool found = false;
    if (text && read_card(folder, text) && strncmp(text, "---\n", 4) == 0) {
        char *end = strstr(text + 4, "\n---"), *at = strstr(text + 3, "\nlicense:");
        if (end && at && at < end) {
            at += strlen("\nlicense:");
            at += strspn(at, " \"'");
            size_t n = strcspn(at, " \"'\r\n#");
            found = n > 0 && n < room;
            if (found) {
                memcpy(out, at, n);
                out[n] = '\0';
            }
        }
    }
    tarn_free(&cx->budget, text, text ? HEAD : 0);
    return found;
}

// "…/models--ORG--NAME/snapshots/…" -> "ORG/NAME" in buf; false for any other path.
static bool hub_name(const char *path, char *buf, size_t room) {
    static const char head[] = "/models--";
    const char *at = path ? strstr(path, head) : NULL;
    const char *name = at ? at + sizeof head - 1 : "", *slash = strstr(name, "/snapshots/");
    const char *dashes = strstr(name, "--");
    if (!slash || !dashes || dashes > slash || (size_t)(slash - name) >= room) {
        return false;
    }
    snprintf(buf, room, "%.*s/%.*s", (int)(dashes - name), name, (int)(slash - dashes - 2), dashes + 2);
    return true;
}

static const tarn_about_input *about_input(const tarn_about *a, const char *label) {
    for (int k = 0; a && k < a->ninputs; k++) {
        if (strcmp(a->inputs[k].label, label) == 0) {
            return &a->inputs[k];
        }
    }
    return NULL;
}

void tarn_card_input(tarn_context *cx, const tarn_about *a, const tarn_model *m, tarn_card_row *row) {
    const tarn_about_input *known = about_input(a, tarn_model_label(m));
    *row = (tarn_card_row){0};
    if (known && known->license) {
        snprintf(row->license, sizeof row->license, "%s", known->license);
    } else if (m->store) {
        license_of(cx, tarn_store_folder(m->store), row->license, sizeof row->license);
    }
    if (hub_name(m->path, row->name, sizeof row->name)) {
        row->on_hub = true;
    } else if (known && known->source && strncmp(known->source, "hub:", 4) == 0) {
        const char *name = known->source + 4;
        snprintf(row->name, sizeof row->name, "%.*s", (int)strcspn(name, "@"), name);
        row->on_hub = true;
    } else if (known && known->source) {
        snprintf(row->name, sizeof row->name, "%s", known->source);
    }
}

// ---- Markdown ----

static void cell(tarn_text *t, const char *s) {
    for (; *s; s++) {
        char c = (unsigned char)*s < 0x20 ? ' ' : *s;
        tarn_text_puts(t, c == '|' ? "\\" : "");
        tarn_text_add(t, &c, 1);
    }
}

static void fenced(tarn_text *t, const char *language, const char *s, size_t len) {
    size_t longest = 2, run = 0;
    for (size_t i = 0; i < len; i++) {
        run = s[i] == '`' ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    for (size_t i = 0; i <= longest; i++) {
        tarn_text_puts(t, "`");
    }
    tarn_text_printf(t, "%s\n", language);
    tarn_text_add(t, s, len);
    tarn_text_puts(t, len > 0 && s[len - 1] == '\n' ? "" : "\n");
    for (size_t i = 0; i <= longest; i++) {
        tarn_text_puts(t, "`");
    }
    tarn_text_puts(t, "\n");
}

static void front_matter(tarn_text *t, const tarn_plan *p, const tarn_about *a, const tarn_provenance *from,
                         const tarn_card_row *rows, bool adapter) {
    tarn_text_puts(t, "---\nbase_model:\n");
    for (int k = 0; k < from->n; k++) {
        const char *label = tarn_model_label(from->inputs[k].input);
        const char *name = rows[k].on_hub ? rows[k].name : label;
        tarn_text_puts(t, "- ");
        tarn_text_json(t, name, strlen(name));
        tarn_text_puts(t, "\n");
    }
    if (adapter || (p->model->side && p->model->side->config)) {
        tarn_text_printf(t, "library_name: %s\n", adapter ? "peft" : "transformers");
    }
    if (a && a->license) {
        char low[64];
        size_t n = 0;
        for (; a->license[n] && n + 1 < sizeof low; n++) {
            low[n] = (char)tolower((unsigned char)a->license[n]);
        }
        low[n] = '\0';
        tarn_text_puts(t, "license: ");
        tarn_text_json(t, low, n);
        tarn_text_puts(t, "\n");
    }
    tarn_text_puts(t, "tags:\n- merge\n- tarn\n---\n");
}

// "with ties, linear": methods in the order of their first use.
static tarn_status methods(tarn_text *t, tarn_model *m, tarn_error *err) {
    tarn_arena arena;
    tarn_model **all;
    int n, told = 0;
    tarn_arena_init(&arena, &m->cx->budget);
    tarn_status s = tarn_plan_nodes(m, &arena, &n, &all, err);
    for (int k = 0; s == TARN_OK && k < n; k++) {
        const tarn_method *method = tarn_method_of(all[k]);
        bool before = false;
        for (int i = 0; i < k; i++) {
            before = before || tarn_method_of(all[i]) == method;
        }
        if (method && !before) {
            tarn_text_printf(t, "%s `%s`", told++ ? "," : " with", method->name);
        }
    }
    tarn_arena_free(&arena);
    return s;
}

static tarn_status write_card(tarn_text *t, tarn_plan *p, const tarn_save_options *o, const tarn_provenance *from,
                              const tarn_card_row *rows, tarn_error *err) {
    const tarn_about *a = o->about;
    front_matter(t, p, a, from, rows, o->adapter != NULL);
    tarn_text_printf(t, "%s\n\n# ", mark);
    cell(t, a && a->name ? a->name : o->adapter ? "Adapter" : "Merged model");
    tarn_text_puts(t, "\n\n");
    if (a && a->summary) {
        tarn_text_printf(t, "%s\n\n", a->summary);
    }
    tarn_text_printf(t, "Merged by tarn %s", TARN_VERSION);
    TARN_TRY(methods(t, p->model, err));
    tarn_text_puts(t, ". `tarn replay` makes it again from its inputs and compares every byte; "
                      "`tarn-provenance.json` has the details.\n\n"
                      "| input | from | licence | content (SHA-256) |\n| --- | --- | --- | --- |\n");
    for (int k = 0; k < from->n; k++) {
        tarn_text_puts(t, "| ");
        cell(t, tarn_model_label(from->inputs[k].input));
        tarn_text_puts(t, " | ");
        cell(t, rows[k].name);
        tarn_text_puts(t, " | ");
        cell(t, rows[k].license[0] ? rows[k].license : "not stated");
        tarn_text_printf(t, " | %s |\n", from->inputs[k].digest[0] ? from->inputs[k].digest : "in memory");
    }
    const char *text = a && a->recipe ? a->recipe : o->script;
    if (text) {
        tarn_text_printf(t, "\n%s:\n\n", a && a->recipe ? "The recipe" : "The script");
        fenced(t, "lua", text, a && a->recipe ? a->recipe_len : o->script_len);
    }
    return TARN_OK;
}

// A card of somebody's own is in the folder that is replaced.
static bool keep(tarn_context *cx, const char *folder) {
    char *text = tarn_alloc(&cx->budget, HEAD);
    bool own = text && read_card(folder, text) && !strstr(text, mark);
    tarn_free(&cx->budget, text, text ? HEAD : 0);
    return own;
}

tarn_status tarn_output_card(tarn_plan *p, tarn_writer *w, const tarn_save_options *o, const tarn_provenance *from,
                             tarn_error *err) {
    if (keep(p->cx, from->path)) {
        return TARN_OK;
    }
    size_t bytes = (size_t)(from->n + 1) * sizeof(tarn_card_row);
    tarn_card_row *rows = tarn_alloc(&p->cx->budget, bytes);
    if (!rows) {
        return tarn_raise_nomem(err, "README.md", bytes);
    }
    for (int k = 0; k < from->n; k++) {
        tarn_card_input(p->cx, o->about, from->inputs[k].input, &rows[k]);
    }
    tarn_text t;
    tarn_text_init(&t, &p->cx->budget);
    tarn_status s = write_card(&t, p, o, from, rows, err);
    s = s != TARN_OK ? s : t.failed ? tarn_raise_nomem(err, "README.md", t.len)
                                    : tarn_writer_side(w, "README.md", t.data, t.len, err);
    tarn_text_free(&t);
    tarn_free(&p->cx->budget, rows, bytes);
    return s;
}
