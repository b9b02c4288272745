// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters in Lua.
#include "merge/model/lora.h"

#include <string.h>

#include "stdlib/bind/model.h"

// Factors made here, whose config follows from them; those of a file may be scaled.
static void check_own(lua_State *L, const tarn_model *m, const char *function) {
    if (m->store) {
        tarn_lua_error(L,
                       "%s: %s is a file as it is: its adapter_config.json goes with it, and may "
                       "scale it; give the folder's path",
                       function, tarn_model_label(m));
    }
}

static int lora_of_model(lua_State *L, tarn_model *factors, tarn_model *base) {
    tarn_error err;
    tarn_error_clear(&err);
    check_own(L, factors, "model.lora");
    tarn_text *config = tarn_bind_new_text(L);
    TARN_LUA_TRY(
        L, tarn_lora_config(factors, "", tarn_lora_turned(tarn_model_names(base)), config, &err),
        &err);
    tarn_model **r = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, tarn_lora_read(base, factors, config->data, config->len, r, &err), &err);
    return tarn_bind_finish_model(L);
}

static int l_lora(lua_State *L) {
    static const char *const names[] = {"label", NULL};
    tarn_model *factors = tarn_bind_to_model(L, 1), *base = tarn_bind_check_model(L, 2);
    if (factors) {
        return lora_of_model(L, factors, base);
    }
    const char *path = tarn_lua_check_path(L, 1);
    tarn_lua_check_options(L, 3, "model.lora", names, false);
    const char *label = tarn_lua_opt_string(L, 3, "model.lora", "label", NULL);
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_lora_open(tarn_host_context(L), path, label, base, r, &err), &err);
    return 1;
}

static int l_save_adapter(lua_State *L) {
    static const char *const names[] = {"base",      "fan_in_fan_out",  "dtype",
                                        "overwrite", "allow_nonfinite", NULL};
    const char *f = "model:save_adapter";
    tarn_model *m = tarn_bind_check_model(L, 1);
    const char *path = tarn_lua_check_path(L, 2);
    lua_settop(L, 3);
    tarn_lua_check_options(L, 3, f, names, false);
    check_own(L, m, f);
    const tarn_model *files = tarn_model_files(m);
    const char *base = tarn_lua_opt_string(L, 3, f, "base", files ? tarn_model_label(files) : "");
    bool turned =
        tarn_lua_opt_boolean(L, 3, f, "fan_in_fan_out", tarn_lora_turned(tarn_model_names(m)));
    tarn_save_options o = {.overwrite = tarn_lua_opt_boolean(L, 3, f, "overwrite", false)};
    o.plan.allow_nonfinite = tarn_lua_opt_boolean(L, 3, f, "allow_nonfinite", false);
    o.plan.has_dtype = tarn_lua_opt_string(L, 3, f, "dtype", NULL) != NULL;
    o.plan.dtype = tarn_bind_dtype(L, 3, f, TARN_F32);
    if (!tarn_dtype_is_float(o.plan.dtype)) {
        return tarn_lua_error(L, "%s: dtype = \"%s\" is no floating dtype", f,
                              tarn_dtype_get(o.plan.dtype)->name);
    }
    size_t len = strlen(path), end = strlen(".safetensors");
    if (len >= end && strcmp(path + len - end, ".safetensors") == 0) {
        return tarn_lua_error(L, "%s: an adapter is a folder, got %s", f, path);
    }
    tarn_error err;
    tarn_error_clear(&err);
    tarn_text *config = tarn_bind_new_text(L);
    TARN_LUA_TRY(L, tarn_lora_config(m, base, turned, config, &err), &err);
    if (tarn_bind_planning(L)) {
        tarn_bind_methods(L, "model");
        lua_getfield(L, -1, "save");
        lua_pushvalue(L, 1);
        lua_pushvalue(L, 2);
        lua_call(L, 2, 0);
        return 0;
    }
    if (lua_getfield(L, LUA_REGISTRYINDEX, "tarn.script") == LUA_TSTRING) {
        o.script = lua_tolstring(L, -1, &o.script_len);
    }
    o.adapter = config->data;
    TARN_LUA_TRY(L, tarn_model_save(tarn_host_context(L), m, path, &o, &err), &err);
    return 0;
}

// The weight of operand k: one for all, or a list.
static double weight_of(lua_State *L, int k) {
    double w = 1;
    lua_getfield(L, 1, "weight");
    bool listed = lua_istable(L, -1);
    if (listed) {
        lua_geti(L, -1, k + 1);
    }
    if (listed || !lua_isnil(L, -1)) {
        int good;
        w = lua_tonumberx(L, -1, &good);
        if (!good) {
            tarn_lua_error(L, "model.lora_sum: the weight of adapter %d is a %s, not a number",
                           k + 1, tarn_bind_kind(L, -1));
        }
    }
    lua_pop(L, listed ? 2 : 1);
    return w;
}

