"""Statistics of a run's results, and their drift from earlier runs. Pure functions, without I/O."""
