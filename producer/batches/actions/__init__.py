"""Acting on batches: cancel, retry and delete them, and the batches that depend on them."""
