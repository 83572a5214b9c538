"""Measures between feature matrices, from rows or from statistics of rows."""
