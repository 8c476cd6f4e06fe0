"""The pages of batches: the list, one batch, its rows, and the actions on them."""
