"""Readers of text: JSON lines, CSV and TSV, plain lines, and the lines of OpenAI batch files."""
