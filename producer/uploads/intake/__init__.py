"""From a file to a batch's jobs.

`opening` inserts the batch with its read request, `intake` reads its rows, and `intake_watch` starts the readers.
"""
