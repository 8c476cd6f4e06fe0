"""A package with a task: whether a reply is ironic, and how its author feels."""
