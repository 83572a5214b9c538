"""Recompute the findings of arXiv 2512.05717 with the checkpoints that latentcmp loads by name.

    latentcmp bench findings --features FOLDER
    latentcmp bench findings --features FOLDER --quick    # four checkpoints, 48 structures

The features of nine checkpoints on the built-in structures, last layer and backbone, are kept in the folder; a run that
was interrupted continues with what is missing. Errors are those of the default comparison: ridge maps, each structure
tested once in five folds of groups. Whether a finding holds is computed from the errors by the criterion that stands
beside it, for several seeds of the folds. findings.md and findings.json go to --out.
"""

from .study import add_arguments, run

__all__ = ["add_arguments", "run"]
