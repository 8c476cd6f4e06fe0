"""Tasks of one's own: what the package of another author says about its task, without torch or transformers."""
