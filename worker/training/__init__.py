"""How the tiny sample models under `models/samples/` were made; nothing here runs in production or ships in the wheel."""
