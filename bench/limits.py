"""Hold every library to the same cores. Call `hold` before anything that computes is imported."""

import os
import sys

ISA = "BENCH_ISA"  # which instruction sets the processes of `bench.worker` may use
AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2"
ISAS = {
    "native": {"gcc": ["-march=native", "-mprefer-vector-width=512"], "variables": {}},
    "avx2": {
        "gcc": ["-march=haswell"],
        "variables": {
            "NUMBA_CPU_NAME": "haswell",
            "NUMBA_CPU_FEATURES": AVX2,
            "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "DNNL_MAX_CPU_ISA": "AVX2",  # its old name
            "OPENBLAS_CORETYPE": "Haswell",
            "LIBXSMM_TARGET": "hsw",
            "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL "
            "AVX512_ICL AVX512_SPR X86_V4",  # as NumPy 2.0 to 2.5 call them
        },
    },
}
THREAD_COUNTS = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
THREAD_COUNTS += ["NPROC"]  # what XLA reads for the size of its pools, before it counts cores


def restrict(isa):
    """Let this process, and those that it starts, use no more than an instruction set of ISAS."""
    os.environ[ISA] = isa
    os.environ.update(ISAS[isa]["variables"])


def restriction():
    """Return the instruction set that everything is restricted to, such as ``AVX2``, or None."""
    isa = os.environ.get(ISA, "native")
    return None if isa == "native" else isa.upper()


def hold(threads):
    """Pin this process to the last `threads` cores that it may use, and hold libraries to them.

    Returns the cores, or None where the system can't pin. Pinning is what counts: XLA also has
    threads that no variable governs.
    """
    for name in THREAD_COUNTS:
        os.environ[name] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # no word on what instructions it might use
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


if __name__ == "__main__":  # for `env`, and make
    variables = ISAS[sys.argv[1]]["variables"]
    print(*(f"{name}='{value}'" for name, value in variables.items() if name.startswith("NUMBA")))
