"""What producers and workers agree on: settings, states, tables, the catalogue, the bell. Never imports torch."""
