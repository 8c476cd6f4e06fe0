"""How the samples under `models/samples/` were made. Nothing here runs in a worker or ships in the wheel."""
