from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.process import cpu_features
from sidecar.process.cpu_features import CpuFeatures, arm, detect, x86

if TYPE_CHECKING:
    from collections.abc import Iterator

EAX, EBX, ECX, EDX = range(4)
EXTENDED = 0x80000001
# Where CPUID lists a feature: leaf, subleaf, register, bit (Intel SDM 2A, table 3-8; AMD APM 3).
BITS = {
    "sse3": (1, 0, ECX, 0),
    "ssse3": (1, 0, ECX, 9),
    "fma": (1, 0, ECX, 12),
    "cmpxchg16b": (1, 0, ECX, 13),
    "sse4.1": (1, 0, ECX, 19),
    "sse4.2": (1, 0, ECX, 20),
    "movbe": (1, 0, ECX, 22),
    "popcnt": (1, 0, ECX, 23),
    "osxsave": (1, 0, ECX, 27),
    "avx": (1, 0, ECX, 28),
    "f16c": (1, 0, ECX, 29),
    "bmi1": (7, 0, EBX, 3),
    "avx2": (7, 0, EBX, 5),
    "bmi2": (7, 0, EBX, 8),
    "avx512f": (7, 0, EBX, 16),
    "avx512dq": (7, 0, EBX, 17),
    "avx512cd": (7, 0, EBX, 28),
    "avx512bw": (7, 0, EBX, 30),
    "avx512vl": (7, 0, EBX, 31),
    "avx512_vnni": (7, 0, ECX, 11),
    "avx_vnni": (7, 1, EAX, 4),
    "lahf": (EXTENDED, 0, ECX, 0),
    "lzcnt": (EXTENDED, 0, ECX, 5),
}
V2 = {"sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cmpxchg16b", "lahf"}
V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "osxsave"}
V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
ALL_STATES = 0xE7


class Processor:
    """One that answers CPUID with the features it was given."""

    def __init__(self, features: set[str], *, last: int = 7, xcr0: int = ALL_STATES) -> None:
        self.features, self.last, self.state = features, last, xcr0

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        if leaf == 0:
            return self.last, 0, 0, 0
        if leaf == 0x80000000:
            return EXTENDED, 0, 0, 0
        if leaf < 0x80000000 and leaf > self.last:
            return (0xFFFFFFFF,) * 4  # whatever another leaf would say
        found = [0, 0, 0, 0]
        if (leaf, subleaf) == (7, 0):
            found[EAX] = 1  # there is a subleaf 1
        for name in self.features:
            at, below, register, bit = BITS[name]
            if (at, below) == (leaf, subleaf):
                found[register] |= 1 << bit
        return found[0], found[1], found[2], found[3]

    def xcr0(self) -> int:
        assert "osxsave" in self.features, "the instruction does not exist here"
        return self.state


def of(features: set[str], *, last: int = 7, xcr0: int = ALL_STATES) -> tuple[int | None, Any]:
    processor = Processor(features, last=last, xcr0=xcr0)
    found = x86(processor.cpuid, processor.xcr0)
    return found.level, found.has_byte_products


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        pytest.param({"sse3", "ssse3", "cmpxchg16b", "lahf"}, (1, False), id="Core 2"),
        pytest.param(V2, (2, False), id="Nehalem"),
        pytest.param(V2 | V3, (3, False), id="Haswell"),
        pytest.param(V2 | V3 | V4, (4, False), id="Skylake-X"),
        pytest.param(V2 | V3 | V4 | {"avx512_vnni"}, (4, True), id="Ice Lake"),
        pytest.param(V2 | V3 | {"avx_vnni"}, (3, True), id="Alder Lake"),
        pytest.param(V2 | V3 | V4 | {"avx512_vnni", "avx_vnni"}, (4, True), id="Zen 5"),
    ],
)
def test_processors_are_told_apart_by_cpuid(features: set[str], expected: tuple[int, bool]) -> None:
    assert of(features) == expected


