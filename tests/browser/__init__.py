"""The pages in a real browser; `make test-hosts` runs these, and a missing browser is a failure."""
