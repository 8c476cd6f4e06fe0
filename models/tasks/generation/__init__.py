"""Generated text: the parameters of its decoding, and the schemas that it can be held to."""
