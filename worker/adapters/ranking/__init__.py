"""What the adapter of text-ranking needs beside the model: the settings in a cross-encoder's files, and its pairs."""
