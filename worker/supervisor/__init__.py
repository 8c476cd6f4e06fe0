"""The supervisor: the parent process that starts workers, restarts them and requeues a crashed worker's slices."""
