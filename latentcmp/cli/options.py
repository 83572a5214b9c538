"""What the commands share: their consoles, and options, most of them generated from `CompareConfig`."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console

from latentcmp.comparison.config import CompareConfig

out = Console(markup=False, emoji=False, highlight=False)
err = Console(stderr=True, markup=False, emoji=False, highlight=False)

Structures = Annotated[
    list[Path] | None,
    typer.Option("--structures", "-s", help="A file that ASE reads; repeat for several. Default: the built-in set."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory for the results.")]
Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(*names: str) -> Callable[[Command], Command]:
    """Decorate a command that takes `**options`: each named field of `CompareConfig` becomes a flag.

    Flag, type, default and help text come from the field; values are validated by the model, not by typer.
    """

    def decorated(command: Command) -> Command:
        signature = inspect.signature(command)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
        generated = [_parameter(name, CompareConfig.model_fields[name]) for name in names]
        command.__signature__ = signature.replace(parameters=[*own, *generated])  # type: ignore[attr-defined]
        command.__annotations__ |= {parameter.name: parameter.annotation for parameter in generated}
        return command

    return decorated


def description(name: str) -> str:
    """The description of a field of `CompareConfig`."""
    return CompareConfig.model_fields[name].description or ""


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """The parameter from which typer makes the flag of a field."""
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, help=field.description, show_default=default is not None)
    annotation = Annotated[_parsed_type(field.annotation), option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parsed_type(annotation: Any) -> Any:
    """The type that typer parses: that of the field, but text for a choice and a list for a tuple."""
    if get_origin(annotation) is Literal:
        return str
    if get_origin(annotation) is tuple:
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    if NoneType in get_args(annotation):
        (inner,) = (member for member in get_args(annotation) if member is not NoneType)
        return _parsed_type(inner) | None
    return annotation
