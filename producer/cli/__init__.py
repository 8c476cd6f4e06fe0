"""The commands that submit, read and poll: data on stdout, everything else on stderr."""
