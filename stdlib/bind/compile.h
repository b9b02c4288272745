// SPDX-License-Identifier: Apache-2.0
// What a compiled function is made of, for the two ways to call one (compile.c, compile_map.c). Private to
// stdlib/bind.
#ifndef TARN_BIND_COMPILE_H
#define TARN_BIND_COMPILE_H

#include "stdlib/bind/recording.h"

typedef enum { TENSOR, NUMBER, MODEL, TABLE, CONSTANT } entry_kind;

// One value; those of a table follow it. What Lua has to keep (keys, constants) lies in the list of the
// program, by number.
typedef struct {
    entry_kind kind;
    int key;            // TABLE's member: its key in the list
    int constant;       // CONSTANT: in the list
    int first, n;       // tensors: of all; TABLE: n members
    tarn_desc desc;     // TENSOR
    tarn_model *names;  // MODEL: signature, in the list
    tarn_dtype *dtype;  // MODEL: [n] of its tensors
    double mass;
    tarn_policy policy;
} entry;

typedef struct {
    int n, room, tensors, listed;
    entry *list;
} entries;

typedef struct {
    tarn_exec *exec;  // NULL: nothing depends on the arguments
    int nargs, nresults;
    size_t bytes;  // of the results
    entries in, out;
    tarn_tensor *value;   // [in.tensors] borrowed for a call, numbers its own
    tarn_tensor *result;  // [out.tensors]
    bool *given;          // [in.tensors] may be overwritten
    bool *fixed;          // [out.tensors] depends on no argument
    bool *number;         // [in.tensors] value is the program's own
} program;

typedef struct {
    uint64_t donated;  // bit k: argument k + 1
    int hot;           // the program of the last call, from 1
} compiled;

// A compiled function is a C function with three upvalues: the function itself, its `compiled`, and the
// list of its programs, each a userdata with the list of what Lua keeps for it.
bool tarn_bind_is_compiled(lua_State *L, int idx);
// In a function with those upvalues: the program for the arguments 1 … nargs, recorded where there is none
// yet, with the values in p->value. It is left on the stack, and behind it, at *list, its list. Alone: the programs
// of other signatures, and the memory they keep, may go where a new one has no room beside them.
program *tarn_program_for(lua_State *L, int nargs, bool alone, int *list);
// Results that no argument reaches are the same memory in every call: nobody may write there.
void tarn_program_protect(const program *p, const tarn_tensor *results);
// Pushes the p->nresults values made of the results, which it moves.
void tarn_program_push(lua_State *L, const program *p, int list, tarn_tensor *results);

// compile.map
int tarn_bind_compile_map(lua_State *L);
void tarn_bind_compile_map_types(lua_State *L);

#endif
