"""Repairs put corrected rows in the places of failed jobs."""
