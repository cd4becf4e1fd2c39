import os

__version__ = "0.1.0"

# numpy's BLAS would spin on all cores for 0.1 s after each request's features, which take 0.01 s on one; it reads this
# when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
