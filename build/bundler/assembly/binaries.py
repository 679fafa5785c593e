"""What a native file says of itself: its format, what it imports, and what it needs of the system.

Files are read, never loaded. The first bytes decide, so text files cost one short read each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import lief

from bundler.errors import VerificationError

if TYPE_CHECKING:
    from pathlib import Path

Format = Literal["elf", "macho", "pe"]
Kind = Literal["program", "library", "object"]

HEAD_BYTES: Final = 8
_THIN_MACHO: Final = frozenset(
    (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
)
_FAT_MACHO: Final = frozenset((b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"))
# A Java class file has the same four bytes, then its version, which starts at 45.
_MOST_SLICES: Final = 44
_PE_POINTER: Final = 0x3C
_ARCHITECTURES: Final = {
    "X86_64": "x64",
    "AMD64": "x64",
    "AARCH64": "arm64",
    "ARM64": "arm64",
    "ARM64EC": "arm64",
    "I386": "x86",
    "X86": "x86",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A library that a binary names, with the symbol versions it wants of it.

    `optional`: the binary loads without it (weak in Mach-O, delay-loaded in PE).
    """

    name: str
    versions: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One native file, as much of it as decides whether it will load.

    `name` is the soname or install name; `minimum` the oldest macOS, or the Windows subsystem
    version; `rpath_is_inherited` says that the search folders also serve the libraries it loads
    (DT_RPATH and Mach-O, not DT_RUNPATH); `toolset` is the linker's version in PE,
    `version` the file's own, where its resources tell one.
    Architectures are spelled as targets spell them.
    """

    format: Format
    kind: Kind
    architectures: tuple[str, ...]
    imports: tuple[Import, ...] = ()
    name: str = ""
    rpaths: tuple[str, ...] = ()
    rpath_is_inherited: bool = False
    minimum: str = ""
    toolset: str = ""
    version: str = ""
    has_executable_stack: bool = False
    has_text_relocations: bool = False
    is_signed: bool = False


def read(path: Path, *, architecture: str = "") -> Binary | None:
    """Return what the file at `path` says of itself, or None if it is no ELF, Mach-O or PE file.

    Of a Mach-O file with several architectures the slice for `architecture` is read, else the
    first. Raises VerificationError for a file that begins as a binary and cannot be read as one.
    """
    form = _format(path)
    if form is None:
        return None
    # Its parsers write to stderr by themselves; what is wrong becomes our error instead.
    lief.logging.disable()
    if form == "elf":
        found = _elf(path)
    else:
        found = _pe(path) if form == "pe" else _macho(path, architecture)
    if found is None:
        raise VerificationError(
            f"{path.name} begins as a {form} file and cannot be read as one",
            why="it is cut off or damaged",
            next_step="fetch it again; if the locked file is damaged, drop it with a diet rule",
        )
    return found


def _format(path: Path) -> Format | None:
    """Return the format that the first bytes of the file announce."""
    with path.open("rb", buffering=0) as stream:
        head = stream.read(HEAD_BYTES)
        if head.startswith(b"\x7fELF"):
            return "elf"
        if head[:4] in _THIN_MACHO:
            return "macho"
        if head[:4] in _FAT_MACHO:
            return "macho" if 0 < int.from_bytes(head[4:], "big") <= _MOST_SLICES else None
        if head.startswith(b"MZ"):
            stream.seek(_PE_POINTER)
            stream.seek(int.from_bytes(stream.read(4), "little"))
            return "pe" if stream.read(4) == b"PE\0\0" else None
    return None


def _holds(path: Path, ends: list[int]) -> bool:
    """Return whether the file is as long as its own tables say."""
    return max(ends, default=0) <= path.stat().st_size


def _architecture(constant: object) -> str:
    """Return our spelling of one of lief's machine constants."""
    name = str(constant).rpartition(".")[2]
    return _ARCHITECTURES.get(name, name.lower())


def _elf(path: Path) -> Binary | None:
    """Read an ELF file; symbols and relocations are left alone, which keeps torch's at seconds."""
    config = lief.ELF.ParserConfig()
    config.parse_dyn_symbols = False
    config.parse_symtab_symbols = False
    config.parse_relocations = False
    config.parse_overlay = False
    elf = lief.ELF.parse(str(path), config)
    if elf is None or not _is_whole_elf(path, elf):
        return None
    wanted: dict[str, list[str]] = {}
    for requirement in elf.symbols_version_requirement:
        versions = [str(one.name) for one in requirement.get_auxiliary_symbols()]
        wanted.setdefault(str(requirement.name), []).extend(versions)
    name, rpaths, runpaths, has_text_relocations = "", [], [], False
    for entry in elf.dynamic_entries:
        match entry:
            case lief.ELF.DynamicSharedObject():
                name = str(entry.name)
            case lief.ELF.DynamicEntryRpath():
                rpaths = _folders(str(entry.rpath))
            case lief.ELF.DynamicEntryRunPath():
                runpaths = _folders(str(entry.runpath))
            case lief.ELF.DynamicEntryFlags():
                flags = lief.ELF.DynamicEntryFlags.FLAG.TEXTREL
                is_plain = entry.tag == lief.ELF.DynamicEntry.TAG.FLAGS
                has_text_relocations |= is_plain and entry.has(flags)
            case _:
                has_text_relocations |= entry.tag == lief.ELF.DynamicEntry.TAG.TEXTREL
    kind = _elf_kind(elf)
    return Binary(
        format="elf",
        kind=kind,
        architectures=(_architecture(elf.header.machine_type),),
        imports=tuple(
            Import(name=str(library), versions=tuple(sorted(set(wanted.get(str(library), ())))))
            for library in elf.libraries
        ),
        name=name,
        rpaths=tuple(runpaths or rpaths),
        rpath_is_inherited=bool(rpaths) and not runpaths,
        has_executable_stack=kind != "object" and _has_executable_stack(elf),
        has_text_relocations=has_text_relocations,
    )


