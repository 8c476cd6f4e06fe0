"""Torch layers that replace those of transformers, and the tolerance within which they must agree."""
