"""Tokenizers: loaded from a folder, and refused where they would read texts wrongly."""
