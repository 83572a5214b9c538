"""Does fine-tuning keep the imprint of pretraining? CHGNet taught the energies and forces of another model."""

from .study import add_arguments, run

__all__ = ["add_arguments", "run"]
