"""Describes what every party's data must look like: from a sample, or from words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from client_sdk.data.dataset import make_dataset
from client_sdk.data.preparation import Preparation
from client_sdk.data.tables.reading import is_table, read_table
from client_sdk.data.tables.schema import ColumnSchema, Schema, describe, without_scales
from client_sdk.data.tables.table import KINDS
from client_sdk.data.tables.words import folded, listed, plain, shown
from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.agreeing import require_form
from client_sdk.task.initial import described_pictures, described_table
from client_sdk.task.model_file import Description
from client_sdk.task.models import spec_for
from client_sdk.task.own_data import picture_site, table_site
from client_sdk.task.own_data.picture_site import read_pictures
from client_sdk.task.own_data.table_task import NETWORKS, TableTask
from client_sdk.task.pictures import PictureTask
from client_sdk.task.task import Task, Weights
from serverless_fl.domain.agreement import MAX_COLUMNS, Agreement, metadata_of


@dataclass(frozen=True, kw_only=True)
class Look:
    """What somebody says of every party's data: a sample `like` theirs, or words instead of it.

    `kinds` says what columns of `like` are, where a guess is wrong. `columns` are words such as
    "age=number" and "sex=category:f,m". `size` is a picture's width and height.
    """

    like: Path | None = None
    label: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()
    classes: Sequence[str] = ()
    size: tuple[int, int] | None = None
    grey: bool = False
    model: str = "auto"


@dataclass(frozen=True)
class Plan:
    """A task for data of the parties' own, its terms, and the name of what they have."""

    task: Task
    agreement: Agreement
    data: str
    notes: Sequence[str] = ()
    begun: Weights | None = None  # of a given model; None: the task's own

    def initial(self, seed: int) -> bytes:
        """The initial model's file, with the terms in its metadata."""
        metadata = self.task.metadata() | metadata_of(self.agreement)
        weights = self.task.initial(seed) if self.begun is None else self.begun
        return weights_file.write(weights, metadata)


def plan_of(look: Look, *, federated: bool) -> Plan:
    """The plan for tables where there is a label, else for pictures. Raises DataError."""
    if look.kinds and (look.label is None or look.like is None):
        raise DataError("--kinds says what the columns of a table are: give --like and --label.")
    if look.label is not None or look.columns:
        return _of_tables(look, federated)
    if look.like is not None and is_table(look.like) and look.like.suffix.lower() != ".npz":
        raise DataError(f"{look.like} is a table: say with --label which column is to be learnt.")
    return _of_pictures(look)


def plan_of_model(data: bytes, whose: str, *, federated: bool) -> Plan:
    """The plan for parties like those of a given model, which begins from it. Raises DataError.

    `data` is the model's file. It says what the parties' data look like; the scales are its own,
    or are fixed anew by the parties' sums if `federated`.
    """
    weights = weights_file.read(data, whose)
    if (table := described_table(data)) is not None:
        schema = without_scales(table.schema) if federated else table.schema
        task: Task = (made := TableTask(schema, table.network))
        if not federated and any(c.scale is None for c in schema.columns if c.kind != "category"):
            raise DataError(
                f"{whose} lacks means and deviations: give --normalisation federated, or the file "
                "that join --out wrote."
            )
        if federated:
            _require_few_columns(schema)
        agreement, name = table_site.agreement_of(made, federated=federated), "tables"
    elif (about := described_pictures(data)) is not None:
        if federated:
            raise DataError("--normalisation federated is for tables.")
        task = (pictures := PictureTask(about))
        agreement, name = picture_site.agreement_of(pictures), about.dataset
    else:
        raise DataError(f"{whose} does not say what data it learns from: give its --task.")
    require_form(task, data, whose)
    return Plan(task, agreement, name, begun=weights)


