"""Clients and handles over a database that this process reaches itself."""
