"""One validated configuration: every flag of `latentcmp compare` is a key of it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latentcmp.errors import InputError
from latentcmp.hooks.layout import Reduce
from latentcmp.measures.cross_validation import Solver
from latentcmp.models.registry import DEFAULT_MODELS
from latentcmp.statistics.accumulator import SampleSizes
from latentcmp.statistics.joint_moments import Method
from latentcmp.systems.screen import OnUnsupported

Preset = Literal["chorna2025"]


class CompareConfig(BaseModel):
    """What a comparison does. Defaults are those of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(DEFAULT_MODELS, min_length=1)
    layer: str = Field("last", min_length=1)
    reduce: Reduce = "invariant"
    order: int | None = Field(None, ge=1, le=8)
    preset: Preset | None = None
    test_fraction: float | None = Field(None, gt=0, lt=1)
    seed: int = Field(0, ge=0)
    solver: Solver = "cutoff"
    n_local_points: int | None = Field(None, ge=2)
    local_train_rows: int = Field(SampleSizes.train, ge=2)
    local_test_rows: int = Field(SampleSizes.test, ge=1)
    statistics: Method = "qr"
    on_unsupported: OnUnsupported = "skip"
    device: str | None = None
    batch_atoms: int | None = Field(None, ge=1)
    trust: bool = False

    @property
    def cumulant_order(self) -> int:
        """The highest cumulant: as given, else 8 in the paper's preset and 4 otherwise."""
        return self.order or (8 if self.preset else 4)

    @model_validator(mode="after")
    def _preset_fixes_the_split(self) -> "CompareConfig":
        if self.preset and self.test_fraction is not None:
            raise ValueError(f"preset {self.preset} tests 1000 rows; leave test_fraction out")
        return self

    @property
    def tested(self) -> float:
        """The share of the groups that is tested: as given, else 0.2."""
        return self.test_fraction or 0.2

    @classmethod
    def of(cls, **options: Any) -> "CompareConfig":
        """A configuration from options. Raises InputError naming each option that is wrong."""
        try:
            return cls(**options)
        except ValidationError as error:
            raise InputError("; ".join(_sentence(detail) for detail in error.errors())) from error


def _sentence(detail: Any) -> str:
    option = ".".join(map(str, detail["loc"]))
    if not option:
        return str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"there is no option {option!r}; options are {', '.join(CompareConfig.model_fields)}"
    return f"{option}: {detail['msg'][0].lower()}{detail['msg'][1:]}, got {detail['input']!r}"
