"""Previews of uploaded files: their first rows, and which column is likely to be which field."""
