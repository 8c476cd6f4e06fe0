"""The routes under `/api` for batches: submit, list, show, wait, act, and read results."""
