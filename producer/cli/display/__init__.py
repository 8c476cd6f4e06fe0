"""Text for the terminal: batches, results, outputs and progress."""
