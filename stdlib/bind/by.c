// SPDX-License-Identifier: Apache-2.0
// Schedules (by.depth, by.name, …) meet models here. What they mean is in stdlib/by.lua.
#include <string.h>

#include "stdlib/bind/model.h"

static const char library[] = "tarn.by";  // the registry's table of stdlib/by.lua

static bool is_schedule(lua_State *L, int idx) {
    if (lua_type(L, idx) != LUA_TTABLE || lua_getfield(L, LUA_REGISTRYINDEX, library) != LUA_TTABLE) {
        return false;  // a library that is not loaded has made none
    }
    lua_getfield(L, -1, "is_schedule");
    lua_pushvalue(L, idx);
    lua_call(L, 1, 1);
    bool is = lua_toboolean(L, -1);
    lua_pop(L, 2);
    return is;
}

bool tarn_bind_schedule_values(lua_State *L, int idx, tarn_model *m) {
    luaL_checkstack(L, 8, "by");
    if (!is_schedule(L, idx)) {
        return false;
    }
    idx = lua_absindex(L, idx);
    lua_getfield(L, LUA_REGISTRYINDEX, library);
    lua_getfield(L, -1, "resolve");
    lua_pushvalue(L, idx);
    *tarn_bind_new_model(L) = tarn_model_retain(m);
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2)) {
        return tarn_lua_error(L, "%s", lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    lua_remove(L, -2);
    return true;
}

bool tarn_bind_resolve(lua_State *L, int idx, const char *what, tarn_model *m, double *number,
                       const double **each, const char **origin) {
    idx = lua_absindex(L, idx);
    *each = NULL;
    if (lua_type(L, idx) == LUA_TNUMBER) {
        *number = lua_tonumber(L, idx);
        *origin = "given";
        lua_pushnil(L);
        return true;
    }
    const tarn_lua_tensor *t = tarn_bind_to_tensor(L, idx);
    if (t && t->t.storage && tarn_tensor_numel(&t->t) == 1) {  // such as tensor.uniform({1}, seed)
        *number = tarn_tensor_get(&t->t, 0);
        *origin = "given";
        lua_pushnil(L);
        return true;
    }
    luaL_checkstack(L, 8, what);
    if (!is_schedule(L, idx)) {
        return false;
    }
    double *list = lua_newuserdatauv(L, ((size_t)m->n + 1) * sizeof *list, 1);
    lua_getfield(L, idx, "origin");
    *origin = lua_tostring(L, -1);
    lua_setiuservalue(L, -2, 1);
    tarn_bind_schedule_values(L, idx, m);
    for (int64_t i = 0; i < m->n; i++) {
        if (lua_rawgeti(L, -1, (lua_Integer)i + 1) != LUA_TNUMBER) {
            tarn_lua_error(L, "%s: %s has recorded values, which may only multiply a model (by.depth(c) * m)", what, *origin);
        }
        list[i] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    *each = list;
    *number = m->n > 0 ? list[0] : 0;
    return true;
}

#define BASE "local m = model.open \"examples/data/base.safetensors\"\n"

static const tarn_doc docs[] = {
    {"by.depth", "by.depth({v1, v2, …, embed = v1, head = vn, final = head, other =}) -> schedule",
     "A ramp over depth: the values are knots spread evenly from the first layer to the last, linear between "
     "them. The embedding takes the first knot, the final norm and the head the last, unless embed, final or head "
     "say otherwise; other is for tensors outside the layers that are neither. by.depth(tensor) takes one value "
     "a layer: as many as m:structure().depths. A tensor that has no value is an error that names it.", BASE "print((by.depth { 1, 0 } * m)[\"fc3.bias\"]:load()[1])\n-- > 0.0"},
    {"by.name", "by.name { {pattern, value}, … } -> schedule",
     "Values by name: the first rule whose regular expression (PCRE2) is found in the name. A value is a number "
     "or another by.…; a tensor that no rule matches is an error.",
     BASE "print((by.name { {\"bias\", 0}, {\".\", 1} } * m)[\"fc1.bias\"]:load():abs():max())\n-- > 0.0"},
    {"by.layer", "by.layer { {first, last, value}, …, embed =, final =, head =, other = } -> schedule",
     "Values by the layer number in the name (many families count from 0), ranges inclusive; the first that holds counts. What is in no "
     "layer, or in none of the ranges, takes the value of its place (m:info(name).place) or other; without one it is an error.",
     BASE "print((by.layer { {1, 2, 0}, other = 1 } * m)[\"fc1.bias\"]:load():abs():max())\n-- > 0.0"},
    {"by.blocks", "by.blocks(preset, or \"w0,w1,…\", or {w0, w1, …}, or {preset, IN00 =, M00 =, …}) -> schedule",
     "Block weights for the UNet of Stable Diffusion, as lists of merge tools give them: 26 numbers (SD1) or 20 (SDXL) for BASE, "
     "IN00 …, M00, OUT00 …; or the name of a preset of the community (GRAD_V, GRAD_A, FLAT_25, WRAP12, RING08_SOFT, SMOOTHSTEP, COSINE, "
     "…), whose numbers SDXL reads by the blocks it has; single blocks by name, in place of the preset's. BASE is what lies outside "
     "the UNet; VAE (else BASE), TIME (the embeddings of time and labels, else IN00) and HEAD (after the last block, else the last OUT) may "
     "have a value of their own. Names of the first release and of diffusers; m:info(name).block is the block.",
     "local x = tensor { 1 }\n"
     "local m = model.new { [\"input_blocks.0.0.weight\"] = x, [\"input_blocks.1.0.weight\"] = x, [\"middle_block.0.weight\"] = x,\n"
     "  [\"output_blocks.0.0.weight\"] = x, [\"output_blocks.1.0.weight\"] = x }\n"
     "local w = by.blocks { \"GRAD_V\", M00 = 0.5 }\n"
     "print((w * m)[\"input_blocks.1.0.weight\"]:item(), (w * m)[\"middle_block.0.weight\"]:item())\n-- > 0.91666668653488\t0.5"},
    {"by.tensor", "by.tensor(function(name, info) -> number) -> schedule",
     "A value for each tensor from a function, called once per tensor when the schedule meets a model; info as in m:info(name).",
     BASE "print((by.tensor(function(n, i) return #i.shape - 1 end) * m)[\"fc1.bias\"]:load():abs():max())\n-- > 0.0"},
};

static tarn_status load(tarn_host *h, const char *path, tarn_error *err) {
    TARN_TRY(tarn_host_load_embedded(h, path, err));
    lua_State *L = tarn_host_running(h);
    lua_pushcfunction(L, tarn_bind_check);
    TARN_TRY(tarn_host_call(h, 1, 1, err));
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, library);
    lua_getfield(L, -1, "functions");
    tarn_host_push_module(h, "by");
    lua_pushnil(L);
    while (lua_next(L, -3)) {
        lua_pushfstring(L, "by.%s", lua_tostring(L, -2));
        tarn_lua_document(L, -2, lua_tostring(L, -1));
        lua_pop(L, 1);
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_settable(L, -4);
    }
    lua_pop(L, 3);
    return TARN_OK;
}

tarn_status tarn_bind_by(tarn_host *h, tarn_error *err) {
    for (size_t i = 0; i < sizeof docs / sizeof *docs; i++) {
        TARN_TRY(tarn_host_doc_copy(h, &docs[i], err));
    }
    tarn_host_lazy(h, "by", "stdlib/by.lua", load);
    return TARN_OK;
}
