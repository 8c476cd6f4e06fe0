"""How one vector is made of the vectors of a text's tokens, as sentence-transformers makes it."""