@pytest.mark.parametrize("missing", sorted(V2 | V3 | V4))
def test_a_level_takes_every_feature_of_it(missing: str) -> None:
    level = 1 if missing in V2 else 2 if missing in V3 else 3
    assert of((V2 | V3 | V4) - {missing}) == (level, False)


@pytest.mark.parametrize(("xcr0", "expected"), [(0x7, (3, True)), (0x3, (2, False))])
def test_registers_that_the_system_does_not_save_do_not_count(
    xcr0: int, expected: tuple[int, bool]
) -> None:
    assert of(V2 | V3 | V4 | {"avx512_vnni", "avx_vnni"}, xcr0=xcr0) == expected
    assert of(V2 | V3 | V4 | {"avx512_vnni"}, xcr0=xcr0) == (expected[0], False)


def test_leaves_beyond_the_last_are_not_believed() -> None:
    assert of(V2 | V3 | V4, last=6) == (2, False)


@pytest.mark.parametrize(("hwcap", "expected"), [(1 << 20, True), (0xFFFFF, False), (None, None)])
def test_linux_on_arm_lists_the_dot_product(hwcap: int | None, *, expected: bool | None) -> None:
    assert arm(hwcap) == CpuFeatures(level=None, has_byte_products=expected)


@pytest.mark.parametrize(
    ("given", "lacks", "expected"),
    [
        ((4, True), "", (4, True)),
        ((4, True), "byte-products", (4, False)),
        ((4, True), " x86-64-v4 , byte-products,", (3, False)),
        ((4, True), "x86-64-v2", (1, True)),
        ((2, False), "x86-64-v3", (2, False)),
        ((1, False), "x86-64-v4", (1, False)),
        ((None, None), "byte-products,x86-64-v2", (1, False)),
    ],
)
def test_features_can_be_taken_away_and_never_added(
    given: tuple[int | None, bool | None], lacks: str, expected: tuple[int, bool]
) -> None:
    left = CpuFeatures(level=given[0], has_byte_products=given[1]).without(lacks)
    assert (left.level, left.has_byte_products) == expected


def test_a_feature_that_is_unknown_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'avx9' is no feature.*x86-64-v2"):
        detect(lacks="avx9")


def test_this_processor_says_the_same_each_time_and_lacks_what_is_taken() -> None:
    found = detect()
    assert found == detect()
    assert found.level in (None, 1, 2, 3, 4)
    assert detect(lacks="byte-products").has_byte_products is False


@pytest.mark.skipif(
    (sys.platform, os.uname().machine) != ("linux", "x86_64"), reason="reads the map of memory"
)
def test_machine_code_gives_the_registers_and_is_never_writable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    real = cpu_features._posix_code

    @contextlib.contextmanager
    def watched(code: bytes) -> Iterator[int]:
        with real(code) as address:
            for line in Path("/proc/self/maps").read_text(encoding="ascii").splitlines():
                first, last = (int(part, 16) for part in line.split()[0].split("-"))
                if first <= address < last:
                    asked.append(line.split()[1])
            yield address

    monkeypatch.setattr(cpu_features, "_posix_code", watched)
    with cpu_features._machine_code(cpu_features._CPUID) as cpuid:
        registers = cpuid(0, 0)
        maker = b"".join(registers[i].to_bytes(4, "little") for i in (EBX, EDX, ECX))
        assert maker.isascii()
        assert maker.decode().isprintable()
    assert asked == ["r-xp"]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="asks an x86-64 processor")
def test_where_new_code_is_refused_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "PROT_EXEC", 1 << 30)
    assert detect() == CpuFeatures()


