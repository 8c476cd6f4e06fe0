"""What the files of sentence-transformers say of embedding models and of cross-encoders."""
