"""Claims slices of jobs, runs the model on them, and writes the results."""

import sys

# A model's files may ask transformers to fetch native code with `kernels`, or other models with `peft`. Both are hidden
# from it, even where they are installed.
for _package in ("kernels", "peft"):
    sys.modules[_package] = None  # type: ignore[assignment]
