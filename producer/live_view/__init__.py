"""The live view of a batch while somebody waits for its end: a bar on a terminal, a display in a notebook."""
