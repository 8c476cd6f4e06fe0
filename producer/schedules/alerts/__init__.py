"""Events that people should know of, and the webhook that delivers them, signed."""
