"""Revisions of the projected database, oldest first."""
