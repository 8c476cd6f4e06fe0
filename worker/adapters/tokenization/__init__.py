"""Tokenization: texts, pairs of texts and conversations become token ids within the model's limits."""
