"""What this processor can do, asked of the processor itself.

On x86-64 that is the instruction CPUID (Intel SDM, volume 2A; AMD APM, volume 3). /proc/cpuinfo is
never read: under emulation it shows the host's processor, and Windows has none. On Arm the kernel
tells: Linux by getauxval(AT_HWCAP), macOS by sysctl.

Standard library only, and for any Python from 3.9: the builder asks before it has its own, and the
service before it loads anything native.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sidecar.process import cores

# For tests: features to treat as absent, by the names below, separated by commas. It can take
# features away and never add one, so it is always safe to set.
VARIABLE = "SIDECAR_CPU_LACKS"
BYTE_PRODUCTS = "byte-products"
LEVELS = {"x86-64-v2": 1, "x86-64-v3": 2, "x86-64-v4": 3}  # what is left without it

# The x86-64 level that native wheels are compiled for (numpy's and ONNX Runtime's use SSE4.2).
LEAST_LEVEL = 2
BYTE_PRODUCT_NAMES = "AVX512-VNNI, AVX-VNNI or Arm's dot product"

Registers = tuple[int, int, int, int]  # EAX, EBX, ECX, EDX
Ask = Callable[[int, int], Registers]  # by leaf and subleaf

# What each level adds (x86-64 psABI, "Micro-architecture levels"), as (leaf, register, bits).
_EBX, _ECX = 1, 2
_EXTENDED = 0x80000001
_V2 = (
    # SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF and SAHF
    (1, _ECX, 1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23),
    (_EXTENDED, _ECX, 1 << 0),
)
_V3 = (
    # FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
    (1, _ECX, 1 << 12 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29),
    (7, _EBX, 1 << 3 | 1 << 5 | 1 << 8),
    (_EXTENDED, _ECX, 1 << 5),
)
# AVX512 F, DQ, CD, BW, VL
_V4 = ((7, _EBX, 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31),)
_OSXSAVE = 1 << 27  # leaf 1, ECX: the system saves extended registers, and XGETBV says which
_AVX_STATE, _AVX512_STATE = 0x6, 0xE6  # XCR0: XMM and YMM; the masks and ZMM as well
_AVX512_VNNI = 1 << 11  # leaf 7, ECX
_AVX_VNNI = 1 << 4  # leaf 7, subleaf 1, EAX

_AT_HWCAP, _ASIMDDP = 16, 1 << 20  # Linux, asm/hwcap.h of arm64
_MAC_DOT_PRODUCT = "hw.optional.arm.FEAT_DotProd"

# Windows, winnt.h
_MEM_COMMIT, _MEM_RESERVE, _MEM_RELEASE = 0x1000, 0x2000, 0x8000
_PAGE_READWRITE, _PAGE_EXECUTE_READ = 0x04, 0x20


@dataclass(frozen=True)
class CpuFeatures:
    """What matters to us of a processor; None where it cannot be asked.

    `level` is the x86-64 micro-architecture level, 1 to 4, None on other architectures.
    `has_byte_products` says whether sums of products of bytes are one instruction, and exact:
    x86 processors without it clip them to sixteen bits.
    """

    level: int | None = None
    has_byte_products: bool | None = None

    def without(self, names: str) -> CpuFeatures:
        """Return these features less those in `names`, separated by commas. Raises ValueError."""
        left = self
        for name in filter(None, (part.strip() for part in names.split(","))):
            if name == BYTE_PRODUCTS:
                left = replace(left, has_byte_products=False)
            elif name in LEVELS:
                most = LEVELS[name]
                left = replace(left, level=most if left.level is None else min(left.level, most))
            else:
                known = ", ".join([BYTE_PRODUCTS, *LEVELS])
                raise ValueError(f"{name!r} is no feature; known are {known}")
        return left


def detect(*, lacks: str = "") -> CpuFeatures:
    """Return the features of this processor, less those that `lacks` names. Raises ValueError.

    `lacks` is the value of the environment's SIDECAR_CPU_LACKS.
    """
    return _detected().without(lacks)


def _detected() -> CpuFeatures:
    machine = _machine()
    if machine == "x86_64":
        try:
            with _machine_code(_CPUID) as cpuid, _machine_code(_XGETBV) as xgetbv:
                return x86(cpuid, lambda: xgetbv(0, 0)[0])
        except OSError:
            # Policies such as SELinux's execmem or Windows' code guard refuse new code.
            return CpuFeatures()
    if machine == "arm64" and sys.platform == "darwin":
        return CpuFeatures(has_byte_products=cores.sysctl(_MAC_DOT_PRODUCT) == 1)
    if machine == "arm64" and sys.platform == "linux":
        return arm(_hwcap())
    return CpuFeatures()


def _machine() -> str:
    """Return what this process is compiled for: x86_64, arm64, or another name."""
    if sys.platform == "win32":
        # The environment may be empty, and of an emulated process it names the host.
        return "x86_64" if "(AMD64)" in sys.version else "other"
    name = os.uname().machine
    if sys.maxsize <= 1 << 32:
        return "other"
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(name, name)


def x86(cpuid: Ask, xcr0: Callable[[], int]) -> CpuFeatures:
    """Return the features that CPUID lists and the system allows.

    `xcr0` returns the register of that name; it is asked only where the instruction for it exists.
    """
    last, last_extended = cpuid(0, 0)[0], cpuid(0x80000000, 0)[0]

    def leaf(number: int, subleaf: int = 0) -> Registers:
        # A leaf beyond the last repeats that of another.
        is_there = number <= (last_extended if number >= 0x80000000 else last)  # noqa: PLR2004
        return cpuid(number, subleaf) if is_there else (0, 0, 0, 0)

    def has(bits: tuple[tuple[int, int, int], ...]) -> bool:
        return all(leaf(number)[register] & mask == mask for number, register, mask in bits)

    state = xcr0() if leaf(1)[_ECX] & _OSXSAVE else 0
    has_avx, has_avx512 = (state & mask == mask for mask in (_AVX_STATE, _AVX512_STATE))
    level = 1
    for number, is_allowed, bits in ((2, True, _V2), (3, has_avx, _V3), (4, has_avx512, _V4)):
        if not (is_allowed and has(bits)):
            break
        level = number
    avx512_vnni = level >= 4 and leaf(7)[_ECX] & _AVX512_VNNI  # noqa: PLR2004
    avx_vnni = level >= 3 and leaf(7)[0] >= 1 and leaf(7, 1)[0] & _AVX_VNNI  # noqa: PLR2004
    return CpuFeatures(level=level, has_byte_products=bool(avx512_vnni or avx_vnni))


def arm(hwcap: int | None) -> CpuFeatures:
    """Return the features in Linux's AT_HWCAP of a 64-bit Arm processor."""
    return CpuFeatures(has_byte_products=None if hwcap is None else bool(hwcap & _ASIMDDP))


