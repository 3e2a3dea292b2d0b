"""Systems to compare: ways to search an index, other indexes, and runs of other tools."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from harrier_core.errors import SettingError
from harrier_core.evaluation.runs import Run
from harrier_core.index import Index
from harrier_core.query import Mode
from harrier_core.reranking import Diverse, Reranker
from harrier_core.tasks import Task

if TYPE_CHECKING:
    from harrier_core.answers import Where

AS_IT_IS = "as it is"
BARE: Literal["no-instruction"] = "no-instruction"  # queries are encoded like documents
ALL_TASKS = "tasks"
_MODES: tuple[str, ...] = get_args(Mode)
_LONGEST = 48  # characters of a name


@dataclass(frozen=True, slots=True)
class System:
    """A way to answer questions. Settings that are not given are those of the evaluated index.

    name: its name in reports. task: a task of the model, a Task, or "no-instruction", which encodes questions like
    documents. mode, where, exact, ef, keyword_weight, rerank, among, min_score: as in `Index.search`. k: how many
    records to return at most. index: another Index, perhaps with another model. run: results that were made elsewhere;
    nothing is searched.
    """

    name: str | None = None
    task: str | Task | None = None
    mode: Mode = "dense"
    exact: bool = False
    ef: int | None = None
    keyword_weight: float | None = None
    rerank: Reranker | Diverse | None = None
    among: int | None = None
    min_score: float | None = None
    where: Where | None = None
    k: int | None = None
    index: Index | None = None
    run: Run | None = None

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise SettingError(f"mode must be one of {', '.join(_MODES)}, got {self.mode!r}")
        if self.k is not None and (type(self.k) is not int or self.k < 1):
            raise SettingError(f"k must be an integer of at least 1, got {self.k!r}")
        if self.run is not None and (self.index is not None or self.settings.keys() - {"run", "k"}):
            raise SettingError("a System with a run takes no settings but k and name")

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that are not the defaults, in a form that can be printed."""
        changed = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "name"}
        changed = {name: value for name, value in changed.items() if value not in (None, False, "dense")}
        return {name: _shown(value) for name, value in changed.items()}

    @property
    def searching(self) -> dict[str, Any]:
        """Return the keywords of a search."""
        names = ("mode", "exact", "ef", "keyword_weight", "rerank", "among", "min_score")
        return {name: getattr(self, name) for name in names}

    @property
    def title(self) -> str:
        """Return its name, or one that is composed of its settings."""
        if self.name is not None:
            return self.name
        parts = [_titled(name, value) for name, value in self.settings.items()]
        return shortened(", ".join(parts)) or AS_IT_IS


def _shown(value: object) -> Any:  # noqa: ANN401
    if isinstance(value, Task):
        return value.instruction
    if isinstance(value, Index):
        return f"{value.store} ({value.encoder.name})"
    if isinstance(value, Run):
        return value.name
    return value if isinstance(value, str | int | float | Mapping) else type(value).__name__


def _titled(name: str, value: object) -> str:
    if name == "exact":
        return "exact"
    if name in ("mode", "index") or value == BARE:
        return str(value)
    return f"{name} {value}"


