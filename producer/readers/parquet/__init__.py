"""Rows from Parquet in bounded memory, planned by the headers of its pages. Needs pyarrow."""
