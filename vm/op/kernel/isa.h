// SPDX-License-Identifier: Apache-2.0
// Names of what is compiled once per instruction set: TARN_ISA_NAME(tarn_convert_table) is
// tarn_convert_table_v3 in the objects built with -DTARN_ISA_SUFFIX=v3. For isa_*.c only: every
// symbol they export must be named so; everything else in them is static.
#ifndef TARN_OP_KERNEL_ISA_H
#define TARN_OP_KERNEL_ISA_H

#ifndef TARN_ISA_SUFFIX
#error "TARN_ISA_SUFFIX must be v1, v3 or v4"
#endif
#define TARN_PASTE_2(a, b) a##_##b
#define TARN_PASTE(a, b) TARN_PASTE_2(a, b)
#define TARN_ISA_NAME(x) TARN_PASTE(x, TARN_ISA_SUFFIX)

#endif
