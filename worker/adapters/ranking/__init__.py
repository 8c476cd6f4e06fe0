"""What the adapter of text-ranking needs beside the model: its activation and its pairs."""
