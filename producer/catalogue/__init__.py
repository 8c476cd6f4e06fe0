"""What the catalogue offers, as the command line and the server show it: pipelines and tasks."""
