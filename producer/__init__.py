"""The light side: submit, poll and read. Never imports torch or transformers."""
