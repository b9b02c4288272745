#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# How huggingface_hub splits the tensors of the sharded case in tests/vm/store/test_writer.c, and how
# transformers writes the index: pip install huggingface_hub; python make_index.py
import json
from huggingface_hub import split_state_dict_into_shards_factory as split

NAMES = ["embed", "größe", "layers.0.a", "layers.0.b", "layers.1.a", "layers.1.b", "layers.10.a",
         "quote\"\\\x01\x7f🙂", "head"]
SIZES = [400, 96, 100, 100, 60, 100, 40, 8, 1000]  # bytes; f32 of one dimension
order = sorted(zip([n.encode() for n in NAMES], SIZES))  # one dtype: by name
plan = split({n.decode(): s for n, s in order}, get_storage_size=lambda s: s,
             get_storage_id=lambda s: None, filename_pattern="model{suffix}.safetensors",
             max_shard_size=256)
index = {"metadata": {"total_size": sum(SIZES)}, "weight_map": plan.tensor_to_filename}
with open("index.json", "w", encoding="utf-8") as f:
    f.write(json.dumps(index, indent=2, sort_keys=True) + "\n")
