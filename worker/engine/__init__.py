"""Three threads that carry slices through the loaded model: claim and tokenize, forward, write."""