def shortened(text: str, most: int = _LONGEST) -> str:
    """Return a text shortened to at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


# -- systems in words

Open = Callable[[str, str | None], Index]  # the URL of an index, and the name of a model or None
Given = System | str | Task | Index | Run

_NUMBERS: dict[str, Callable[[str], Any]] = {
    "ef": int,
    "k": int,
    "among": int,
    "keyword_weight": float,
    "min_score": float,
}
_REST = ("instruction", "index")  # settings whose values may contain a comma
WORDS = (
    "no-instruction, tasks, a task of the model, dense, keyword, hybrid, exact, or comma-separated task=, mode=, ef=, "
    "k=, keyword_weight=, min_score=, and last instruction=SENTENCE, index=URL or run=FILE"
)


@runtime_checkable
class _WithTasks(Protocol):
    """An embedder whose model names tasks."""

    @property
    def tasks(self) -> Mapping[str, str]:
        """The instructions by their names."""


def systems_of(
    given: Iterable[Given], base: System, index: Index | None, open_index: Open | None = None
) -> list[System]:
    """Return `base` and the systems that it is compared with, each with its own name. index: the one `base` searches.

    open_index: opens another index by its URL. Without it, the other index uses the model of `index`.
    """
    known = {} if index is None else _tasks(index)
    found: list[System] = []
    for each in given:
        if isinstance(each, str):
            found += _said(each, known, base, open_index or _with_encoder_of(index))
        elif isinstance(each, System):
            found.append(each)
        elif isinstance(each, Task):
            found.append(replace(base, name=None, task=each))
        elif isinstance(each, Index):
            found.append(replace(base, name=None, index=each, run=None))
        elif isinstance(each, Run):
            found.append(System(run=each, name=each.name))
        else:
            raise SettingError(f"compare takes a System, a Task, an Index, a Run or a str, got {type(each).__name__}")
    return list(_named([base, *found]))


def check(system: System, index: Index) -> None:
    """Raise SettingError if an index cannot be searched as a system asks, before any search of it begins."""
    known = _tasks(index)
    if isinstance(system.task, str) and system.task != BARE and known and system.task not in known:
        raise SettingError(f"unknown task {system.task!r}; this model knows {', '.join(known)}")
    if system.mode != "dense" and index.describe().keywords is False:
        raise SettingError(
            f"{system.title!r} searches by word, and {index.store} was created without keywords; add them with "
            "add_keywords() or `harrier keywords PLACE`"
        )


def _tasks(index: Index) -> dict[str, str]:
    return dict(index.encoder.tasks) if isinstance(index.encoder, _WithTasks) else {}


def system_of(said: str | System, index: Index | None) -> System:
    """Return the system that a string names, or the one that was given."""
    return said if isinstance(said, System) else systems_of([said], System(), index)[1]


def _named(systems: Iterable[System]) -> Iterator[System]:
    """Give each system a name that no other has."""
    taken: set[str] = set()
    for each in systems:
        title, number = each.title, 2
        while title in taken:
            title, number = f"{each.title} ({number})", number + 1
        taken.add(title)
        yield replace(each, name=title)


def _with_encoder_of(index: Index | None) -> Open:
    def open_index(url: str, model: str | None) -> Index:
        if index is None or model is not None:
            raise SettingError(f"index={url} with a model needs an Index; pass Index(store, encoder) instead")
        return Index(url, index.encoder)

    return open_index


def _said(said: str, known: Mapping[str, str], base: System, open_index: Open) -> list[System]:
    """Return the system, or systems, that a string names; everything else is as in `base`."""
    if said == ALL_TASKS:
        if not known:
            raise SettingError("'tasks' compares the tasks of the model, and this one names none")
        return [replace(base, name=None, task=name) for name in known if name != base.task]
    settings = _settings(said, known)
    url, model = settings.pop("index", None), settings.pop("model", None)
    if (file := settings.pop("run", None)) is not None:
        return [System(run=Run.load(file), **settings)]
    if url is not None:
        settings["index"] = open_index(url, model)
    elif model is not None:
        raise SettingError(f"model= names the model of another index; add index=URL, got {said!r}")
    if settings.get("mode", base.mode) != "hybrid":
        settings.setdefault("keyword_weight", None)
    return [replace(base, name=None, **settings)]


def _settings(said: str, known: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that a string names."""
    settings: dict[str, Any] = {}
    rest = said.strip()
    while rest:
        name, equals, value = rest.partition("=")
        if equals and name.strip() in _REST:
            name, rest = name.strip(), ""
        else:
            part, _, rest = rest.partition(",")
            name, equals, value = part.strip().partition("=")
        settings |= _setting(name.strip(), value.strip() if equals else None, known)
    if not settings:
        raise SettingError(f"a system must be {WORDS}; got an empty text")
    return settings


def _setting(name: str, value: str | None, known: Mapping[str, str]) -> dict[str, Any]:
    if value is None:
        if name in _MODES:
            return {"mode": name}
        if name == "exact":
            return {"exact": True}
        if name == BARE or name in known:
            return {"task": name}
    elif name in _NUMBERS:
        return {name: _number(name, value)}
    elif name == "instruction":
        return {"task": Task(value)}
    elif name in ("task", "mode", "model", "index", "run") and value:
        return {name: value}
    tasks = f"; the model's tasks are {', '.join(known)}" if known else ""
    raise SettingError(f"a system must be {WORDS}; got {shortened(name)!r}{tasks}")


def _number(name: str, value: str) -> float:
    try:
        number: float = _NUMBERS[name](value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise SettingError(f"{name}= must be a number, got {shortened(value)!r}")
    return number
