"""Hold every library to the same cores. Call `hold` before anything that computes is imported."""

import os

THREAD_COUNTS = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
THREAD_COUNTS += ["NPROC"]  # what XLA reads for the size of its pools, before it counts cores


def hold(threads):
    """Pin this process to the last `threads` cores that it may use, and hold libraries to them.

    Returns the cores, or None where the system can't pin. Pinning is what counts: XLA also has
    threads that no variable governs.
    """
    for name in THREAD_COUNTS:
        os.environ[name] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    if not hasattr(os, "sched_setaffinity"):
        print("this system can't pin a process to cores: ratios are less certain")
        return None
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise SystemExit(f"--threads is {threads}, but only {len(cores)} cores may be used")
    os.sched_setaffinity(0, cores[-threads:])
    return cores[-threads:]
