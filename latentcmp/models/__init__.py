"""Pretrained models behind one door. The only room that imports a model package, and only inside functions."""

from latentcmp.models.card import Adapter, ModelCard
from latentcmp.models.registry import DEFAULT_MODELS, ModelSpec, cards, load, parse, parse_all

__all__ = ["DEFAULT_MODELS", "Adapter", "ModelCard", "ModelSpec", "cards", "load", "parse", "parse_all"]
