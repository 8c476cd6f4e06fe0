"""The pages, measured: seeded databases, the time of each page, its bytes, and open pages."""
