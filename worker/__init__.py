"""Claims slices of jobs, runs the model on them, and writes the results."""

import sys

# Where they are installed, transformers fetches native code with one, and other models with the other, because a
# model's files say so. To it they are not there.
for _package in ("kernels", "peft"):
    sys.modules[_package] = None  # type: ignore[assignment]
