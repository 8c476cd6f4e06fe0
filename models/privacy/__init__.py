"""Privacy: keeps texts and secrets out of logs, terminals and other users' files."""
