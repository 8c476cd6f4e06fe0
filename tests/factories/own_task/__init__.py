"""A package of another author with a task of its own, as it would be installed, and a tiny model for it."""
