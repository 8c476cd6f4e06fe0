"""Training of the sample models under `models/samples/`; nothing here runs in a worker or ships in the wheel."""
