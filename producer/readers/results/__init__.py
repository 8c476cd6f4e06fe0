"""Results of an ended batch as the source of another: which rows are taken, and the names of what they hold."""
