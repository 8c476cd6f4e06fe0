"""What came out of a batch: pages of rows, files, tables and the history of attempts."""
