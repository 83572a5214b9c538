"""The options of a comparison: keywords of `latentcmp.compare` and flags of `latentcmp compare`.

The module imports neither torch nor ASE, so that the help of the command line is quick.
"""

from collections.abc import Iterable
from typing import Any, Literal

from latentcmp.errors import InputError, MissingPackageError

try:
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
except ModuleNotFoundError as error:
    raise MissingPackageError(
        "options are validated by pydantic, which is not installed: pip install 'latentcmp[cli]'"
    ) from error


def _default_models() -> tuple[str, ...]:
    from latentcmp.models.registry import DEFAULT_MODELS

    return DEFAULT_MODELS


class CompareConfig(BaseModel):
    """The options of a comparison, each with its type, default, limits and description.

    The command line takes its flags from these fields; a test holds the signature of `latentcmp.compare` to them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(
        default_factory=_default_models,
        min_length=1,
        description="Names (see `latentcmp models`) or FAMILY:CHECKPOINT, each with @LAYER if it has its own, or "
        "features:DIRECTORY for features that `latentcmp extract` wrote. "
        "Default: chgnet-0.3.0 sevennet-0 sevennet-mf-0 diep.",
    )
    layer: str = Field("last", min_length=1, description="Layer of the models: last, backbone, or a module path.")
    order: int | None = Field(
        None,
        ge=1,
        le=8,
        description="Highest cumulant of the structure descriptors, 1 to 8. Default: 4, with a preset 8.",
    )
    device: str | None = Field(None, description="cpu, cuda or cuda:N. Default: CUDA where there is one.")
    measures: tuple[str, ...] = Field(
        ("gfre", "lfre"),
        description="Measures between the models: names separated by commas, or the flag repeated. "
        "An unknown name lists all.",
    )
    reduce: Literal["invariant", "norms", "full"] = Field(
        "invariant",
        description="Columns taken of equivariant layers: invariant (l = 0 only), norms (also the norms of l > 0), or "
        "full.",
    )
    preset: Literal["chorna2025"] | None = Field(
        None,
        description="chorna2025: the recipe of the paper: 1000 test rows, by atom, stratified by subset; truncated SVD "
        "from 1e-9; order 8.",
    )
    seed: int = Field(0, ge=0, description="Seed of the split.")
    solver: Literal["cutoff", "ridge"] | None = Field(
        None,
        description="Regularisation of the linear maps: cutoff (truncated SVD) or ridge. Default: ridge, with a "
        "preset cutoff.",
    )
    baselines: Literal["default", "full", "none"] = Field(
        "default",
        description="Beside the errors of models, those of permuted rows, of elements and of coordination alone, and "
        "the noise of features on 64 structures: default, none or full. Full, with 5 times as many forwards, adds "
        "those of the architecture of each model with random weights, and takes the noise on all structures.",
    )
    n_local_points: int | None = Field(
        None,
        ge=2,
        description="Neighbours of a local map. Default: the smaller width of the pair, at most 64; with a preset "
        "without this limit.",
    )
    local_train_rows: int = Field(50_000, ge=2, description="Training rows sampled for local errors.")
    local_test_rows: int = Field(10_000, ge=1, description="Test rows sampled for local errors and intervals.")
    statistics: Literal["qr", "gram"] | None = Field(
        None,
        description="Joint statistics: qr (exact) or gram (faster; loses singular values below 1e-7 of the largest). "
        "Default: gram, with a preset qr.",
    )
    memory: float | None = Field(
        None,
        gt=0,
        description="GB of the joint statistics. Where those of 20 blocks of groups need more, 5 folds are kept, and "
        "intervals of GFRE hold the maps fixed. Default: half of the free memory, with shards and ranks 8.",
    )
    on_unsupported: Literal["skip", "error"] = Field(
        "skip", description="skip or error: what to do with structures that a model does not support."
    )
    batch_atoms: int | None = Field(None, ge=1, description="Atoms in a batch. Default: 64 on a CPU, 4096 on a GPU.")
    trust: bool = Field(False, description="Load checkpoints that need pickle, which can run code.")

    @property
    def cumulant_order(self) -> int:
        """The highest cumulant: as given, else 8 in the paper's preset and 4 otherwise."""
        return self.order or (8 if self.preset else 4)

    @property
    def regularised_by(self) -> Literal["cutoff", "ridge"]:
        """The solver: as given, else ridge, in the paper's preset cutoff."""
        return self.solver or ("cutoff" if self.preset else "ridge")

    @property
    def has_full_baselines(self) -> bool:
        """Whether baselines need runs with random weights; never in the paper's preset, which has no baselines."""
        return self.baselines == "full" and not self.preset

    @property
    def memory_bytes(self) -> int | None:
        """The memory of the joint statistics in bytes; None where it was not given."""
        return None if self.memory is None else int(self.memory * 1e9)

    @property
    def accumulated_as(self) -> Literal["qr", "gram"]:
        """The joint statistics: as given, else gram, in the paper's preset qr."""
        return self.statistics or ("qr" if self.preset else "gram")

    @field_validator("measures", mode="before")
    @classmethod
    def _split_at_commas(cls, given: Any) -> Any:
        texts = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
        if not all(isinstance(text, str) for text in texts):
            return given  # of a wrong type, which pydantic names
        return tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",")))

    @field_validator("measures")
    @classmethod
    def _are_registered(cls, measures: tuple[str, ...]) -> tuple[str, ...]:
        from latentcmp.measures.registry import check_measures

        check_measures(measures)
        return measures

    @classmethod
    def of(cls, **options: Any) -> "CompareConfig":
        """Validate options.

        Raises:
            InputError: some are unknown or out of range; the message names each of them.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            raise InputError("; ".join(_sentence(detail) for detail in error.errors())) from error


def _sentence(detail: Any) -> str:
    option = ".".join(map(str, detail["loc"]))
    if detail["type"] == "value_error":  # of a validator above, whose message says all
        return str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"there is no option {option!r}; options are {', '.join(CompareConfig.model_fields)}"
    return f"{option}: {detail['msg'][0].lower()}{detail['msg'][1:]}, got {detail['input']!r}"
