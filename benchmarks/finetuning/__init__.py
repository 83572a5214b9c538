"""Does fine-tuning keep the imprint of pretraining? CHGNet taught the energies and forces of another model."""
