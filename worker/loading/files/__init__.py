"""Files: a model on disk or on the Hub, checked for what may be loaded and whether it is whole."""
