"""Writes the pictures of the pages to docs/images."""
