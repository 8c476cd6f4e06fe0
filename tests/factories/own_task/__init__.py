"""A package of another author with its own task, as it would be installed, and a tiny model for it."""
