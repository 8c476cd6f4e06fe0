"""How batches, results, outputs and progress look on a terminal."""
