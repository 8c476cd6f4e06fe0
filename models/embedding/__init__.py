"""Embedding models: what the files of sentence-transformers say of how a text's vector is made."""
