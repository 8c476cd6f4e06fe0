"""Pages that change by themselves: server-sent events of rendered parts."""
