"""Guards check inputs and outputs, by rules or by a model: their definitions, readings and verdicts. Pure."""