def _is_whole_elf(path: Path, elf: lief.ELF.Binary) -> bool:
    """Return whether nothing is cut off; the parser passes over what is, and finds no imports."""
    ends = [segment.file_offset + segment.physical_size for segment in elf.segments]
    is_object = elf.header.file_type == lief.ELF.Header.FILE_TYPE.REL
    is_complete = len(ends) == elf.header.numberof_segments and (is_object or bool(ends))
    return is_complete and _holds(path, ends)


def _folders(text: str) -> list[str]:
    """Return the folders of a colon-separated search path; wheel tools pad with spaces."""
    return [folder.strip() for folder in text.split(":") if folder.strip()]


def _elf_kind(elf: lief.ELF.Binary) -> Kind:
    """Return what an ELF file is for."""
    if elf.header.file_type == lief.ELF.Header.FILE_TYPE.REL:
        return "object"
    is_program = elf.has_interpreter or elf.header.file_type == lief.ELF.Header.FILE_TYPE.EXEC
    return "program" if is_program else "library"


def _has_executable_stack(elf: lief.ELF.Binary) -> bool:
    """Return whether loading it makes stacks executable; without PT_GNU_STACK glibc does."""
    flags = [s.flags for s in elf.segments if s.type == lief.ELF.Segment.TYPE.GNU_STACK]
    return not flags or any(lief.ELF.Segment.FLAGS.X in flag for flag in flags)


def _macho(path: Path, architecture: str) -> Binary | None:
    """Read a Mach-O file, thin or fat."""
    fat = lief.MachO.parse(str(path), lief.MachO.ParserConfig.quick)
    if fat is None or not fat.size:
        return None
    slices = [found for index in range(fat.size) if (found := fat.at(index)) is not None]
    names = [_architecture(one.header.cpu_type) for one in slices]
    macho = slices[names.index(architecture) if architecture in names else 0]
    ends = [macho.fat_offset + one.file_offset + one.file_size for one in macho.segments]
    count = len(macho.commands)
    if not count or count != macho.header.nb_cmds or not _holds(path, ends):
        return None
    identity = lief.MachO.LoadCommand.TYPE.ID_DYLIB
    weak = lief.MachO.LoadCommand.TYPE.LOAD_WEAK_DYLIB
    minimum = macho.version_min.version if macho.version_min is not None else []
    if macho.build_version is not None:
        minimum = macho.build_version.minos
    kinds: dict[object, Kind] = {
        lief.MachO.Header.FILE_TYPE.EXECUTE: "program",
        lief.MachO.Header.FILE_TYPE.OBJECT: "object",
    }
    return Binary(
        format="macho",
        kind=kinds.get(macho.header.file_type, "library"),
        architectures=tuple(names),
        imports=tuple(
            Import(name=str(one.name), optional=one.command == weak)
            for one in macho.libraries
            if one.command != identity
        ),
        name=next((str(one.name) for one in macho.libraries if one.command == identity), ""),
        rpaths=tuple(str(rpath.path) for rpath in macho.rpaths),
        rpath_is_inherited=True,
        minimum=_dotted(minimum),
        is_signed=macho.has_code_signature,
    )


def _dotted(numbers: list[int]) -> str:
    """Return a version without the zeros that say nothing: [14, 0, 0] is 14.0."""
    kept = list(numbers)
    while len(kept) > 2 and not kept[-1]:  # noqa: PLR2004
        kept.pop()
    return ".".join(map(str, kept))


def _pe(path: Path) -> Binary | None:
    """Read a PE file."""
    config = lief.PE.ParserConfig()
    config.parse_exceptions = False
    config.parse_exports = False
    config.parse_reloc = False
    config.parse_signature = False
    pe = lief.PE.parse(str(path), config)
    ends = [one.pointerto_raw_data + one.sizeof_raw_data for one in pe.sections] if pe else []
    if pe is None or len(ends) != pe.header.numberof_sections or not _holds(path, ends):
        return None
    header = pe.optional_header
    is_library = lief.PE.Header.CHARACTERISTICS.DLL in pe.header.characteristics_list
    table = pe.data_directory(lief.PE.DataDirectory.TYPES.CERTIFICATE_TABLE)
    return Binary(
        format="pe",
        kind="library" if is_library else "program",
        architectures=(_architecture(pe.header.machine),),
        imports=(
            *(Import(name=str(one.name)) for one in pe.imports),
            *(Import(name=str(one.name), optional=True) for one in pe.delay_imports),
        ),
        minimum=_dotted([header.major_subsystem_version, header.minor_subsystem_version]),
        version=_pe_version(pe),
        toolset=f"{header.major_linker_version}.{header.minor_linker_version:02}",
        is_signed=table is not None and table.size > 0,
    )


def _pe_version(pe: lief.PE.Binary) -> str:
    """Return the first two numbers of a PE file's version, or nothing if it has none."""
    manager = pe.resources_manager
    if not isinstance(manager, lief.PE.ResourcesManager) or not manager.has_version:
        return ""
    number = next((one.file_info.file_version_ms for one in manager.version), 0)
    return f"{number >> 16}.{number & 0xFFFF:02}" if number else ""
