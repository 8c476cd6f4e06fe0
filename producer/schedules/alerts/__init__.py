"""Events about schedules, and the signed webhook that delivers them."""
