"""Loading: from a pipeline's files on disk to a model on a device, with the exact version of each part."""
