"""Service definitions as people keep them: TOML files, one service each.

Reading names every problem with the file, the key and what to write instead. Writing changes what differs
and keeps comments, order and layout of everything else.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.exceptions
import tomlkit.items

from quarterdeck.errors import InvalidInput, NotFound, StorageRefused
from quarterdeck.node.deffields import COMPONENT_KEYS, Misplaced, flag, text
from quarterdeck.node.model import ComponentSpec, Problem, ServiceDef
from quarterdeck.node.validate import problems

_SERVICE_KEYS: dict[str, Callable[[Any], Any]] = {"name": text, "node": text, "active": flag, "enforce": flag}
_WHAT_TO_WRITE = {
    "name": 'write name = "web"',
    "node": 'write node = "NAME", one of `qd node list`',
    "components": "write [[components]] with name and image",
    "image": 'write image = "registry/name:tag"',
}


@dataclass(frozen=True)
class Definition:
    """A definition and the file it came from."""

    path: Path
    service: ServiceDef


def loads(source: str, *, origin: str) -> ServiceDef:
    """Read a definition's text; `origin` names it in errors. Raises `InvalidInput` with every problem found."""
    service, found = _read(_parse(source, origin))
    if found or service is None:
        raise _invalid([(origin, each) for each in found])
    return service


def load(path: Path) -> ServiceDef:
    """Read a definition's file. Raises `InvalidInput` with every problem found, `NotFound` without the file."""
    return loads(_text_of(path), origin=str(path))


def load_folder(folder: Path) -> list[Definition]:
    """Read every `*.toml` below a folder, by path; hidden files and folders are left out.

    Raises `InvalidInput` with the problems of all files, also when two define the same service of a node.
    """
    definitions: list[Definition] = []
    wrong: list[tuple[str, Problem]] = []
    seen: dict[tuple[str, str], Path] = {}
    for path in definition_files(folder):
        try:
            service, found = _read(_parse(_text_of(path), str(path)))
        except InvalidInput as error:
            wrong.append((error.message, Problem("", "")))
            continue
        wrong += [(str(path), each) for each in found]
        if service is None or found:
            continue
        first = seen.setdefault((service.node, service.name), path)
        if first != path:
            message = f"{first} defines {service.name!r} of node {service.node!r} too; rename or remove one"
            wrong.append((str(path), Problem("name", message)))
        definitions.append(Definition(path, service))
    if wrong:
        raise _invalid(wrong)
    return definitions


def definition_files(folder: Path) -> list[Path]:
    """The files that `load_folder` reads."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.rglob("*.toml")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def find(
    folder: Path, service: str, *, node: str = "", passed_over: Callable[[str], None] = lambda _: None
) -> Definition | None:
    """The definition of a service in a folder; None when there is none.

    Only files that may hold it are checked, so that a broken neighbour does not stand in the way: `passed_over`
    is told what is wrong with one that is not even TOML. Raises `InvalidInput` when the file is broken, or
    several nodes have such a service and `node` does not say which.
    """
    found = [Definition(path, load(path)) for path in files_of(folder, service, node=node, passed_over=passed_over)]
    if len(found) > 1:
        where = ", ".join(f"{each.path} (node {each.service.node})" for each in found)
        raise InvalidInput(f"{service!r} is defined more than once: {where}", hint="say which with --node or -f FILE")
    return found[0] if found else None


def files_of(
    folder: Path, service: str, *, node: str = "", passed_over: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """The files in a folder that mean to define a service, right or not: they are read as TOML, and not checked.

    One that is not even that counts when it is named for the service; of any other `passed_over` is told.
    """
    found: list[Path] = []
    for path in definition_files(folder):
        try:
            document = _parse(_text_of(path), str(path))
        except NotFound:
            # Gone since the folder was read.
            continue
        except InvalidInput as error:
            if path.stem == service:
                found.append(path)
            else:
                passed_over(error.message)
            continue
        named = document.get("name", path.stem if "name" not in document else None)
        if named == service and (not node or document.get("node") in (node, None)):
            found.append(path)
    return found


def dumps(service: ServiceDef, *, onto: str = "", origin: str = "the definition") -> str:
    """The text of a definition: `onto`, where given, with only that changed which differs.

    Raises `InvalidInput` when `onto` is not TOML.
    """
    document = _parse(onto, origin)
    _set(document, "name", service.name, None)
    _set(document, "node", service.node, "")
    _set(document, "active", service.active, True)
    _set(document, "enforce", service.enforce, False)
    _write_components(document, service.components)
    return tomlkit.dumps(document)


def write(path: Path, service: ServiceDef) -> bool:
    """Write a definition's file atomically, keeping what is in it; whether anything changed.

    Raises `InvalidInput` when what is there is not TOML, `StorageRefused` when it cannot be written.
    """
    old = _text_of(path) if path.exists() else ""
    new = dumps(service, onto=old, origin=str(path))
    if new == old:
        return False
    _replace(path, new)
    return True


def set_active(path: Path, active: bool) -> bool:
    """Write `active` into a definition's file and nothing else; whether it changed. Raises as `write`."""
    old = _text_of(path)
    document = _parse(old, str(path))
    _set(document, "active", active, True)
    new = tomlkit.dumps(document)
    if new == old:
        return False
    _replace(path, new)
    return True


