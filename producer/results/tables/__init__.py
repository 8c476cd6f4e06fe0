"""Tables of the user that results are written to: their names, types and staging."""
