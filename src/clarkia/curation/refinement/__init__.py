"""Synthetic images made of real crops, re-painted where a class shows no evidence."""
