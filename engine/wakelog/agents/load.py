"""Finding the application that a person names on the command line."""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from wakelog.agents.app import Wakelog
from wakelog.errors import BadInput


def load_app(target: str) -> Wakelog:
    """Import ``module:app``, ``file.py:app`` or ``file.py`` and return its Wakelog.

    Without a name, the module's only Wakelog is meant. The current folder, or the file's, is importable.

    Raises:
        BadInput: nothing of that name, it does not import, or it declares nothing.
    """
    place, _, name = target.partition(":")
    module = load_module(place)
    found = {key: value for key, value in vars(module).items() if isinstance(value, Wakelog)}
    if name:
        app = getattr(module, name, None)
        if not isinstance(app, Wakelog):
            known = ", ".join(found) or "none"
            raise BadInput(f'"{place}" has no Wakelog named "{name}"; it has: {known}')
    elif len(set(map(id, found.values()))) == 1:
        app = next(iter(found.values()))
    else:
        known = ", ".join(found) or 'none (expected something like: app = Wakelog("name"))'
        raise BadInput(f'expected one Wakelog in "{place}", found: {known}', hint=f"Name it: {place}:NAME")
    if not app.agents and not app.projections:
        raise BadInput(
            f'application "{app.name}" in "{place}" declares no agents and no projections',
            hint="Add: @app.agent(...)",
        )
    return app


def load_module(target: str) -> ModuleType:
    """Import a module by its name, or ``file.py``, with what it declares.

    Raises:
        BadInput: there is nothing of that name, or it does not import.
    """
    if not target:
        raise BadInput("expected module:app or file.py, found nothing")
    return _from_file(Path(target)) if target.endswith(".py") else _from_module(target)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadInput(f'there is no file "{path}"')
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        if isinstance(error, BadInput):
            raise
        raise _does_not_import(str(path), error) from error
    return module


def _from_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except BadInput:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise BadInput(
                f'there is no module "{name}" here or on the Python path',
                hint="Expected module:app (in this folder or installed) or file.py",
            ) from error
        raise _does_not_import(name, error) from error
    except Exception as error:
        raise _does_not_import(name, error) from error


def _does_not_import(place: str, error: Exception) -> BadInput:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return BadInput(f'"{place}" does not import: {type(error).__name__}: {error}{where}')
