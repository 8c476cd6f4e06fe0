"""Outputs: from the scores of a model to labels, entities, answers and vectors, for many jobs at once."""
