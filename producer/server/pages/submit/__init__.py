"""The page that takes a file, shows its dry run, and submits it."""
