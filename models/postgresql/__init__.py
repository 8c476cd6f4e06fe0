"""PostgreSQL-specific code: session settings, privileges and the GRANTs that give them."""
