"""`batchmill schedule` and its sub-commands."""
