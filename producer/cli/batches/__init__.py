"""The commands that submit, show, wait for, cancel, retry and delete batches."""
