"""Pretrained models behind one interface; model packages are imported by `families` alone, inside functions."""

from latentcmp.models.card import Adapter, Family, ModelCard
from latentcmp.models.registry import DEFAULT_MODELS, ModelSpec, cards, load, parse, parse_all

__all__ = ["DEFAULT_MODELS", "Adapter", "Family", "ModelCard", "ModelSpec", "cards", "load", "parse", "parse_all"]
