"""What this machine and installation offer to the serving path, and each problem with what to do about it."""

import os
import platform
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime as ort
from numba.core import codegen, config

from inference.artifact import Artifact, verify_artifact
from inference.compilation import compile_kernels, loaded_kernels
from inference.engines.selection import choose_engine, fused_refusal, offered_precisions
from inference.fused.processor import byte_products, unsupported_reason, wide_registers
from inference.registry import known_models, load_model, model_folders
from lob.errors import MambalobError

PACKAGES = ("mambalob", "numpy", "numba", "llvmlite", "onnxruntime", "msgspec", "zstandard")
SERVING_PACKAGES = (
    "fastapi",
    "uvicorn",
    *(() if sys.platform == "win32" else ("uvloop",)),
    "h11",
    "websockets",
    "prometheus-client",
    "rich",
    "click",
)
TRAINING_PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "safetensors", "scikit-learn", "matplotlib")
CPU_FEATURES = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vnni",
    "avx512bf16",
    "avxvnni",
    "amx-int8",
    "amx-bf16",
    "neon",
    "dotprod",
    "i8mm",
    "bf16",
)
"""What decides how fast a model runs: vectors, integer dot products, short floats (LLVM's names)."""

COARSEST_CLOCK_NS = 1_000
CLOCK_READINGS = 10_000


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. `problem` is empty where all is well; `hint` says what to do about it."""

    name: str
    facts: dict[str, Any]
    problem: str = ""
    hint: str = ""


def examine(
    models_dir: Path | None = None, *, compiling: bool = False, precision: str = "float32"
) -> list[Check]:
    """All checks, in the order a person would read them.

    `compiling`: run every kernel and model. `precision` is the number format to serve in.
    """
    checks = [_packages(), _processor(), _clock(), _onnxruntime(), _kernel_cache()]
    artifacts, models = _models(models_dir, precision)
    checks += models
    if compiling:
        checks.append(_compilation(artifacts, precision))
    return checks


def _packages() -> Check:
    """Versions of what serving needs, and of the training extra where it is there."""
    found = {name: _version(name) for name in (*PACKAGES, *SERVING_PACKAGES, *TRAINING_PACKAGES)}
    missing = [name for name in (*PACKAGES, *SERVING_PACKAGES) if found[name] is None]
    extra = [name for name in TRAINING_PACKAGES if found[name] is not None]
    return Check(
        name="packages",
        facts={
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "training_extra": "installed" if len(extra) == len(TRAINING_PACKAGES) else "not installed",
            **{name: number for name, number in found.items() if number is not None},
        },
        problem=f"not installed: {', '.join(missing)}" if missing else "",
        hint="pip install mambalob" if missing else "",
    )


def _processor() -> Check:
    """The processor, the cores this process may use, and the vector instructions Numba compiles for."""
    enabled = {
        feature[1:] for feature in codegen.get_host_cpu_features().split(",") if feature.startswith("+")
    }
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check(
        name="processor",
        facts={
            "model": _processor_model(Path("/proc/cpuinfo")) or platform.processor() or platform.machine(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "cores_allowed": allowed,
            "features": [feature for feature in CPU_FEATURES if feature in enabled],
            "fused_engine": unsupported_reason()
            or f"{512 if wide_registers() else 256} bits, bytes {byte_products()}",
        },
    )


def _clock() -> Check:
    """Latencies are differences of `perf_counter_ns`: its smallest step here, and what a reading costs."""
    readings = [time.perf_counter_ns() for _ in range(CLOCK_READINGS)]
    steps = [after - before for before, after in pairwise(readings) if after > before]
    smallest_ns = min(steps)
    coarse = smallest_ns > COARSEST_CLOCK_NS
    return Check(
        name="clock",
        facts={
            "implementation": time.get_clock_info("perf_counter").implementation,
            "smallest_step_ns": smallest_ns,
            "reading_ns": round((readings[-1] - readings[0]) / (CLOCK_READINGS - 1)),
        },
        problem=f"the clock's smallest step is {smallest_ns} ns, {COARSEST_CLOCK_NS} at most is useful"
        if coarse
        else "",
        hint="on Linux see /sys/devices/system/clocksource/clocksource0/current_clocksource: tsc is fine"
        if coarse
        else "",
    )


def _onnxruntime() -> Check:
    """The providers built into onnxruntime; the engines run on the CPU's."""
    providers = ort.get_available_providers()
    missing = "CPUExecutionProvider" not in providers
    return Check(
        name="onnxruntime",
        facts={"version": ort.__version__, "providers": providers},
        problem=f"no CPUExecutionProvider among {providers}" if missing else "",
        hint="pip install --force-reinstall onnxruntime" if missing else "",
    )


