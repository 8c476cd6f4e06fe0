"""The commands of the producer's side: data goes to stdout, and everything else to stderr."""
