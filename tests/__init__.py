"""Tests; the folders are named as the rooms of the package."""