static int l_lora_sum(lua_State *L) {
    static const char *const names[] = {"weight", "rank", "mode", NULL};
    const char *f = "model.lora_sum";
    luaL_checktype(L, 1, LUA_TTABLE);
    tarn_lua_check_options(L, 1, f, names, true);
    lua_Integer rank = tarn_lua_opt_integer(L, 1, f, "rank", 0);
    const char *mode = tarn_lua_opt_string(L, 1, f, "mode", "concat");
    if (rank < 0 || rank > 1000000000) {
        return tarn_lua_error(L, "%s: rank = %lld; expected 0 or more", f, (long long)rank);
    }
    if (strcmp(mode, "concat") != 0 && strcmp(mode, "factors") != 0) {
        return tarn_lua_error(L, "%s: mode = \"%.40s\"; expected concat or factors", f, mode);
    }
    int n;
    tarn_model **in = tarn_bind_models(L, f, 1, TARN_LORA_MODELS, &n);
    double weight[TARN_LORA_MODELS];
    for (int k = 0; k < n; k++) {
        weight[k] = weight_of(L, k);
    }
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L,
                 tarn_model_lora_sum(tarn_host_context(L), n, in, weight, rank, mode[0] == 'f',
                                     r, &err),
                 &err);
    return tarn_bind_finish_model(L);
}

static const tarn_binding rows[] = {
    {{"model.lora", "model.lora(path or factors, base, {label =}) -> model",
      "The adapter in a folder as PEFT writes it (adapter_config.json, adapter_model.safetensors), "
      "as a vector over the names of "
      "its base: base + 0.7 * model.lora(path, base) is a merge, and so is every method on base + "
      "lora. Each tensor is scale * B @ A, "
      "computed in f32 when it is wanted and rounded once, in the output. Read are: alpha and r, "
      "with patterns; rsLoRA; DoRA "
      "(W + DoRA(W) - W, so it depends on the base's values); fan_in_fan_out (shapes decide where "
      "the config is wrong); "
      "adapters of embeddings and convolutions; biases; whole tensors (modules_to_save), which "
      "replace. "
      "A tensor of the adapter that finds no place in the base is an error, and so is a config "
      "field that changes the meaning and is not "
      "understood; an adapter that names another base gets a warning. factors: a model as "
      "merge.lora_extract and model.lora_sum make them.",
      "local base = model.open \"tests/golden/lora/base_llama\"\nlocal lora = "
      "model.lora(\"tests/golden/lora/r4_qv\", base)\n"
      "print(#lora, lora:mass(), (base + 0.7 * lora):mass())\n-- > 4\t0.0\t1.0"},
     l_lora},
    {{"model:save_adapter",
      "m:save_adapter(path, {base =, fan_in_fan_out =, dtype =, overwrite = false, allow_nonfinite "
      "= false})",
      "Writes factors, as merge.lora_extract and model.lora_sum make them, as a folder that PEFT "
      "and model.lora read: "
      "adapter_model.safetensors and adapter_config.json (ranks from the shapes, alpha = rank, all "
      "modules by name). Saved as m:save does it: "
      "nothing appears before it is whole, and model.replay(path .. "
      "\"/adapter_model.safetensors\") repeats it.\n"
      "  base: the name that the config gives the base (default: the label of the model whose side "
      "files go with m)\n"
      "  fan_in_fan_out: whether linear layers of the base are stored [in, out] (default: as its "
      "model type has it)",
      "local base, a = model.open \"tests/golden/merge/inputs/bf16/base\", model.open "
      "\"tests/golden/merge/inputs/bf16/prose\"\n"
      "local path = os.tmpname()\nos.remove(path)\nmerge.lora_extract({ base = base, a, rank = 64 "
      "}):save_adapter(path)\n"
      "local lora = model.lora(path, base)\nprint((base + lora - a):load():norm(math.huge) < "
      "1e-6)\n"
      "for _, f in ipairs { \"/adapter_model.safetensors\", \"/adapter_config.json\", "
      "\"/tarn-provenance.json\", \"\" } do os.remove(path .. f) end\n"
      "-- > true"},
     l_save_adapter},
    {{"model.lora_sum",
      "model.lora_sum { lora, lora, …, weight = 1, rank = 0, mode = \"concat\" } -> factors",
      "The weighted sum of adapters (each as model.lora gives it) as one adapter, without making "
      "anything of the base's size. "
      "mode = \"concat\": the factors one behind the other, which is exactly the sum, with the sum "
      "of the ranks; rank: cut to it, to the nearest "
      "adapter of that rank (QR of both factors, SVD of the small product of their triangles). "
      "mode = \"factors\": the A's and the B's are "
      "added by themselves; their product has cross terms and is another thing than the sum "
      "(LoRAHub, arXiv:2307.13269; ranks and scales must be equal). "
      "weight is one number or a list. m:save_adapter writes the result, model.lora(result, base) "
      "applies it.",
      "local base = model.open \"tests/golden/lora/base_llama\"\nlocal a = "
      "model.lora(\"tests/golden/lora/r4_qv\", base)\n"
      "local b = model.lora(\"tests/golden/lora/rslora\", base)\nlocal sum = model.lora_sum { a, "
      "b, weight = { 0.5, 0.25 } }\n"
      "print((model.lora(sum, base) - (0.5 * a + 0.25 * b)):load():norm(math.huge) < 1e-6)\n-- > "
      "true"},
     l_lora_sum},
};

tarn_status tarn_bind_lora(tarn_host *h, tarn_error *err) {
    tarn_bind_rows(h, "model", rows, (int)(sizeof rows / sizeof *rows));
    return tarn_bind_library(h, "stdlib/adapters.lua", err);
}