class Kernel:
    """Windows' functions for memory, on this system's; `refuses` names one that gives nothing."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.calls = refuses, []  # type: tuple[str, list[Any]]
        self.page: Any = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        self.VirtualAlloc = Allocation(self)

    def _run(self, protection: int) -> int:
        protect = ctypes.CDLL(None).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        return int(protect(self.start, mmap.PAGESIZE, protection))

    def VirtualProtect(self, place: Any, size: Any, protection: int, before: Any) -> int:  # noqa: N802
        assert (place.value, size.value > 0, before is not None) == (self.start, True, True)
        self.calls.append(("protect", protection))
        if self.refuses == "VirtualProtect":
            return 0
        return int(self._run(mmap.PROT_READ | mmap.PROT_EXEC) == 0)

    def VirtualFree(self, place: Any, size: Any, kind: int) -> int:  # noqa: N802
        assert (place.value, size.value) == (self.start, 0)
        self.calls.append(("free", kind))
        return 1


class Allocation:
    """VirtualAlloc, which is told what it returns."""

    restype: Any = ctypes.c_int

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __call__(self, place: None, size: Any, kind: int, protection: int) -> int | None:
        assert place is None
        assert size.value > 0
        assert self.restype is ctypes.c_void_p
        self._kernel.calls.append(("allocate", kind, protection))
        return None if self._kernel.refuses == "VirtualAlloc" else self._kernel.start


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="runs machine code of x86-64")
def test_windows_code_is_written_then_run_then_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    monkeypatch.setattr(ctypes, "WinDLL", lambda name: {"kernel32": kernel}[name], raising=False)
    # Its own words for arguments come first here, so that the code of Windows runs on this system.
    code = cpu_features._FROM_SYSTEM_V + cpu_features._CPUID
    kind = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)
    found = (ctypes.c_uint32 * 4)()
    with cpu_features._windows_code(code) as address:
        kind(address)(0, 0, ctypes.addressof(found))
    with cpu_features._machine_code(cpu_features._CPUID) as cpuid:
        assert tuple(found) == cpuid(0, 0)
    # winnt.h: MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE; PAGE_EXECUTE_READ; MEM_RELEASE
    assert kernel.calls == [("allocate", 0x3000, 0x04), ("protect", 0x20), ("free", 0x8000)]


@pytest.mark.parametrize("refuses", ["VirtualAlloc", "VirtualProtect"])
def test_windows_that_refuses_new_code_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    kernel = Kernel(refuses)
    monkeypatch.setattr(ctypes, "WinDLL", lambda _: kernel, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "version", "3.11.9 (main) [MSC v.1938 64 bit (AMD64)]")
    assert detect() == CpuFeatures()
    assert len(kernel.calls) == {"VirtualAlloc": 1, "VirtualProtect": 3}[refuses]


def test_windows_on_arm_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "version", "3.11.9 (main) [MSC v.1938 64 bit (ARM64)]")
    assert detect() == CpuFeatures()


@pytest.mark.parametrize(("told", "expected"), [(1, True), (0, False)])
def test_a_mac_is_asked_by_name(
    monkeypatch: pytest.MonkeyPatch, told: int, *, expected: bool
) -> None:
    known = {"hw.optional.arm.FEAT_DotProd": told}
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Darwin", "", "", "", "arm64")))
    monkeypatch.setattr("sidecar.process.cores.sysctl", known.__getitem__)
    assert detect() == CpuFeatures(has_byte_products=expected)


def test_linux_on_arm_asks_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "aarch64")))
    monkeypatch.setattr(cpu_features, "_hwcap", lambda: 1 << 20)
    assert detect() == CpuFeatures(has_byte_products=True)


def test_another_architecture_has_no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "riscv64")))
    assert detect() == CpuFeatures()


def test_asking_imports_nothing_native_of_others() -> None:
    service = Path(cpu_features.__file__).parents[2]
    program = (
        f"import sys; sys.path.insert(0, {str(service)!r})\n"
        "from sidecar.process import cpu_features; cpu_features.detect()\n"
        "files = [getattr(m, '__file__', None) or '' for m in sys.modules.values()]\n"
        "print([f for f in files if 'site-packages' in f and not f.endswith('.py')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
