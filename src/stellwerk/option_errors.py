"""What is wrong with an option or an argument, in our words: the library that reads them speaks of its own kinds."""

from typing import Any, Final, get_args

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

_NUMBERS: Final = (
    *("int_parsing", "int_parsing_size", "int_from_float", "int_type", "float_parsing", "float_type", "finite_number"),
    *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
)
_OURS: Final = "value_error"
"""Somebody's own words, which the library puts its own before."""


class Commands(TyperGroup):
    """The commands of a program: a value that an option cannot have is said as `reason` says it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                error.message = reason(error.__cause__, error.param)
            raise


def reason(error: ValidationError, parameter: Any) -> str:
    """What was written, and what would be right for ``parameter``, an option or an argument."""
    first = error.errors()[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, ValidationError):
        # Of one value of a list.
        return reason(own, parameter)
    if first["type"] in _NUMBERS:
        return f"{first['input']!r} is not {_number(parameter)}"
    if first["type"] == _OURS:
        return str(own).removesuffix(".")
    return f"{first['input']!r}: {first['msg']}"


def _number(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    kind = "a whole number" if int in (annotation, *get_args(annotation)) else "a number"
    least, most = parameter.min, parameter.max
    if least is None and most is None:
        return kind
    if least is None:
        return f"{kind}, {most} at most"
    return f"{kind}, {least} or more" if most is None else f"{kind} from {least} to {most}"
