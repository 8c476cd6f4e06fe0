"""The tables, as SQLAlchemy's classes.

SQL is the source of truth: jobs and results are insert-only; only slices, batches and their guards change. A job
changes only when a guard redacts its input.
"""
