"""`--config FILE`: the options of a command, written down in YAML.

    via: socks5://127.0.0.1:1080
    exclude: [10.0.0.0/8, 192.168.0.0/16]
    strict: true

A key is the long name of an option, its value what would stand behind it, a list where the option may be repeated,
true or false where it takes none. The command line wins over the file. There is no second schema: each value goes
through the type of its option, so that what is wrong on the command line is wrong here, in the same words. All that
is wrong is said at once, each with its line.

Scalars are taken as they are written: no YAML reader turns the interface `no` into False, or 10:30 into 630.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

import click

from tunsmith.errors import UsageError, WrongConfig

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LARGEST = 1 << 20
"""Characters of a file that are read."""


def option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --config."""
    return click.option(
        "--config",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_use,
        help="Take options from FILE (YAML: the names of these options, without the dashes).",
    )(function)


def _use(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    if path is not None:
        ctx.default_map = read(path, ctx)


def read(path: str, ctx: click.Context) -> dict[str, Any]:
    """The options in the file at `path`, as values of `Context.default_map`. Raises WrongConfig, or UsageError where
    there is nothing to read."""
    root = _compose(path)
    faults: list[str] = []
    found: dict[str, Any] = {}
    options = _options(ctx.command)
    for key, value, line in _entries(root, path, faults):
        place = f"{path}:{line}: {key}"
        option = options.get(key)
        if option is None:
            faults.append(f"{place}: no such setting{_suggestion(key, options)}")
        elif option.name in found:
            faults.append(f"{place}: is said twice")
        else:
            assert option.name is not None
            found[option.name] = _value(option, value, f"{path}:", key, ctx, faults)
    if faults:
        raise WrongConfig(faults)
    return found


def _options(command: click.Command) -> dict[str, click.Option]:
    options = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in ("config", "help"):
            longest = max(parameter.opts, key=len)
            options[longest.removeprefix("--")] = parameter
    return options


def _compose(path: str) -> Any:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"--config {path}: {getattr(error, 'strerror', None) or 'not a text file'}"
        ) from None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        raise WrongConfig([f"{path}:{line}: not YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise WrongConfig([f"{path}:1: not YAML: {error}"]) from None


def _entries(root: Any, path: str, faults: list[str]) -> Iterator[tuple[str, Any, int]]:
    if root is None:  # an empty file
        return
    if root.id != "mapping":
        faults.append(f"{path}:{root.start_mark.line + 1}: settings are `name: value`, a line each")
        return
    for key, value in root.value:
        yield str(key.value), value, key.start_mark.line + 1


def _value(
    option: click.Option, node: Any, place: str, key: str, ctx: click.Context, faults: list[str]
) -> Any:
    """The value of `option`, or None where something was added to `faults`."""
    if option.multiple:
        items = node.value if node.id == "sequence" else [node]
        paths = [f"{key}[{index}]" for index in range(len(items))] if node.id == "sequence" else [key]
        return [
            _scalar(option, item, place, path, ctx, faults) for item, path in zip(items, paths, strict=True)
        ]
    return _scalar(option, node, place, key, ctx, faults)


def _scalar(
    option: click.Option, node: Any, place: str, key: str, ctx: click.Context, faults: list[str]
) -> Any:
    place = f"{place}{node.start_mark.line + 1}: {key}"
    if node.id != "scalar":
        what = "a list of values" if option.multiple else "one value"
        faults.append(f"{place}: wants {what}")
    elif option.is_flag:
        if (word := node.value.lower()) in _WORDS:
            return _WORDS[word]
        faults.append(f"{place}: is true or false, not {node.value!r}")
    elif not node.value:
        faults.append(f"{place}: has no value")
    else:
        try:
            return option.type.convert(node.value, option, ctx)
        except UsageError as error:
            faults.append(f"{place}: {error}")
        except click.BadParameter as error:
            faults.append(f"{place}: {error.message}")
    return None


def _suggestion(key: str, options: dict[str, click.Option]) -> str:
    close = get_close_matches(key.replace("_", "-"), options, 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(options))}"
