"""Rows from Parquet files, in bounded memory that is planned from page headers; this needs pyarrow."""
