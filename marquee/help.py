"""How the commands look in `--help`, for Typer."""

from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.exceptions import TyperException

CONTEXT_SETTINGS = {"help_option_names": ["--help", "-h"]}


class Command(TyperCommand):
    """A command whose help wraps at the terminal's width and does not show the type of flags."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.help = _without_line_breaks(self.help or "")

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_without_type(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            if getattr(error, "ctx", None) is None:  # an option without its value does not know its command
                error.ctx = ctx  # type: ignore[attr-defined]
            raise


class Group(TyperGroup):
    """The same for the command that holds the others."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_without_type(super().get_params(ctx))


def _without_line_breaks(text: str) -> str:
    """Each paragraph on one line: a docstring's lines are broken for an editor, not for the reader's terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _flags_without_type(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_flag and parameter.metavar is None:
            parameter.metavar = ""
    return parameters
