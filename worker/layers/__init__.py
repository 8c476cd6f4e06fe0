"""Torch layers that replace those of transformers, the state that a model keeps, and how closely passes must agree."""