def _kernel_cache() -> Check:
    """Where compiled kernels are kept, and whether new ones can be."""
    if config.DISABLE_JIT:
        return Check(
            name="kernel_cache",
            facts={},
            problem="NUMBA_DISABLE_JIT is set: every kernel runs as plain Python, a thousand times slower",
            hint="unset NUMBA_DISABLE_JIT",
        )
    kernels = list(loaded_kernels())
    folders = sorted({str(kernel.stats.cache_path) for kernel in kernels if kernel.stats.cache_path})
    closed = [folder for folder in folders if not _writable(Path(folder))]
    uncached = sum(not kernel.stats.cache_path for kernel in kernels)
    problem = ""
    if closed:
        problem = f"kernels cannot be kept in {', '.join(closed)}: every start compiles them anew"
    elif uncached:
        problem = f"{uncached} kernels have no folder to be kept in: every start compiles them anew"
    return Check(
        name="kernel_cache",
        facts={"folders": folders, "set_by": "NUMBA_CACHE_DIR" if config.CACHE_DIR else "default"},
        problem=problem,
        hint="set NUMBA_CACHE_DIR to a folder this user can write to" if problem else "",
    )


def _models(models_dir: Path | None, precision: str) -> tuple[dict[str, Artifact], list[Check]]:
    """Every model by its name, verified, with the engine `auto` chooses for it in `precision`."""
    try:
        known = known_models(models_dir)
    except MambalobError as error:
        return {}, [Check(name="models", facts={}, problem=str(error), hint="name a directory that exists")]
    if not known:
        folders = [str(folder) for folder in model_folders(models_dir)]
        hint = "train and export one, or give --models-dir or MAMBALOB_MODELS"
        return {}, [Check(name="models", facts={"folders": folders}, problem="no model found", hint=hint)]
    artifacts: dict[str, Artifact] = {}
    checks = []
    for name, directory in known.items():
        try:
            artifact = load_model(name, models_dir)
            opened = verify_artifact(artifact)
        except MambalobError as error:
            hint = "export it again, or remove its directory"
            broken = {"directory": str(directory)}
            checks.append(Check(name=f"model {name}", facts=broken, problem=str(error), hint=hint))
            continue
        facts: dict[str, Any] = {
            "version": artifact.manifest.version,
            "context": artifact.manifest.context,
        }
        held = {
            "nodes": {
                kind if form == "float32" else f"{kind} {form}": nodes
                for (kind, form), nodes in opened.items()
            },
            "precisions": offered_precisions(artifact),
        }
        try:
            facts |= {"engine": choose_engine("auto", artifact, precision), "precision": precision, **held}
        except MambalobError as error:
            hint = "ask for a number format that the model has"
            checks.append(Check(name=f"model {name}", facts=facts | held, problem=str(error), hint=hint))
            continue
        artifacts[name] = artifact
        if facts["engine"] == "ort-step":
            facts["fused_refused"] = fused_refusal(artifact)
        checks.append(Check(name=f"model {name}", facts=facts))
    return artifacts, checks


def _compilation(artifacts: dict[str, Artifact], precision: str) -> Check:
    """Run everything once on the simulated market."""
    try:
        compiled = compile_kernels(artifacts, precision)
    except MambalobError as error:
        return Check(name="compilation", facts={}, problem=str(error), hint="see the models above")
    silent = [name for name, count in compiled.predictions.items() if count == 0]
    return Check(
        name="compilation",
        facts={
            "kernels": compiled.kernels,
            "compiled_now": compiled.compiled_now,
            "seconds": round(compiled.seconds, 2),
            "predictions": compiled.predictions,
        },
        problem=f"no prediction on the simulated market from: {', '.join(silent)}" if silent else "",
        hint="a model whose answers are not finite cannot be served; train it again" if silent else "",
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor_model(path: Path) -> str:
    """The processor's name as Linux tells it; empty where the file is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _writable(folder: Path) -> bool:
    """Whether a file can be made in `folder`, or in the first folder above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