def _of_tables(look: Look, federated: bool) -> Plan:
    name, notes = "tables", tuple[str, ...]()
    if look.label is None:
        raise DataError("Say with --label which column is to be learnt.")
    if look.like is not None:
        if look.columns:
            raise DataError("Give --like or --column, not both.")
        table = read_table(look.like, look.label, kinds=look.kinds)
        name, notes = table.name, table.notes
        # Elsewhere values may be missing where none are here.
        schema = describe(table, indicators=True)
        if look.classes:
            schema = _with_classes(schema, look.classes)
        if schema.classes is not None:
            _require_classes(f"The label {shown(schema.label)}", schema.classes)
    else:
        schema = Schema(
            tuple(map(_column, look.columns)),
            plain(look.label),
            tuple(map(plain, look.classes)) or None,
        )
        Schema.from_json(schema.to_json())  # checks it
    if federated:
        schema = without_scales(schema)
        _require_few_columns(schema)
    elif look.like is None:
        raise DataError("--normalisation given needs the means and deviations of a --like.")
    network = "linear" if look.model == "auto" else look.model
    found = next((one for one in NETWORKS if one == network), None)
    if found is None:
        raise DataError(f"--model of tables is one of auto, {', '.join(NETWORKS)}.")
    task = TableTask(schema, found)
    return Plan(task, table_site.agreement_of(task, federated=federated), name, notes)


def _require_classes(whose: str, classes: Sequence[str]) -> None:
    """Raises DataError for fewer than two classes, and for names that look like mistakes."""
    if len(classes) < 2:
        raise DataError(
            f"{whose} has the class {listed(classes)} only, so there is nothing to tell apart: "
            "--classes A,B names all classes that the parties have."
        )
    by_folded: dict[str, list[str]] = {}
    for name in classes:
        by_folded.setdefault(folded(name), []).append(name)
    for alike in by_folded.values():
        if len(alike) > 1:
            raise DataError(
                f"{whose} has the classes {' and '.join(map(shown, alike))}, which differ by "
                "capitals or blanks only: write them alike."
            )


def _require_few_columns(schema: Schema) -> None:
    """Raises DataError for more columns than sums can fix."""
    if len(schema.numeric) > MAX_COLUMNS:
        raise DataError(
            f"The parties' sums can fix {MAX_COLUMNS} columns, and there are "
            f"{len(schema.numeric)}: --normalisation given takes those of --like."
        )


def _with_classes(schema: Schema, classes: Sequence[str]) -> Schema:
    """The schema with its classes in this order, and perhaps with more of them."""
    wanted = tuple(map(plain, classes))
    if schema.classes is None or not set(schema.classes) <= set(wanted):
        own = "numbers" if schema.classes is None else ", ".join(schema.classes)
        raise DataError(f"The label {shown(schema.label)} has {own}: --classes must name them all.")
    return Schema(schema.columns, schema.label, wanted)


def _column(words: str) -> ColumnSchema:
    name, equals, kind = words.rpartition("=") if "=" in words else (words, "", "")
    kind, _, categories = kind.partition(":")
    found = next((one for one in KINDS if one == kind), None)
    if not equals or found is None or (found == "category") != bool(categories):
        raise DataError(
            f"--column is NAME=number, NAME=boolean or NAME=category:A,B, not {shown(words)}."
        )
    listed = tuple(plain(word) for word in categories.split(",") if word.strip())
    return ColumnSchema(plain(name), found, listed, indicator=True)


def _of_pictures(look: Look) -> Plan:
    if look.like is not None:
        dataset = make_dataset(look.like.stem, read_pictures(look.like, look.size))
        classes = tuple(look.classes) or dataset.classes
        if not set(dataset.classes) <= set(classes):
            raise DataError(
                f"{look.like} has the classes {', '.join(dataset.classes)}: --classes must name "
                "them all."
            )
        _require_classes(str(look.like), classes)
        spec = spec_for(look.model, dataset.shape, len(classes))
        about = Description(
            spec, dataset.name, classes, dataset.mean, dataset.std, dataset.preparation
        )
        note = (dataset.note,) if dataset.note else ()
    else:
        if not look.classes or look.size is None:
            raise DataError(
                "Say what the parties' data look like: --like PATH; or --label, --column and "
                "--classes; or, of pictures, --classes and --image-size."
            )
        width, height = look.size
        channels = 1 if look.grey else 3
        preparation = Preparation(channels, height, width)
        spec = spec_for(look.model, (channels, height, width), len(look.classes))
        middle = (0.5,) * channels, (0.25,) * channels  # of pixels in [0, 1]
        about = Description(spec, "pictures", tuple(look.classes), *middle, preparation)
        note = ()
    task = PictureTask(about)
    return Plan(task, picture_site.agreement_of(task), about.dataset, note)
