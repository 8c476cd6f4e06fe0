"""From rows to an accepted batch: validation, chunks of jobs, idempotency keys, reuse and dry runs."""
