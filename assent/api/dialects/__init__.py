"""Dialects: the forms in which clients read a log."""
