"""The command group `batchmill schedule`."""