def _parse(source: str, origin: str) -> tomlkit.TOMLDocument:
    try:
        document = tomlkit.parse(source)
        # Some mistakes come to light only when it is read as a whole.
        document.unwrap()
        return document
    except tomlkit.exceptions.TOMLKitError as error:
        raise InvalidInput(f"{origin} is not TOML: {error}", hint="mend that line") from error


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", hint="`qd service export` makes one from the node") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _invalid(found: Iterable[tuple[str, Problem]]) -> InvalidInput:
    lines = [f"{origin}: {each.key}: {each.message}" if each.key else origin for origin, each in found]
    more = f"\n... and {len(lines) - 20} more" if len(lines) > 20 else ""
    return InvalidInput("\n".join(lines[:20]) + more, details={"problems": lines})


def _read(document: tomlkit.TOMLDocument) -> tuple[ServiceDef | None, list[Problem]]:
    data: Mapping[str, Any] = document.unwrap()
    found: list[Problem] = []
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key == "components":
            continue
        if key not in _SERVICE_KEYS:
            known = ", ".join((*_SERVICE_KEYS, "[[components]]"))
            found.append(Problem(key, f"there is no such key; known: {known}"))
            continue
        try:
            values[key] = _SERVICE_KEYS[key](value)
        except ValueError as error:
            found.append(Problem(key, str(error)))
    found += [Problem(key, f"is missing; {_WHAT_TO_WRITE[key]}") for key in ("name", "node") if not data.get(key)]
    listed = data.get("components")
    if not isinstance(listed, list) or not listed or not all(isinstance(each, Mapping) for each in listed):
        found.append(Problem("components", f"is missing; {_WHAT_TO_WRITE['components']}"))
        return None, found
    components = [_read_component(index, each, found) for index, each in enumerate(listed)]
    if found:
        return None, found
    service = ServiceDef(components=tuple(each for each in components if each is not None), **values)
    return service, list(problems(service))


def _read_component(index: int, data: Mapping[str, Any], found: list[Problem]) -> ComponentSpec | None:
    prefix = f"components[{index}]"
    before = len(found)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in COMPONENT_KEYS:
            found.append(Problem(f"{prefix}.{key}", f"there is no such key; known: {', '.join(COMPONENT_KEYS)}"))
            continue
        try:
            values[key] = COMPONENT_KEYS[key].read(value)
        except ValueError as error:
            inner = error.key if isinstance(error, Misplaced) else ""
            found.append(Problem(f"{prefix}.{key}{inner}", str(error)))
    found += [
        Problem(f"{prefix}.{key}", f"is missing; {_WHAT_TO_WRITE[key]}") for key in ("name", "image") if key not in data
    ]
    return ComponentSpec(**values) if len(found) == before else None


def _set(target: MutableMapping[str, Any], key: str, value: Any, default: Any) -> None:
    """Make a key say a value, touching it only when it says something else."""
    if key in target:
        current = target[key]
        if (current.unwrap() if hasattr(current, "unwrap") else current) == value:
            return
        target[key] = _item(value)
    elif value != default:
        target[key] = _item(value)


def _item(value: Any) -> Any:
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        for key, each in value.items():
            table[key] = _item(each)
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        for each in value:
            array.append(_item(each))
        return array
    return tomlkit.item(value)


def _write_components(document: tomlkit.TOMLDocument, components: tuple[ComponentSpec, ...]) -> None:
    existing = document.get("components")
    if not isinstance(existing, tomlkit.items.AoT):
        if existing is not None:
            del document["components"]
        existing = tomlkit.aot()
        for component in components:
            table = tomlkit.table()
            _write_component(table, component)
            existing.append(table)
        document["components"] = existing
        return
    wanted = {component.name: component for component in components}
    for index in reversed(range(len(existing))):
        if existing[index].get("name") not in wanted:
            del existing[index]
    present = {table.get("name"): table for table in existing}
    for component in components:
        if component.name in present:
            _write_component(present[component.name], component)
        else:
            added = tomlkit.table()
            _write_component(added, component)
            existing.append(added)


def _write_component(table: MutableMapping[str, Any], component: ComponentSpec) -> None:
    for key in COMPONENT_KEYS.values():
        value = getattr(component, key.name)
        if key.name in table:
            current = table[key.name]
            try:
                # 8080:80 and "8080:80/tcp" are the same port: what people wrote stays.
                if key.read(current.unwrap() if hasattr(current, "unwrap") else current) == value:
                    continue
            except ValueError:
                pass
            if value == key.default:
                del table[key.name]
                continue
        if value != key.default:
            table[key.name] = _item(key.write(value))


def _replace(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageRefused(f"{path} cannot be written: {error.strerror}; it is as it was") from error
    finally:
        temporary.unlink(missing_ok=True)
