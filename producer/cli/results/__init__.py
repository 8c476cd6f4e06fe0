"""The commands that read results: `results`, `errors` and `attempts`."""
