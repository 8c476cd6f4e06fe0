"""Pipelines by name: the catalogue, its entries, and the revision of a model folder."""
