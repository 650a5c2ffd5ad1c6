"""What the processor offers that Numba compiles for, and whether the fused kernels suit it."""

import platform

import llvmlite.binding as llvm
from numba import config

BYTE_OPERANDS_SINCE = (22, 0, 0)  # LLVM: vpdpbusd takes bytes; before, the same bits as 32-bit words


def features() -> frozenset[str]:
    """Instruction sets as LLVM spells them, the host's or those that `NUMBA_CPU_FEATURES` names."""
    if config.CPU_FEATURES is not None:
        return frozenset(name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+"))
    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


def processor_name() -> str:
    """The processor as LLVM calls it (`znver5`), the host's or the one that `NUMBA_CPU_NAME` names."""
    return str(config.CPU_NAME or llvm.get_host_cpu_name())


def wide_registers() -> bool:
    """Whether there are 32 registers of 512 bits, which hold sixteen running sums of sixteen lanes."""
    return "avx512f" in features()


def byte_products() -> str:
    """What sums products of unsigned and signed bytes; whatever it is, the integers are the same."""
    offered = features()
    if llvm.llvm_version_info < BYTE_OPERANDS_SINCE:
        return "portable"
    if {"avx512vnni", "avx512f"} <= offered:
        return "vpdpbusd-512"
    if "avxvnni" in offered or {"avx512vnni", "avx512vl"} <= offered:
        return "vpdpbusd-256"
    return "portable"


def unsupported_reason() -> str:
    """Why the fused kernels would not run well here; empty where they do."""
    machine = platform.machine().lower()
    if machine in {"aarch64", "arm64"}:
        return ""
    if machine not in {"x86_64", "amd64"}:
        return f"processor: {machine} came; x86-64 with AVX2 and FMA, or 64-bit ARM, is allowed"
    missing = {"avx2", "fma"} - features()
    if missing:
        lacks = ", ".join(sorted(missing))
        return f"processor: {processor_name()} without {lacks} came; AVX2 and FMA are needed"
    return ""
