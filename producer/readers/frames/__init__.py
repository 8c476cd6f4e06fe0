"""Data frames and Arrow tables of a Python program become items, portion by portion; no package is imported for it."""
