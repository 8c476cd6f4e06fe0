"""Uploads keep the files that a server takes, and read them into batches.

`storage` has their bytes, `files` their rows in SQL, `multipart` takes them in, and `intake` makes jobs of them.
"""
