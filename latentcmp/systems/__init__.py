"""Structures: reading, screening and splitting."""