def _hwcap() -> int | None:
    try:
        ask = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError):
        return None
    ask.restype, ask.argtypes = ctypes.c_ulong, (ctypes.c_ulong,)
    return int(ask(_AT_HWCAP))


# Functions of (leaf, subleaf, where to), as Windows passes arguments: ECX, EDX, R8.
_CPUID = bytes.fromhex(
    "53"  # push rbx, which the caller expects back
    "89c8"  # mov eax, ecx
    "89d1"  # mov ecx, edx
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8 + 4], ebx
    "41894808"  # mov [r8 + 8], ecx
    "4189500c"  # mov [r8 + 12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
_XGETBV = bytes.fromhex(
    "31c9"  # xor ecx, ecx: XCR0
    "0f01d0"  # xgetbv
    "418900"  # mov [r8], eax
    "41895004"  # mov [r8 + 4], edx
    "c3"  # ret
)
# Elsewhere they are passed in EDI, ESI, RDX (System V ABI).
_FROM_SYSTEM_V = bytes.fromhex(
    "4989d0"  # mov r8, rdx
    "89f9"  # mov ecx, edi
    "89f2"  # mov edx, esi
)


@contextlib.contextmanager
def _machine_code(code: bytes) -> Iterator[Ask]:
    """Give a function of machine code that fills four registers. Raises OSError if refused."""
    place = _windows_code(code) if sys.platform == "win32" else _posix_code(_FROM_SYSTEM_V + code)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)
    with place as address:
        function = kind(address)

        def ask(leaf: int, subleaf: int) -> Registers:
            found = (ctypes.c_uint32 * 4)()
            function(leaf, subleaf, ctypes.addressof(found))
            return found[0], found[1], found[2], found[3]

        yield ask


@contextlib.contextmanager
def _posix_code(code: bytes) -> Iterator[int]:
    """Write `code` to a page of memory, then make it executable: it is never both."""
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, mmap.PAGESIZE, flags=flags) as page:
        page.write(code)
        start = ctypes.c_char.from_buffer(page)
        address = ctypes.addressof(start)
        try:
            if protect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            yield address
        finally:
            del start  # a page that is referred to cannot be closed


@contextlib.contextmanager
def _windows_code(code: bytes) -> Iterator[int]:
    """Do the same by VirtualAlloc and VirtualProtect. Not run on Windows yet."""
    kernel: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined, unused-ignore]
    kernel.VirtualAlloc.restype = ctypes.c_void_p
    size = ctypes.c_size_t(len(code))
    address = kernel.VirtualAlloc(None, size, _MEM_COMMIT | _MEM_RESERVE, _PAGE_READWRITE)
    if not address:
        raise OSError(0, "VirtualAlloc refused memory")
    place = ctypes.c_void_p(address)
    try:
        ctypes.memmove(address, code, len(code))
        before = ctypes.c_uint32()
        if not kernel.VirtualProtect(place, size, _PAGE_EXECUTE_READ, ctypes.byref(before)):
            raise OSError(0, "VirtualProtect refused to run it")
        yield address
    finally:
        kernel.VirtualFree(place, ctypes.c_size_t(0), _MEM_RELEASE)
