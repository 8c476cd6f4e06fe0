"""Preparing: from the jobs of a claim, past the guards of inputs, to tokenized rows; in the claim thread."""
