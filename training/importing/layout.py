"""What the folders of an archive mean: splits, classes, and what is neither.

    [one top folder] / [train | validation | test] / CLASS / any folders / picture

Classes are strings, sorted as such: `007` and `7` differ, `10` comes before `2`. Nothing is decoded here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from training.errors import DatasetError
from training.importing.archive import Member

Split = Literal["train", "validation", "test"]
SPLITS: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_TEXT = (
    ".txt",
    ".md",
    ".csv",
    ".tsv",
    ".json",
    ".xml",
    ".yaml",
    ".yml",
    ".html",
    ".pdf",
    ".py",
    ".ini",
    ".log",
)


@dataclass(frozen=True)
class Entry:
    """A file that should be a picture, with what its folders say of it; split None: none was given."""

    member: Member
    split: Split | None
    label: str


@dataclass(frozen=True)
class Layout:
    """Entries, what was ignored (reason -> paths), and classes without any file."""

    entries: tuple[Entry, ...]
    ignored: Mapping[str, tuple[str, ...]]
    empty_classes: tuple[str, ...]

    @property
    def has_splits(self) -> bool:
        return any(entry.split is not None for entry in self.entries)


def read_layout(members: Sequence[Member], folders: Iterable[PurePosixPath] = ()) -> Layout:
    """Tell splits and classes by the folders. Raises DatasetError where there are no class folders."""
    ignored: dict[str, list[str]] = {}
    kept: list[Member] = []
    for member in members:
        reason = _reason_to_ignore(member.path)
        if reason:
            ignored.setdefault(reason, []).append(str(member.path))
        else:
            kept.append(member)
    top = _common_top([member.path for member in kept])
    depth = len(top)
    names = {member.path.parts[depth] for member in kept if len(member.path.parts) > depth + 1}
    has_splits = (
        bool(names) and names <= {n for n in names if n.lower() in SPLITS} and _hold_classes(kept, depth)
    )
    if has_splits and not any(SPLITS[name.lower()] == "train" for name in names):
        raise DatasetError(f"the archive has the folders {', '.join(sorted(names))} but none called train")
    entries: list[Entry] = []
    at = depth + has_splits
    for member in kept:
        parts = member.path.parts
        if len(parts) < at + 2:
            ignored.setdefault("not in the folder of a class", []).append(str(member.path))
            continue
        entries.append(Entry(member, SPLITS[parts[depth].lower()] if has_splits else None, parts[at]))
    if not entries:
        raise DatasetError(
            "the archive has no class folders: put the pictures of each class into its own folder, named as "
            "the class (cats/1.jpg, dogs/1.jpg), if need be inside train/ and test/"
        )
    found = {entry.label for entry in entries}
    empty = {p.parts[at] for p in folders if _is_class_folder(p, top, at)} - found
    return Layout(tuple(entries), {k: tuple(v) for k, v in ignored.items()}, tuple(sorted(empty)))


def _reason_to_ignore(path: PurePosixPath) -> str | None:
    if "__MACOSX" in path.parts or path.name.startswith("._"):
        return "written by macOS"
    if path.name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        return "written by the file manager"
    if ".ipynb_checkpoints" in path.parts:
        return "written by Jupyter"
    if any(part.startswith(".") for part in path.parts):
        return "hidden"
    if path.suffix.lower() in _TEXT:
        return "not a picture, by its ending"
    return None


def _common_top(paths: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """The folders that hold everything and are not a class or a split themselves.

    A single folder is unwrapped as long as nothing lies beside it and there are folders, not only files, in it.
    """
    top: tuple[str, ...] = ()
    while True:
        depth = len(top)
        names = {path.parts[depth] for path in paths if len(path.parts) > depth + 1}
        if len(names) != 1:
            return top
        (name,) = names
        if name.lower() in SPLITS or not any(len(path.parts) > depth + 2 for path in paths):
            return top
        top = (*top, name)


def _hold_classes(members: Sequence[Member], depth: int) -> bool:
    """Whether the folders that are named as splits hold folders, rather than being classes of these names."""
    inside = [member for member in members if len(member.path.parts) > depth + 1]
    return sum(len(member.path.parts) > depth + 2 for member in inside) > len(inside) / 2


def _is_class_folder(path: PurePosixPath, top: tuple[str, ...], at: int) -> bool:
    if _reason_to_ignore(path) or path.parts[: len(top)] != top or len(path.parts) != at + 1:
        return False
    return at == len(top) or path.parts[len(top)].lower() in SPLITS
