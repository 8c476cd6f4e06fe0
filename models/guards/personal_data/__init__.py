"""Finders of personal data by rules: each takes a folded text and yields places in order. Pure."""
