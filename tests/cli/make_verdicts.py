# SPDX-License-Identifier: Apache-2.0
# Builds the cases of the format oracles that are too big to store, for safetensors files and indexes:
# make_verdicts.py TOOLS OUT. Their generator imports torch for other formats; a name stands in for it.
import importlib
import sys
from unittest.mock import MagicMock

tools, out = sys.argv[1:3]
sys.path.insert(0, tools)
for name in ("torch", "numpy", "safetensors"):
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = MagicMock()
sys.dont_write_bytecode = True
from casekit import build, collect  # noqa: E402

built = []
for case in collect([importlib.import_module(m) for m in ("cases_safetensors", "cases_index")]):
    if case.size == "big":
        build(case, out)
        built.append(case.id + "_" + case.variant)
print("built", *built)
