"""Claims slices of jobs, runs the model on them, and writes the results."""

import logging
import sys

# A model's files may ask transformers to fetch native code with `kernels`, or other models with `peft`. Both are hidden
# from it, even where they are installed.
for _package in ("kernels", "peft"):
    sys.modules[_package] = None  # type: ignore[assignment]

# transformers imports torchao where it is installed, which warns of kernels for other devices. Accelerate warns of what
# `model.spread` says. This package is the first that is imported, and adapters import transformers as well.
for _name in ("torchao", "torch.utils._pytree", "accelerate"):
    logging.getLogger(_name).setLevel(logging.ERROR)
