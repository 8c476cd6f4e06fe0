"""The parent process: starts worker processes, restarts them, and returns what a crashed one had leased."""
