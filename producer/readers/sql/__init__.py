"""Rows from an operator's SELECT, read only, in one snapshot, through a server-side cursor."""
