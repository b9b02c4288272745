#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# What safetensors' own writer makes of the tensors of tests/vm/store/test_writer.c:
# pip install safetensors==0.8.0; python make_reference.py
import ctypes
import safetensors

TENSORS = [  # name, dtype, shape, bytes; in the order in which the test gives them
    ("model.layers.0.mlp.weight", "float32", [3, 4], 48),
    ("model.layers.0.mlp.bias", "float32", [3], 12),
    ("model.embed", "bfloat16", [5, 2], 20),
    ("z", "float64", [2], 16),
    ("a", "float16", [2, 2], 8),
    ("idx", "int64", [3], 24),
    ("big", "uint64", [1], 8),
    ("i", "int32", [2], 8),
    ("u", "uint32", [1], 4),
    ("s", "int16", [3], 6),
    ("us", "uint16", [2], 4),
    ("b8", "int8", [5], 5),
    ("q", "uint8", [7], 7),
    ("m", "bool", [3], 3),
    ("e4", "float8_e4m3fn", [4], 4),
    ("e5", "float8_e5m2", [3], 3),
    ("e8", "float8_e8m0fnu", [2], 2),
    ("scalar", "float32", [], 4),
    ("none", "float32", [0, 7], 0),
    ("", "float32", [1], 4),
    ('quote"back\\slash', "float32", [1], 4),
    ("ctl\x01\b\t\n\f\r\x1f\x7f", "float32", [1], 4),
    ("nul\0in", "float32", [1], 4),
    ("größe/模型/🙂", "float32", [2], 8),
    ("e4z", "float8_e4m3fnuz", [4], 4),
    ("e5z", "float8_e5m2fnuz", [3], 3),
    ("c", "complex64", [2], 16),
    ("f4", "float4_e2m1fn_x2", [3], 3),
]

spec, keep = {}, []
for i, (name, dtype, shape, size) in enumerate(TENSORS):
    data = ctypes.create_string_buffer(bytes((i * 37 + j * 11) % 256 for j in range(size)), size + 1)
    keep.append(data)
    spec[name] = safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(data),
                                        data_len=size)
with open("reference.safetensors", "wb") as f:
    f.write(bytes(safetensors.serialize(spec, metadata={"format": "pt"})))
