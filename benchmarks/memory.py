"""The peak memory of a call as Linux counts it, for contenders of any library.

tracemalloc counts what NumPy allocates, and nothing that PyTorch or XLA allocates. Here a process of its own makes
the call, and its peak is the highest resident size during the call, less the size before it:

- Linux keeps the highest resident size (`VmHWM` in /proc/self/status). A 5 in /proc/self/clear_refs resets it: proc(5).
- glibc keeps freed memory for the next call, which would then seem to need none. Variables of the environment make
  it take every block of 64 KiB or more from the system, and return it when it is freed: mallopt(3).
- The call has run before, so compilers are done. Buffers that a library keeps from call to call are not counted.

Times of that process would be wrong, because each array is new memory. It times nothing.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_PROCESS = Path("/proc/self")
_RETURNS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
# What OpenBLAS, PyTorch and XLA read their number of threads from.
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")


class Gauge:
    """A process that measures the peak memory of contenders. It starts with the first question."""

    def __init__(self, threads: int) -> None:
        self._environment = {**os.environ, **_RETURNS_MEMORY, **dict.fromkeys(_THREADS, str(threads))}
        self._process: subprocess.Popen[str] | None = None

    def peak(self, **case: Any) -> int | None:
        """Return the peak in bytes of a forward and backward, with its results. None if the system does not count it.

        The case is given by `layer`, `zoo`, `case`, `images`, `dtype` and `version`.
        """
        if not (_PROCESS / "clear_refs").exists():
            return None
        if self._process is None:
            command = [sys.executable, "-m", "benchmarks.memory"]
            root = Path(__file__).parents[1]
            self._process = subprocess.Popen(
                command, env=self._environment, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(case), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            ended = self._process
            self.close()
            raise RuntimeError(f"the process that measures memory ended with {ended.returncode} at {case}")
        measured: int | None = json.loads(answer)
        return measured

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def peak(call: Callable[[], object]) -> int | None:
    """Return by how many bytes this process grows at most during the call, or None if that cannot be read."""
    call()
    gc.collect()
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return None
    before = _resident("VmRSS")
    kept = call()
    highest = _resident("VmHWM")
    del kept
    return max(0, highest - before)


def _resident(what: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(f"{what}:"))
    return int(kibibytes) << 10


def _answer(asked: Mapping[str, Any]) -> int | None:
    import numpy as np

    from benchmarks.contenders import contender, drawn
    from verify.layers import LAYERS

    layer = LAYERS[asked["layer"]]
    (case,) = (each for each in layer.bench if (each.zoo, each.name) == (asked["zoo"], asked["case"]))
    arrays, _, _, dy = drawn(layer, case, np.dtype(asked["dtype"]), asked["images"])
    made = contender(asked["version"], layer, case, arrays, dy)
    return None if made is None else peak(made.calls["both"])


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)
