"""Torch layers that replace those of transformers, and the state that a model keeps."""
