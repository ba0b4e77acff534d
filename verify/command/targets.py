"""The target of `python -m verify check`: a layer by its name."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from verify.adapters import layer_name, renamed

# A choice: more names do not fit a line.
_MOST_NAMES = 8
# A choice: relative imports reach up a few folders.
_MOST_FOLDERS = 4


class TargetError(ValueError):
    """The layer, arrays or options that the caller named do not exist or do not fit."""


class Target(NamedTuple):
    """A layer, and the module in which it was found."""

    layer: Any
    module: ModuleType


def load(target: str) -> Target:
    """Return the layer of "package.module:NAME" or "path/to/file.py:NAME".

    NAME may be dotted. "FORWARD,BACKWARD" is a pair of functions. Without a NAME the layer is the module itself.
    Raises TargetError if there is no such layer. Exceptions of the module pass through.
    """
    place, _, names = target.rpartition(":") if ":" in target else (target, "", "")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    wanted = names.split(",") if names else []
    if not all(wanted) or len(wanted) > 2:
        raise TargetError(f"{target!r} is neither MODULE:NAME nor MODULE:FORWARD,BACKWARD")
    found = [attribute(module, name) for name in wanted] or [module]
    return Target(found[0] if len(found) == 1 else tuple(found), module)


def made(target: Target, init: str | None, forward: str | None, backward: str | None) -> Target:
    """Return the target: of a class the instance made with the arguments in `init`, and with its methods renamed."""
    layer = target.layer
    if init is not None:
        if not inspect.isclass(layer):
            raise TargetError(f"--init {init!r} makes an instance of a class; {layer_name(layer)} is none")
        arguments, keywords = _called_with(init)
        try:
            inspect.signature(layer).bind(*arguments, **keywords)
        except TypeError as error:
            raise TargetError(f"--init {init!r}: {layer.__name__}{inspect.signature(layer)}: {error}") from error
        except ValueError:  # a class without a signature
            pass
        layer = layer(*arguments, **keywords)
    if forward is None and backward is None:
        return target._replace(layer=layer)
    try:
        return target._replace(layer=renamed(layer, forward, backward))
    except (AttributeError, TypeError, ValueError) as error:
        raise TargetError(str(error)) from error


def _called_with(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and keyword arguments in "3, 4, stride=2"."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError(text)
        keywords = {str(each.arg): ast.literal_eval(_word(each.value)) for each in call.keywords}
        return [ast.literal_eval(_word(each)) for each in call.args], keywords
    except (SyntaxError, ValueError):
        text = f'--init {text!r} holds no arguments as in --init "3, stride=2": Python literals and words alone'
        raise TargetError(text) from None


def _word(node: ast.expr) -> ast.expr:
    """Return a bare word as a string, and anything else as it is."""
    return ast.Constant(node.id) if isinstance(node, ast.Name) else node


def attribute(module: ModuleType, name: str) -> Any:
    """Return the attribute of a module with this name, which may be dotted."""
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            names = [each for each in dir(value) if not each.startswith("_")]
            has = [each for each in names if not isinstance(getattr(value, each, None), ModuleType)]
            close = difflib.get_close_matches(part, has) or has
            listed = ", ".join(close[:_MOST_NAMES]) + ", ..." * (len(close) > _MOST_NAMES)
            raise TargetError(f"there is no {name} in {module.__file__}, but {listed or 'nothing'}")
        value = getattr(value, part)
    return value


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {str(path)!r} in {str(Path.cwd())!r}")
    _put_first(path.parent)  # for imports of its neighbours
    name = f"file:{path.stem}"  # which no import finds
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        if "relative import" not in str(error) or came_to_other(error, path):
            raise
        return _of_package(path.resolve(), error)
    return module


def _of_package(path: Path, error: ImportError) -> ModuleType:
    """Import a file that belongs to a package: that of the folders around it, as many as its imports need."""
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    roots = (root, *root.parents) if root != path.parent else path.parent.parents
    for folder in roots[:_MOST_FOLDERS]:
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        _put_first(folder)
        try:
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path:
                return importlib.import_module(name)
        except ImportError as failed:
            if "relative import" not in str(failed):
                raise
    raise TargetError(
        f"{path.name} has relative imports ({error}): from the folder that holds its package write "
        f"{path.parent.name}.{path.stem}:NAME"
    ) from error


def _from_name(name: str) -> ModuleType:
    _put_first(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists, and an import inside it failed
        text = f"; a file is written {name}.py:NAME" if "/" in name else ""
        raise TargetError(f"there is no module {name!r}, searched from {Path.cwd()} on{text}") from error
    except (TypeError, ValueError) as error:
        if name and not name.startswith("."):
            raise
        raise TargetError(f"{name!r} is not a module") from error


def _put_first(folder: Path) -> None:
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))


def where(error: BaseException, module: ModuleType | None) -> str:
    """Return the line that raised: the innermost in the module, or the innermost of all if none is."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {(error.text or '').strip()}"
    frame = (_own(error, module) or traceback.extract_tb(error.__traceback__))[-1]
    return f"{frame.filename}:{frame.lineno}, in {frame.name}"


def came_to(error: BaseException, module: ModuleType) -> bool:
    """Return whether a line of the module ran before the exception. If not, the call itself was refused."""
    return bool(_own(error, module))


def came_to_other(error: BaseException, path: Path) -> bool:
    """Return whether another file than this one raised."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve() != path.resolve()


def _own(error: BaseException, module: ModuleType | None) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [each for each in frames if module is not None and each.filename == module.__file__]
