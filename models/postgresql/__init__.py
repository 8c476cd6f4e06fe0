"""What only PostgreSQL has: session settings, privileges and the GRANTs that give them."""
