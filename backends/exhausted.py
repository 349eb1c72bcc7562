"""What runtimes and their libraries say when memory runs out; few have an exception type of their own for it."""

from __future__ import annotations

import re

# In the words of: torch and the drivers of CUDA, HIP and Level Zero; cuBLAS, cuDNN, cuFFT, hipBLAS and OpenCL by their
# status; rocBLAS; ONNX Runtime's arena, twice; torch's allocator on a CPU, on Linux and on Windows, and Linux itself;
# C++; MIOpen; Metal; CUDA by the name of the error; TensorRT.
_RAN_OUT = re.compile(
    r"""out[ _]?of[ _]?(?:(?:device|host|gpu|video)[ _])?memory
    | alloc(?:ation)?[ _]?fail(?:ed|ure)
    | status_memory_error
    | is\ smaller\ than\ requested\ bytes\ of
    | (?:failed|unable)\ to\ allocate\b
    | can(?:'|no)t\ allocate\ memory (?!\ (?:in\ static\ TLS|on\ the\ \w+\ device\ using\ this\ package))
    | (?:not\ enough|insufficient)\ (?:\w+\ )?memory
    | bad[ _]alloc
    | memory\ not\ available\ to\ allocate
    | invalid\ buffer\ size:\ [\d.]+\ [KMGT]
    | cudaErrorMemoryAllocation
    | memory\b.{0,40}\bcould\ not\ be\ allocated""",
    re.IGNORECASE | re.VERBOSE,
)

# What is said then too, but not only then: cuDNN that found nothing to compute a convolution with, the errors of CUDA's
# and AMD's libraries that have no cause, Level Zero's and OpenCL's resources, oneDNN.
_MAY_HAVE = re.compile(
    r"""unable\ to\ find\ (?:an\ engine|a\ valid\ cudnn\ algorithm|a\ suitable\ algorithm)
    | no\ valid\ convolution\ algorithms
    | (?:cudnn|cublas|cufft|cusolver|cusparse|hipblas|hipfft|miopen|rocblas)\w*?
      (?:not_?initialized|execution_?failed|exec_?failed|internal_?error|not_?supported|insufficient_?resources)
    | out_of_resources
    | could\ not\ (?:create|execute)\ a\ (?:primitive|memory)""",
    re.IGNORECASE | re.VERBOSE,
)


def memory_ran_out(said: str) -> bool:
    """Return whether ``said``, the message of an exception or a process's last words, says that memory ran out."""
    return _RAN_OUT.search(said) is not None


def memory_may_have_run_out(said: str) -> bool:
    """Return whether ``said`` is a message that libraries give then, but for other causes too."""
    return _MAY_HAVE.search(said) is not None
