"""The routes under `/api` for batches: list, show, wait, act, and read results; `submission` has those that submit."""
