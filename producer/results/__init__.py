"""The results of a batch: pages of rows, files, tables and the history of attempts."""
