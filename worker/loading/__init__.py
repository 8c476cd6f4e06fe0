"""From a pipeline's files on disk to a model on a device, with the exact version of everything in it."""
