"""Who looks at a page: sessions, signing in, and the token that every action carries."""
