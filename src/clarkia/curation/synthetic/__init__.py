"""Synthetic rows that stand for many, learned by matching distributions of features."""
