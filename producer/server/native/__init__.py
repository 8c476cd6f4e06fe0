"""The API under `/api`: everything that the command line and Python can do."""
