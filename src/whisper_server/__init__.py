import os

__version__ = "0.1.0"

# Without this, numpy's BLAS would spin on all cores for 0.1 s after it has computed a request's features, which take
# 0.01 s on one core. BLAS reads the variable when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
