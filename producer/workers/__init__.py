"""Workers from the user's side: who is alive, what they have loaded, and the backlog of each pipeline."""
