"""The settings of a `generate` call: a batch's parameters, resolved for one model and its defaults."""
