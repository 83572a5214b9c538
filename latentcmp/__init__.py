"""latentcmp: how well the latent features of one interatomic potential rebuild those of another."""

__version__ = "0.1.0"
