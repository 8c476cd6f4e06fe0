"""Formats of exported results that have types: Arrow, Parquet and NumPy."""
