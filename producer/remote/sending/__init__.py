"""What a submission or a repair sends to a server: rows of a program and files, as lines of JSON or as they are."""
