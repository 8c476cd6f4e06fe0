"""Loading: from a pipeline's files on disk to a model on a device, with the exact version of each part."""

import logging

# transformers imports torchao where it is installed, which warns of kernels for other devices. Accelerate warns of what
# `model.spread` says.
for _name in ("torchao", "torch.utils._pytree", "accelerate"):
    logging.getLogger(_name).setLevel(logging.ERROR)
