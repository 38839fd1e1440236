"""Revisions of the deciding database, oldest first."""
