"""A batch as people see it: its views and progress, cancelling, retrying and deleting it."""
