"""Rows of a batch as people look at them: filtered pages of previews, and all about one job.

Every query reads a bounded number of rows, however large the batch is.
"""
