"""The benchmarks: ``pytest bench/`` holds the gradient's cost to O(N), and programs compare.

    python -m bench.peers           training steps, products and fits, library by library
    python -m bench.single          one sample: latencies from Python and from @njit code
    python -m bench.ensemble        steps of a thousand networks
    python -m bench.start           until the first results are there
    python -m bench.sklearn_scores  scores of estimators beside scikit-learn's
    python -m bench.report          pictures, and the tables, of what was measured last

Results go to `.benchmarks/`, which git ignores. ``make results`` runs all that texts cite, and
makes what they show. Run from the top of the repository. Libraries that are not installed are left
out, with a line saying so (``make bench-peers`` brings them all, but what is Debian's).
"""
