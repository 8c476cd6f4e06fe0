"""Loading: from a pipeline's files on disk to a model on a device, with the exact version of each part."""

import logging

# transformers imports torchao where it is installed, and torchao warns of kernels for devices that are not here.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
