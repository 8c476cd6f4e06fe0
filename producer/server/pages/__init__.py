"""The pages at `/`: what the API shows and does, for people in a browser. Rendered here, readable without scripts."""
